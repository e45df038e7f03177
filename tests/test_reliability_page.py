"""``docs/reliability.md`` names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"


def test_every_test_that_the_page_names_exists():
    file, missing, number = None, [], 0
    for name in re.findall(r"`([\w/…]+(?:\.py)?(?:::\w+)?)`", PAGE.read_text(encoding="utf-8")):
        path, _, function = name.partition("::")
        if path.endswith(".py"):
            file = TESTS / path
        elif path != "…":
            continue
        number += 1
        if not file.exists() or (function and f"def {function}(" not in file.read_text(encoding="utf-8")):
            missing.append(f"{file.relative_to(TESTS)}::{function}")
    assert number > 80
    assert not missing
