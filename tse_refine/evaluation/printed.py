"""The results of a validation or a test, as they are printed and as loggers show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tse_refine.evaluation.classification import label_counts
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import GridResults
from tse_refine.evaluation.results import Row, classification_rows, decisive, event_scores, label_rows
from tse_refine.files.tables import Table


def printed_results(results: GridResults, summary: Sequence[Mapping[str, Any]]) -> str:
    """Return what is printed after a validation or a test.

    Args:
        results: results of all mixtures.
        summary: their summary (:func:`tse_refine.evaluation.results.summary_rows`).

    Returns:
        The tables of extraction or, where nothing is extracted, of the classifier; below them the rates of false alarms
        and the scores of events, where there are any.
    """
    tables = printed_tables(summary, label_rows(results)) if results.grid.conditions else classification_table(results)
    return "\n".join(filter(None, (tables, false_alarm_text(results), event_text(results))))


def printed_tables(summary: Sequence[Mapping[str, Any]], labels: Sequence[Mapping[str, Any]]) -> str:
    """Return :func:`summary_table` and, where there are rows, :func:`label_table`."""
    return "\n\n".join([summary_table(summary), *([label_table(labels)] if labels else [])])


def summary_grid(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Lay out summary rows as they are printed: refinements down, conditions across.

    Args:
        rows: rows of ``summary.csv``, as numbers or as text.

    Returns:
        One row per refinement: ``threshold``, and by the name of each condition SNRi in dB, or for a condition without
        an active class, marked ``att``, attenuation in dB; NaN where nothing was measured.
    """
    conditions = list(dict.fromkeys(Condition(int(row["active"]), int(row["inactive"])) for row in rows))
    names = {condition: condition.name + ("" if condition.active else " att") for condition in conditions}
    cells = {(int(row["active"]), int(row["inactive"]), str(row["threshold"])): row for row in rows}

    def value(condition: Condition, refinement: str) -> float:
        cell = cells[(*condition, refinement)][condition.measure.name]
        return math.nan if cell == "" else float(cell)

    return [
        {"threshold": refinement, **{name: value(condition, refinement) for condition, name in names.items()}}
        for refinement in dict.fromkeys(str(row["threshold"]) for row in rows)
    ]


def summary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out summary rows for people, as :func:`summary_grid`.

    Args:
        rows: rows of ``summary.csv``, as numbers or as text.

    Returns:
        Several lines, the last with the number of mixtures behind each column.
    """
    grid = summary_grid(rows)
    head = list(grid[0]) if grid else ["threshold"]
    body = [
        [row["threshold"], *("-" if math.isnan(row[name]) else f"{row[name]:.2f}" for name in head[1:])] for row in grid
    ]
    counts = [str(row["n"]) for row in rows if str(row["threshold"]) == grid[0]["threshold"]]
    title = "SNRi in dB by condition (active:inactive); att: attenuation in dB"
    return f"{title}\n{Table(head, [*body, ['mixtures', *counts]], rules=(0, len(body))).text()}"


def label_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out CA-SDRi and accuracy of the labels for people: refinements down.

    Args:
        rows: by refinement, ``threshold`` and :data:`LABEL_MEASURES`.
    """
    body = [
        [
            str(row["threshold"]),
            _text(row["ca_sdri_db"], ".2f"),
            _text(row["mixture_accuracy"], ".1%"),
            _text(row["source_accuracy"], ".1%"),
        ]
        for row in rows
    ]
    head = ["threshold", "CA-SDRi", "mixture accuracy", "source accuracy"]
    return f"The classes that are kept, each extracted alone; CA-SDRi in dB\n{Table(head, body, rules=(0,)).text()}"


def classification_table(results: GridResults) -> str:
    """Lay out the classifier's scores for people: refinements down."""
    rows = classification_rows(results)
    names = ("macro_f1", "macro_precision", "macro_recall", "micro_f1")
    body = [[row["threshold"], *(f"{row[name]:.3f}" for name in names)] for row in rows]
    return f"mean average precision {rows[0]['map']:.3f}\n{Table(['threshold', *names], body).text()}"


def false_alarm_text(results: GridResults) -> str:
    """Return the false-alarm rates for people, one line; empty where there are none."""
    if not results.num_without_target:
        return ""
    rules = decisive(results.grid.refinements)
    rates = [label_counts(results.probability, results.activity, rule).false_alarm_rate for rule in rules]
    shown = ", ".join(f"{rule.name} {100 * rate:.1f} %" for rule, rate in zip(rules, rates, strict=True))
    return (
        f"False alarms in the {results.num_without_target} mixtures without an active class: {shown}" if shown else ""
    )


def event_text(results: GridResults) -> str:
    """Return the scores of events for people, one line; empty without a classifier."""
    if not results.event_counts:
        return ""
    events = event_scores(results)
    return f"Macro F1 of events {events.macro('event_f1'):.3f}, of segments {events.macro('segment_f1'):.3f}"


def _text(value: float | str, digits: str) -> str:
    """Return a number in a format; a dash for NaN, which is an empty cell in a file."""
    return "-" if value == "" or math.isnan(float(value)) else format(float(value), digits)
