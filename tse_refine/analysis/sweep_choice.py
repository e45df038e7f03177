"""Which value of a swept parameter is best, and whether the lead is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tse_refine.analysis.sweeps import SweptRun, by_value, operating_threshold
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.analysis.threshold_choice import MATCHED, PARTIAL
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import NONE, WORDS, condition_key, key_threshold, threshold_key
from tse_refine.evaluation.statistics import Interval, paired_difference

_MEASURES = ("snri_db", "attenuation_db")


@dataclass(frozen=True)
class BestValue:
    """The best value of a parameter beside the next best.

    Attributes:
        best: the value with the best mean over its runs.
        runner_up: the next; None where only one value was tried.
        lead: difference of the two means, not negative, in the metric's unit.
        spread: the larger of the two ranges (largest minus smallest) over the runs of one value; None where neither
            has several runs, so that chance is not known.
    """

    best: Any
    runner_up: Any
    lead: float
    spread: float | None

    @property
    def beyond_chance(self) -> bool | None:
        """Whether the lead is larger than the spread of seeds; None where that is not known."""
        return None if self.spread is None else self.lead > self.spread


class BestPair(NamedTuple):
    """A value of a parameter and a threshold with the highest expected SNRi.

    Attributes:
        value: of the parameter.
        threshold: as result files write it.
        expected_snri_db: mean over the runs with that value.
    """

    value: Any
    threshold: str
    expected_snri_db: float


def best_value(runs: Sequence[SweptRun], parameter: str, metric: str, maximize: bool = True) -> BestValue:
    """Compare the values of a parameter by a metric.

    Args:
        runs: of one sweep; those with one value of the parameter are repeats of one another.
        parameter: dotted name of an option, such as ``model.loss_weight``.
        metric: as logged.
        maximize: whether larger is better.

    Raises:
        InputError: the parameter was not swept, or a run lacks the metric.
    """
    values = by_value(runs, parameter, metric)
    means = {value: float(members.mean()) for value, members in values.items()}
    ranked = sorted(means, key=lambda value: -means[value] if maximize else means[value])
    best, runner_up = (*ranked, None)[:2]
    ranges = [float(np.ptp(values[value])) for value in ranked[:2] if len(values[value]) > 1]
    lead = abs(means[best] - means[runner_up]) if len(ranked) > 1 else 0.0
    return BestValue(best, runner_up, lead, max(ranges) if ranges else None)


def best_pair(
    runs: Sequence[SweptRun], parameter: str, split: str, share: float, thresholds: Sequence[str] = ()
) -> BestPair:
    """Choose a value of a parameter and a threshold together, since which threshold is best may depend on the value.

    Args:
        runs: of one sweep.
        parameter: dotted name of an option, such as ``model.loss_weight``.
        split: ``val``, to choose, or ``test``.
        share: of the queries that are partially matched, (1:3), in [0, 1]; the others are fully matched, (1:0).
        thresholds: to choose among, as logged metrics name them, such as ``refined``; by default ``none`` and every
            number that all runs were measured at.

    Raises:
        InputError: the parameter was not swept, or the runs share no threshold in both conditions.
    """
    matched, partial = (f"{split}/snri_db/{condition_key(condition)}/" for condition in (MATCHED, PARTIAL))
    common = set.intersection(*(set(run.metrics) for run in runs))
    keys = [name.removeprefix(matched) for name in common if name.startswith(matched)]
    keys = [key for key in keys if f"{partial}{key}" in common]
    keys = [key for key in keys if (key in thresholds if thresholds else key == NONE or key.startswith("delta_"))]
    pairs = []
    for key in sorted(keys):
        starts, ends = (by_value(runs, parameter, f"{prefix}{key}") for prefix in (matched, partial))
        for value in starts:
            expected = (1.0 - share) * starts[value].mean() + share * ends[value].mean()
            pairs.append(BestPair(value, key_threshold(key), float(expected)))
    if not pairs:
        raise InputError(f"No threshold was measured in {matched[:-1]} and {partial[:-1]} of every run.")
    return max(pairs, key=lambda pair: pair.expected_snri_db)


def difference_on_test(first: Sequence[SweptRun], second: Sequence[SweptRun], metric: str) -> Interval | None:
    """Compare two groups of tested runs on their test mixtures, pair by pair.

    Args:
        first: runs with folders, repeats of one another.
        second: likewise.
        metric: names condition and threshold, such as ``val/snri_db/1a3i/refined``; they are looked up in the test.

    Returns:
        Mean of first - second in dB with its interval over mixtures and runs, one cell; None where a run has no test
        results here, or the metric is not one of a condition.

    Raises:
        InputError: the runs were tested on different mixtures, or not in this condition and threshold.
    """
    _, _, named = metric.partition("/")
    measure, *place = named.split("/")
    tested = all(run.folder and (run.folder / "test" / "results.csv").exists() for run in (*first, *second))
    if measure not in _MEASURES or not tested:
        return None
    groups = [[MeasuredRun(run.folder) for run in group if run.folder] for group in (first, second)]
    group_systems([*groups[0], *groups[1]])  # refuses runs that were not asked the same
    cells = [np.stack([_cell(run, measure, *place) for run in group])[:, :, None] for group in groups]
    return paired_difference(*cells)


def _cell(run: MeasuredRun, measure: str, condition: str, threshold: str) -> np.ndarray:
    """Return a measure by the names of logged metrics, ``[mixtures]``."""
    conditions = {condition_key(pair): pair for pair in run.grid.conditions}
    thresholds = {threshold_key(t if t in WORDS else float(t)): t for t in run.grid.thresholds}
    thresholds["refined"] = operating_threshold(run.folder)
    try:
        return run.grid.cell(measure, conditions[condition], thresholds[threshold])
    except KeyError:
        raise InputError(
            f"{run.folder.path}: its test has no {condition}/{threshold}; test all runs in the condition and at the "
            "threshold of the metric."
        ) from None
