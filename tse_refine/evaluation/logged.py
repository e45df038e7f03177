"""Results of a grid as logged metrics, which sweeps and checkpoints follow, and the refinement that they recommend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from tse_refine.evaluation.classification import classification_scores, label_counts, mean_average_precision
from tse_refine.evaluation.events import EVENT_SCORES
from tse_refine.evaluation.grid import Grid, GridResults
from tse_refine.evaluation.metrics import SNRI, Measure
from tse_refine.evaluation.results import FALSE_ALARMS, LABEL_MEASURES, decisive, event_scores, label_rows
from tse_refine.refinement import Refinement

REFINED = "refined"  # the second, fixed name of the operating refinement in logged metrics, for sweeps


def metric_names(grid: Grid, split: str, operating: Refinement, may_be_empty: bool = False) -> list[str]:
    """Return the names of the metrics that are logged for a grid.

    Args:
        grid: conditions, refinements and measures.
        split: ``val`` or ``test``.
        operating: refinement that has the second name ``refined``.
        may_be_empty: whether there are mixtures without an active class.
    """
    names = [name for name, _, _ in _metric_cells(grid, split, operating)]
    deciding = decisive(grid.refinements)
    measured = ("macro_f1", *([FALSE_ALARMS] if may_be_empty else []))
    names += [f"{split}/{name}/{refinement.key}" for refinement in deciding for name in measured]
    names += [f"{split}/{name}/{refinement.key}" for refinement in grid.labelling for name in LABEL_MEASURES]
    return [*names, *(f"{split}/{name}" for name in ("map", *EVENT_SCORES))] if deciding else names


def logged_metrics(
    results: GridResults, rows: Sequence[Mapping[str, Any]], split: str, operating: Refinement
) -> dict[str, float]:
    """Return the metrics of :func:`metric_names` with their values.

    Args:
        results: results of all mixtures.
        rows: their summary (:func:`tse_refine.evaluation.results.summary_rows`).
        split: ``val`` or ``test``.
        operating: refinement that has the second name ``refined``.
    """
    cells = _metric_cells(results.grid, split, operating)
    metrics = {name: float(rows[number][measure.name]) for name, number, measure in cells}
    deciding = decisive(results.grid.refinements)
    for refinement in deciding:
        scores = classification_scores(results.probability, results.activity, refinement)
        metrics[f"{split}/macro_f1/{refinement.key}"] = scores.macro("f1")
        if results.num_without_target:
            labels = label_counts(results.probability, results.activity, refinement)
            metrics[f"{split}/{FALSE_ALARMS}/{refinement.key}"] = labels.false_alarm_rate
    for refinement, row in zip(results.grid.labelling, label_rows(results), strict=True):
        metrics |= {f"{split}/{name}/{refinement.key}": row[name] for name in LABEL_MEASURES}
    if deciding:
        metrics[f"{split}/map"] = mean_average_precision(results.probability, results.activity)
        events = event_scores(results)
        metrics |= {f"{split}/{name}": events.macro(name) for name in EVENT_SCORES}
    return metrics


def recommended_refinement(
    rows: Sequence[Mapping[str, Any]], grid: Grid, conditions: Sequence[Sequence[int]] | None = None
) -> Refinement | None:
    """Return the refinement with the best mean SNRi over fully and partially matched queries; None without one.

    Args:
        rows: summary of a validation.
        grid: what the validation measured.
        conditions: pairs (active, inactive), each as often as it counts; None for each with an active class once.
    """
    if conditions is None:
        conditions = [condition for condition in grid.conditions if condition.active]
    snri = {(row["active"], row["inactive"], row["threshold"]): row[SNRI.name] for row in rows}
    candidates = [refinement for refinement in grid.refinements if refinement.recommendable]

    def score(refinement: Refinement) -> float:
        return sum(snri[active, inactive, refinement.name] for active, inactive in conditions)

    return max(candidates, key=score) if candidates and conditions else None


def _metric_cells(grid: Grid, split: str, operating: Refinement) -> Iterator[tuple[str, int, Measure]]:
    """Yield the name of each logged metric of the grid, the number of its summary row, and its measure."""
    for number, (condition, refinement) in enumerate(product(grid.conditions, grid.refinements)):
        for measure in grid.measures:
            if condition.kind in measure.kinds:
                prefix = f"{split}/{measure.name}/{condition.key}"
                yield f"{prefix}/{refinement.key}", number, measure
                if refinement.name == operating.name:
                    yield f"{prefix}/{REFINED}", number, measure
