"""A summary as a table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tse_refine.grid import condition_name


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
    widths = [max(len(line[column]) for line in [head, *body, counts]) for column in range(len(head))]
    lines = [
        "  ".join(word.rjust(width) if column else word.ljust(width) for column, (word, width) in enumerate(zipped))
        for zipped in (list(zip(line, widths, strict=True)) for line in [head, *body, counts])
    ]
    rule = "-" * len(lines[0])
    title = "SNRi in dB by condition (active:inactive); att: attenuation in dB"
    return "\n".join([title, lines[0], rule, *lines[1:-1], rule, lines[-1]])
