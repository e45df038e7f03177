"""One Markdown page of the tables of several benchmarks, from the files that they wrote with ``--output``.

::

    python benchmarks/summary.py benchmarks/results/*.json > benchmarks/results/results.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tse_refine.files.tables import Table


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="JSON files")
    print("\n".join(["# Benchmarks", *map(section, parser.parse_args().files)]))


def section(path: Path) -> str:
    """Return a file's heading, command and tables in Markdown."""
    content = json.loads(path.read_text(encoding="utf-8"))
    tables = "\n".join(Table(**table).markdown() for table in content["tables"])
    return f"\n## {path.stem}\n\n    {content['command']}\n\n{tables}"


if __name__ == "__main__":
    main()
