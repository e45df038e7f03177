"""A summary as a table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tse_refine.evaluation.conditions import condition_name


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


def summary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out summary rows: thresholds down, conditions across.

    Args:
        rows: of ``summary.csv``, as numbers or as text.

    Returns:
        Several lines: SNRi in dB, attenuation in dB (marked ``att``) for conditions without an active class, and how
        many mixtures are behind each column.
    """
    conditions = list(dict.fromkeys((int(row["active"]), int(row["inactive"])) for row in rows))
    thresholds = list(dict.fromkeys(str(row["threshold"]) for row in rows))
    cell = {(int(row["active"]), int(row["inactive"]), str(row["threshold"])): row for row in rows}

    def text(condition: tuple[int, int], threshold: str) -> str:
        row = cell[(*condition, threshold)]
        value = row["snri_db" if condition[0] else "attenuation_db"]
        return "-" if value == "" or math.isnan(float(value)) else f"{float(value):.2f}"

    head = ["threshold", *(condition_name(c) + ("" if c[0] else " att") for c in conditions)]
    body = [[threshold, *(text(condition, threshold) for condition in conditions)] for threshold in thresholds]
    counts = ["mixtures", *(str(cell[(*condition, thresholds[0])]["n"]) for condition in conditions)]
    lines = aligned([head, *body, counts])
    rule = "-" * len(lines[0])
    title = "SNRi in dB by condition (active:inactive); att: attenuation in dB"
    return "\n".join([title, lines[0], rule, *lines[1:-1], rule, lines[-1]])
