"""What the report compares, as numbers: Table 1, paired differences, decisions, and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from tse_refine.analysis.measurements import ClassScore, MeasuredClassifier
from tse_refine.analysis.systems import System, methods
from tse_refine.errors import InputError
from tse_refine.evaluation.classification import kept_classes, label_counts
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, TABLE_CONDITIONS, Condition
from tse_refine.evaluation.events import COUNTS, EVENT_SCORES
from tse_refine.evaluation.metrics import MEASURES, SNRI, Measure
from tse_refine.evaluation.results import FALSE_ALARMS, decisive
from tse_refine.evaluation.statistics import Interval, pooled_mean
from tse_refine.refinement import NoRefinement, Oracle, Refinement

Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One row of Table 1.

    Attributes:
        system: system.
        refinement: refinement of its queries.
        values: mean by condition and name of the measure; nothing where it was not measured.
        macro_f1: macro F1 of the decisions, mean over runs; None for a refinement that does not decide class by class.
    """

    system: System
    refinement: Refinement
    values: Mapping[tuple[Condition, str], Interval]
    macro_f1: float | None


@dataclass(frozen=True)
class Difference:
    """What a method gains over another, in the measure of each condition.

    Attributes:
        first: name of the method.
        second: name of the method that is subtracted.
        values: paired difference by condition; nothing where it was not measured.
    """

    first: str
    second: str
    values: Mapping[Condition, Interval]


@dataclass(frozen=True)
class ClassChange:
    """What a refinement changes for one class, over all runs of a system.

    Attributes:
        score: scores, means over the runs.
        num_queries: mixtures that query the class at (1:3), beside three inactive classes.
        change: their SNRi with refinement minus without, in dB, paired over mixtures and runs, one cell; NaN where
            there are none.
    """

    score: ClassScore
    num_queries: int
    change: Interval


def table_cells() -> list[tuple[Condition, Measure]]:
    """Return the cells of Table 1: each printed condition with its own measure, then with every further measure."""
    headlines = [(condition, condition.measure) for condition in TABLE_CONDITIONS]
    return headlines + [
        (condition, measure)
        for measure in MEASURES.values()
        for condition in TABLE_CONDITIONS
        if condition.kind in measure.kinds and measure != condition.measure
    ]


def compare_systems(systems: Sequence[System]) -> list[Result]:
    """Return Table 1: each system without refinement and, where it can refine, with each refinement."""
    results = []
    for system in systems:
        for refinement in system.refinements:
            if isinstance(refinement, Oracle) and not system.has_classifier:
                continue
            classifiers = [run.classifier for run in system.runs]
            f1 = [c.macro_f1[refinement.name] for c in classifiers if c and refinement.name in c.macro_f1]
            means = {(c, m.name): system.mean(c, refinement, m) for c, m in table_cells()}
            values = {cell: mean for cell, mean in means.items() if mean is not None}
            results.append(Result(system, refinement, values, float(np.mean(f1)) if f1 else None))
    return results


def method_differences(systems: Sequence[System], refinement: Refinement | None) -> list[Difference]:
    """Return what one method gains over another, on the same mixtures and queries, in every condition of Table 1.

    Every system's raw query is compared with the first system's, every refinement with the raw query of its system, and
    the refinement that is shown, if any system refines, with the raw query of every other system.
    """
    raw = NoRefinement()
    pairs: list[tuple[System, Refinement, System]] = [(system, raw, systems[0]) for system in systems[1:]]
    for system in (system for system in systems if system.has_classifier):
        pairs += [(system, rule, system) for rule in system.refinements if rule.name != raw.name]
        if refinement is not None:
            pairs += [(system, refinement, other) for other in systems if other is not system]
    differences = []
    for first, rule, second in pairs:
        both = [c for c in TABLE_CONDITIONS if first.measured(c, rule) and second.measured(c, raw)]
        values = {condition: first.difference(second, condition, rule, raw) for condition in both}
        if values:
            differences.append(Difference(first.label(rule), second.label(raw), values))
    return differences


def condition_differences(systems: Sequence[System], refinement: Refinement | None) -> list[Difference]:
    """Return what inactive classes in the query cost each of the :func:`methods`: SNRi at (1:i) less that at (1:0)."""
    differences = []
    for label, system, rule in methods(systems, refinement):
        conditions = sorted(c for c in system.runs[0].grid.conditions if c.active == 1 and c.inactive)
        if conditions and system.measured(MATCHED, rule):
            matched = system.cell(SNRI, MATCHED, rule)
            values = {c: pooled_mean((system.cell(SNRI, c, rule) - matched)[:, :, None]) for c in conditions}
            differences.append(Difference(label, label, values))
    return differences


def decision_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row per system and refinement: the classifier's scores, and how many of its decisions are wrong.

    Of all classes in all mixtures, ``active_removed`` of the ``active_classes`` would be removed from any query, and
    ``inactive_kept`` of the ``inactive_classes`` would stay in it. Means over the runs of a system; macro averages run
    over the classes that occur. Where mixtures have no active class, ``false_alarm_rate`` is the share of them in which
    a class is kept.
    """
    rows = []
    for system, refinement in _deciding(systems):
        runs = [_decisions(run.classifier, refinement) for run in system.runs if run.classifier]
        means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        rows.append({"system": system.name, "threshold": refinement.name, "seeds": len(runs), **means})
    return rows


def event_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row per system whose events were measured: macro F1 of events and segments, means over its runs."""
    rows = []
    for system in systems:
        events = [run.classifier.events for run in system.runs if run.classifier and run.classifier.events]
        if events:
            means = {name: float(np.mean([run.macro(name) for run in events])) for name in EVENT_SCORES}
            sums = {name: float(np.mean([run.counts[name].sum() for run in events])) for name in COUNTS}
            rows.append({"system": system.name, "seeds": len(events), **means, **sums})
    return rows


def label_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row per system and refinement: the measures of DCASE Task 4, means over mixtures and runs.

    CA-SDRi and mixture accuracy have a bootstrap interval; the source accuracy is counted over all mixtures of a run.
    """
    rows = []
    for system, refinement in _deciding(systems):
        runs = [run.classifier.labels.get(refinement.name) for run in system.runs if run.classifier]
        labels = [run for run in runs if run is not None]
        if len(labels) < len(runs):  # a run was tested without
            continue
        row: Row = {"system": system.name, "threshold": refinement.name, "seeds": len(labels)}
        values = {"ca_sdri_db": [run.ca_sdri_db for run in labels]}
        values["mixture_accuracy"] = [run.counts.exact.astype(float) for run in labels]
        for name, of_runs in values.items():
            mean = pooled_mean(np.stack(of_runs)[:, :, None])
            row |= {f"{name}{end}": part.item() for end, part in zip(("", "_low", "_high"), mean, strict=True)}
        rows.append(row | {"source_accuracy": float(np.mean([run.counts.source_accuracy for run in labels]))})
    return rows


def query_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row per system, refinement and condition: what refinement does to a query.

    ``active_removed`` and ``inactive_kept`` are means per query; ``emptied`` is the share of queries of which nothing
    is left, ``silent`` that of answers as good as silence, whatever is left (:meth:`System.silent`). Means over
    mixtures and runs.
    """
    rows = []
    for system, refinement in _deciding(systems):
        for condition in system.runs[0].grid.conditions:
            active, inactive = system.kept(condition, refinement)
            exists = ~np.isnan(active)
            row = {"system": system.name, "threshold": refinement.name, **condition._asdict()}
            row |= {
                "n": int(exists[0].sum()),
                "active_removed": condition.active - float(active[exists].mean()),
                "inactive_kept": float(inactive[exists].mean()),
                "emptied": float((active + inactive == 0)[exists].mean()),
                "silent": float(np.nanmean(system.silent(condition, refinement))) if condition.active else np.nan,
            }
            rows.append(row)
    return rows


def class_rows(systems: Sequence[System]) -> list[Row]:
    """Return one row per system, refinement and class; means over the runs of a system.

    The false-negative rate is the method's risk: how often a class that is active would be removed from a query.
    """
    columns = ("support", "precision", "recall", "false_negative_rate", "f1", "snri_db_none", "snri_db_refined")
    return [
        {"system": system.name, "threshold": refinement.name, "class": score.name}
        | {name: getattr(score, name) for name in columns}
        for system, refinement in _deciding(systems)
        for score in mean_scores(system, refinement)
    ]


def mean_scores(system: System, refinement: Refinement) -> list[ClassScore]:
    """Return the scores of every class, means over the runs of a system; a run without a value is left out.

    The refinement decides class by class; KeyError where it was not tested.
    """
    means = []
    runs = [run.classifier.scores[refinement.name] for run in system.runs if run.classifier]
    for scores in zip(*runs, strict=True):
        values = np.ma.masked_invalid([astuple(score)[2:] for score in scores])
        means.append(ClassScore(scores[0].name, scores[0].support, *values.mean(0).filled(np.nan).tolist()))
    return means


def class_changes(system: System, refinement: Refinement) -> list[ClassChange]:
    """Return what a refinement changes for every class of a system that refines.

    Args:
        system: system whose runs share the test mixtures.
        refinement: refinement that decides class by class.

    Raises:
        InputError: (1:3) or the refinement was not tested.
    """
    grid, raw = system.runs[0].grid, NoRefinement()
    try:
        scores = mean_scores(system, refinement)
        change = system.cell(SNRI, PARTIAL, refinement) - system.cell(SNRI, PARTIAL, raw)  # [runs, mixtures]
    except KeyError:
        raise InputError(
            f"{system.runs[0].folder.path} was not tested at {PARTIAL.name} with the thresholds {raw.name} and "
            f"{refinement.name}; test it with --evaluation.conditions and --evaluation.thresholds that hold them."
        ) from None
    queried_class = grid.query_active[:, grid.conditions.index(PARTIAL)]
    changes = []
    for score in scores:
        of_class = queried_class == score.name
        nothing = Interval(*np.full((3, 1), np.nan))
        mean = pooled_mean(change[:, of_class, None]) if of_class.any() else nothing
        changes.append(ClassChange(score, int(of_class.sum()), mean))
    return changes


def _decisions(classifier: MeasuredClassifier, refinement: Refinement) -> dict[str, float]:
    scores = [score for score in classifier.scores[refinement.name] if score.support]
    precision, recall, f1 = np.mean([[score.precision, score.recall, score.f1] for score in scores], axis=0).tolist()
    active, kept = classifier.activity, kept_classes(classifier.probability, refinement)
    alarms = label_counts(classifier.probability, active, refinement).false_alarm_rate
    return {
        "macro_precision": precision,
        "macro_recall": recall,
        "macro_false_negative_rate": 1.0 - recall,
        "macro_f1": f1,
        "map": classifier.mean_average_precision,
        "active_classes": active.sum(),
        "active_removed": (active & ~kept).sum(),
        "inactive_classes": (~active).sum(),
        "inactive_kept": (~active & kept).sum(),
    } | ({} if np.isnan(alarms) else {FALSE_ALARMS: alarms})


def _deciding(systems: Sequence[System]) -> list[tuple[System, Refinement]]:
    """Return the systems that refine, with each of their refinements that decide class by class."""
    return [(system, rule) for system in systems if system.has_classifier for rule in decisive(system.refinements)]
