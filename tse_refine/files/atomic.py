"""Files that are written whole or not at all, and how their names are shown and made."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME = 60  # characters; file systems take 255 bytes


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which takes its place when the block ends without an error.

    The folder is made when missing. After an error the temporary file is removed and an older ``path`` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # short, so that a name can be as long as the file system allows; its process can be told from a dead one
    temporary = path.with_name(f".{path.name[: _LONGEST_NAME // 2]}.{secrets.token_hex(4)}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of :func:`replacing` whose process was killed before it could; not a live one's."""
    for path in Path(folder).glob(".*.part"):
        found = re.fullmatch(r"\..+\.(\d+)\.part", path.name)
        if found and not _is_alive(int(found[1])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no question but ends a process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no process number at all
        return True
    return True


def printable(path: str | Path) -> str:
    r"""Return a path as one line of text, whatever its name holds.

    >>> printable("two\nlines.wav"), printable("\udcff.wav")
    ('two\\nlines.wav', '\\udcff.wav')
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(path))


def file_names(names: Sequence[str]) -> list[str]:
    """Return a file name for each class: what a file system may refuse becomes ``_``, and none is like another.

    >>> file_names(["dog", "Car/truck", "car|truck", "../up"])
    ['dog', 'Car_truck', 'car_truck_', '___up']
    """
    safe: list[str] = []
    taken: set[str] = set()
    for name in names:
        name = re.sub(r"[^\w ,()&'+-]", "_", name)[:_LONGEST_NAME].strip()
        while not name or name.lower() in taken:  # some file systems do not tell cases apart
            name += "_"
        taken.add(name.lower())
        safe.append(name)
    return safe
