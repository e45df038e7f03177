"""What each threshold decides: how well the classifier tells classes, and what refinement does to queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tse_refine.analysis.measured_classifier import ClassScore
from tse_refine.analysis.systems import System
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.evaluation.classification import mean_average_precision
from tse_refine.evaluation.conditions import Condition, condition_name
from tse_refine.files.tables import markdown

DECISION_COLUMNS = (
    "system",
    "threshold",
    "seeds",
    "macro_precision",
    "macro_recall",
    "macro_false_negative_rate",
    "macro_f1",
    "map",
    "active_classes",
    "active_dropped",
    "inactive_classes",
    "inactive_kept",
)
QUERY_COLUMNS = ("system", "threshold", "active", "inactive", "n", "active_dropped", "inactive_kept", "emptied")
CLASS_COLUMNS = (
    "system",
    "threshold",
    "class",
    "support",
    "precision",
    "recall",
    "false_negative_rate",
    "f1",
    "snri_db_none",
    "snri_db_refined",
)
SHOWN_CONDITIONS: tuple[Condition, ...] = ((1, 0), (1, 3))

Row = dict[str, Any]


def decision_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row a system and threshold: the classifier's scores, and how many classes it gets wrong.

    Of all classes in all mixtures, ``active_dropped`` of the ``active_classes`` would be removed from any query, and
    ``inactive_kept`` of the ``inactive_classes`` would stay in it. Means over the runs of a system; macro averages run
    over the classes that occur.
    """
    rows = []
    for system, threshold in _refining(systems):
        runs = [_decision_row(run, threshold) for run in system.runs]
        means = {name: float(np.mean([run[name] for run in runs])) for name in DECISION_COLUMNS[3:]}
        rows.append({"system": system.name, "threshold": threshold, "seeds": len(runs), **means})
    return rows


def query_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row a system, threshold and condition: what refinement does to a query.

    ``active_dropped`` and ``inactive_kept`` are means a query; ``emptied`` is the share of queries of which nothing is
    left. Means over mixtures and runs.
    """
    rows = []
    for system, threshold in _refining(systems):
        for condition in system.runs[0].grid.conditions:
            active, inactive = (system.cell(f"kept_{kind}", condition, threshold) for kind in ("active", "inactive"))
            asked = ~np.isnan(active)
            values = {
                "n": int(asked[0].sum()),
                "active_dropped": condition[0] - float(active[asked].mean()),
                "inactive_kept": float(inactive[asked].mean()),
                "emptied": float((active + inactive == 0)[asked].mean()),
            }
            head = {"system": system.name, "threshold": threshold, "active": condition[0], "inactive": condition[1]}
            rows.append(head | values)
    return rows


def class_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row a system, threshold and class; means over the runs of a system.

    The false-negative rate is the method's risk: how often a class that is there would be removed from a query.
    """
    rows = []
    for system, threshold in _refining(systems):
        for score in mean_scores(system, threshold):
            values = {name: getattr(score, name) for name in (*CLASS_COLUMNS[3:6], *CLASS_COLUMNS[7:])}
            head = {"system": system.name, "threshold": threshold, "class": score.name}
            rows.append(head | values | {"false_negative_rate": 1.0 - score.recall if score.support else float("nan")})
    return rows


def mean_scores(system: System, threshold: str) -> list[ClassScore]:
    """Return the scores of every class, means over the runs of a system; a run without a value is left out."""
    means = []
    for scores in zip(*(run.per_class[threshold] for run in system.runs), strict=True):
        values = np.array([[s.precision, s.recall, s.f1, s.snri_db_none, s.snri_db_refined] for s in scores])
        known = ~np.isnan(values)
        mean = np.divide(
            np.where(known, values, 0.0).sum(0),
            known.sum(0),
            out=np.full(values.shape[1], np.nan),
            where=known.any(0),
        )
        means.append(ClassScore(scores[0].name, scores[0].support, *mean.tolist()))
    return means


def markdown_decisions(rows: Sequence[Row], queries: Sequence[Row]) -> str:
    """Return decisions and, for two conditions, their effect on queries as one Markdown table."""
    effect = {(q["system"], q["threshold"], (q["active"], q["inactive"])): q for q in queries}
    shown = [c for c in SHOWN_CONDITIONS if any(key[2] == c for key in effect)]

    def query(condition: Condition, name: str, form: Callable[[float], str]) -> Callable[[Row], str]:
        return lambda row: form(effect[row["system"], row["threshold"], condition][name])

    def share(part: str, whole: str) -> Callable[[Row], str]:
        return lambda row: f"{round(row[part], 1):g} of {row[whole]:.0f} ({100 * row[part] / max(1, row[whole]):.1f} %)"

    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("system", lambda row: row["system"] + (f", {row['seeds']} seeds" if row["seeds"] > 1 else "")),
        ("δ", lambda row: row["threshold"]),
        ("macro precision", _decimals("macro_precision")),
        ("macro recall", _decimals("macro_recall")),
        ("macro FNR", _decimals("macro_false_negative_rate")),
        ("macro F1", _decimals("macro_f1")),
        ("mAP", _decimals("map")),
        ("active classes dropped", share("active_dropped", "active_classes")),
        ("inactive classes kept", share("inactive_kept", "inactive_classes")),
    ]
    for condition in shown:
        name = condition_name(condition)
        columns.append((f"{name}: emptied", query(condition, "emptied", lambda value: f"{100 * value:.1f} %")))
        if condition[1]:
            columns.append((f"{name}: inactive kept", query(condition, "inactive_kept", lambda value: f"{value:.2f}")))
    note = (
        "FNR, the false-negative rate, is the method's risk: an active class that is dropped cannot be extracted. "
        "Counts are over all classes of all mixtures, a mean over seeds; emptied: queries of which nothing is left."
    )
    return markdown([name for name, _ in columns], [[text(row) for _, text in columns] for row in rows], note)


def _decision_row(run: MeasuredRun, threshold: str) -> dict[str, float]:
    decisions = run.decisions
    assert decisions is not None  # a system that refines has a classifier
    occurring = [score for score in run.per_class[threshold] if score.support]
    precision, recall, f1 = (
        float(np.mean([getattr(score, name) for score in occurring])) for name in ("precision", "recall", "f1")
    )
    kept = decisions.probability >= float(threshold)
    counts = [decisions.active, decisions.active & ~kept, ~decisions.active, ~decisions.active & kept]
    mean_precision = mean_average_precision(decisions.probability, decisions.active)
    values = (precision, recall, 1.0 - recall, f1, mean_precision, *(float(count.sum()) for count in counts))
    return dict(zip(DECISION_COLUMNS[3:], values, strict=True))


def _refining(systems: Sequence[System]) -> list[tuple[System, str]]:
    return [(system, threshold) for system in systems if system.has_classifier for threshold in system.thresholds]


def _decimals(name: str) -> Callable[[Row], str]:
    return lambda row: f"{row[name]:.3f}"
