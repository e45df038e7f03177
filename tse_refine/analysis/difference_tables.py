"""Paired differences between methods and between conditions, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tse_refine.analysis.comparison_table import interval_text
from tse_refine.analysis.systems import SILENT_CONDITION, SNRI_CONDITIONS, System, methods
from tse_refine.evaluation.conditions import GATE, NONE, ORACLE, Condition, condition_name
from tse_refine.evaluation.statistics import Interval, pooled_mean
from tse_refine.files.tables import markdown

MATCHED: Condition = (1, 0)
DIFFERENCE_COLUMNS = ("first", "second", "condition", "measure", "difference", "low", "high")

Row = dict[str, Any]


def difference_rows(systems: Sequence[System], threshold: str | None) -> list[Row]:
    """Return what one method has more than another, in every condition of Table 1.

    Every system's raw query is compared with the first system's, every refinement with the raw query of its system, and
    the refinement at ``threshold`` with every other system. Values are of the same mixtures and queries on both sides.

    Args:
        systems: to compare.
        threshold: at which queries are refined; None where no system refines.

    Returns:
        Rows with ``first``, ``second`` and, by condition, an :class:`Interval` in dB or None where not measured.
    """
    pairs = [(system, NONE, systems[0], NONE) for system in systems[1:]]
    for system in (system for system in systems if system.has_classifier):
        pairs += [(system, refinement, system, NONE) for refinement in (*system.thresholds, ORACLE, GATE)]
        if threshold is not None:
            pairs += [(system, threshold, other, NONE) for other in systems if other is not system]
    rows = []
    for first, refinement, second, other in pairs:
        row: Row = {"first": _name(first, refinement), "second": _name(second, other)}
        for condition in (*SNRI_CONDITIONS, SILENT_CONDITION):
            known = first.measured(condition, refinement) and second.measured(condition, other)
            row[condition] = first.difference(second, condition, refinement, other) if known else None
        if any(row[condition] is not None for condition in (*SNRI_CONDITIONS, SILENT_CONDITION)):
            rows.append(row)
    return rows


def condition_rows(systems: Sequence[System], threshold: str | None) -> list[Row]:
    """Return what inactive classes in the query cost each method: SNRi at (1:i) less that at (1:0), mixture by mixture.

    Args:
        systems: to compare.
        threshold: at which queries are refined; None where no system refines.

    Returns:
        Rows with ``method`` and, by condition (1:i), an :class:`Interval` in dB.
    """
    rows = []
    for label, system, row in methods(systems, threshold):
        conditions = sorted(c for c in system.runs[0].grid.conditions if c[0] == 1 and c[1])
        if conditions and system.measured(MATCHED, row):
            matched = system.cell("snri_db", MATCHED, row)
            costs = {c: pooled_mean((system.cell("snri_db", c, row) - matched)[:, :, None]) for c in conditions}
            rows.append({"method": label, **costs})
    return rows


def markdown_differences(rows: Sequence[Row]) -> str:
    """Return differences between methods as a Markdown table."""
    conditions = (*SNRI_CONDITIONS, SILENT_CONDITION)
    head = ["method", "less", *(condition_name(c) + ("" if c[0] else ", att.") for c in conditions)]
    note = (
        "Paired differences in dB on the same mixtures and queries; brackets: bootstrap 95 % intervals over mixtures "
        "and seeds. An interval that holds 0 tells nothing apart."
    )
    return markdown(
        head, [[row["first"], row["second"], *(interval_text(row[c]) for c in conditions)] for row in rows], note
    )


def markdown_conditions(rows: Sequence[Row]) -> str:
    """Return what inactive classes cost as a Markdown table."""
    conditions = [key for key in rows[0] if key != "method"] if rows else []
    head = ["method", *(f"{condition_name(c)} − {condition_name(MATCHED)}" for c in conditions)]
    note = "Paired differences of SNRi in dB between conditions of the same mixtures; brackets as above."
    return markdown(head, [[row["method"], *(interval_text(row[c]) for c in conditions)] for row in rows], note, left=1)


def tidy_differences(differences: Sequence[Row], conditions: Sequence[Row]) -> list[Row]:
    """Return both tables as rows of :data:`DIFFERENCE_COLUMNS`, one difference a row."""
    rows = []
    for row in differences:
        for condition in (*SNRI_CONDITIONS, SILENT_CONDITION):
            if row[condition] is not None:
                rows.append(_tidy(row["first"], row["second"], condition_name(condition), row[condition], condition))
    for row in conditions:
        for condition in (key for key in row if key != "method"):
            between = f"{condition_name(condition)} − {condition_name(MATCHED)}"
            rows.append(_tidy(row["method"], row["method"], between, row[condition], condition))
    return rows


def _tidy(first: str, second: str, where: str, interval: Interval, condition: Condition) -> Row:
    measure = "snri_db" if condition[0] else "attenuation_db"
    values = (first, second, where, measure, *(float(part[0]) for part in interval))
    return dict(zip(DIFFERENCE_COLUMNS, values, strict=True))


def _name(system: System, threshold: str) -> str:
    if not system.has_classifier:
        return system.name
    words = {NONE: "raw query", ORACLE: "oracle", GATE: f"gate at {system.gate_threshold:g}"}
    return f"{system.name}, {words.get(threshold, f'δ = {threshold}')}"
