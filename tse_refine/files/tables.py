"""Tables of text cells, laid out for people."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lay out rows of words in columns.

    Args:
        rows: as many words each.
        left: how many columns, from the first, are flush left; numbers are flush right.

    >>> aligned([("name", "n"), ("a", "10")])
    ['name   n', 'a     10']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            word.ljust(width) if column < left else word.rjust(width)
            for column, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], note: str, left: int = 2) -> str:
    """Return a Markdown table and, below it, a line that says what its numbers are.

    Args:
        head: names of the columns.
        rows: as many words each.
        note: the line.
        left: how many columns, from the first, are flush left; numbers are flush right.
    """
    escaped = [[word.replace("|", r"\|") for word in row] for row in (head, *rows)]
    lines = [escaped[0], ["---"] * left + ["---:"] * (len(head) - left), *escaped[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{note}\n"
