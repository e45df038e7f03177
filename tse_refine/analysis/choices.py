"""Which refinement and which value of a swept parameter serve best, and how sure that is.

A test measures fully matched and partially matched queries separately. A user has both, and only the user knows in
which shares, so that refinements are compared for every share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tse_refine.analysis.sweeps import SweptRun, by_value
from tse_refine.analysis.systems import System, group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, Condition
from tse_refine.evaluation.logged import REFINED
from tse_refine.evaluation.metrics import MEASURES, SNRI, Measure
from tse_refine.evaluation.statistics import Interval, paired_difference, pooled_mean
from tse_refine.refinement import NoRefinement, Refinement, parse_key


@dataclass(frozen=True)
class RefinementChoice:
    """The refinements of a system at one share of partially matched queries.

    Attributes:
        share: share of partially matched queries, in [0, 1].
        refinements: the raw query first, then thresholds ascending; the cells of the intervals below.
        expected: SNRi in dB, ``[refinements]``.
        behind: difference to the best in dB, paired over mixtures and runs, ``[refinements]``.
    """

    share: float
    refinements: tuple[Refinement, ...]
    expected: Interval
    behind: Interval

    @property
    def best(self) -> Refinement:
        """The refinement with the highest mean; the first of several."""
        return self.refinements[int(np.argmax(self.expected.mean))]

    @property
    def alike(self) -> tuple[Refinement, ...]:
        """The refinements that may be as good as the best: 95 % intervals of ``behind`` that contain 0."""
        return tuple(rule for rule, low in zip(self.refinements, self.behind.low, strict=True) if not low > 0.0)


def choose_refinement(system: System, share: float, partial: Condition = PARTIAL) -> RefinementChoice:
    """Compare the refinements of a system where a share of the queries is partially matched.

    The best of several noisy means is overestimated because it was picked, and with many candidates one interval in
    twenty misses; so this describes the mixtures at hand. To choose, use validation mixtures.

    Args:
        system: system that was tested with several refinements.
        share: share of partially matched queries, in [0, 1]; the others are fully matched.
        partial: the partially matched condition.

    Raises:
        InputError: a condition was not tested, or the share is out of range.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"The share of partially matched queries is {share}; a number from 0 to 1 is expected.")
    refinements = choosable(system)
    matched, partly = (_snri(system, condition, refinements) for condition in (MATCHED, partial))
    values = (1.0 - share) * matched + share * partly
    expected = pooled_mean(values)
    best = int(np.argmax(expected.mean))
    return RefinementChoice(share, refinements, expected, pooled_mean(values[:, :, best, None] - values))


def best_by_share(system: System, partial: Condition = PARTIAL) -> list[tuple[Refinement, float, float]]:
    """Return which refinement has the highest mean for which shares of partially matched queries.

    The expected SNRi of a refinement is a straight line over the share; the best ones are the lines' upper envelope.

    Args:
        system: system that was tested with several refinements.
        partial: the partially matched condition.

    Returns:
        (refinement, first share, last share), from share 0 to share 1 without a gap.

    Raises:
        InputError: a condition was not tested.
    """
    refinements = choosable(system)
    matched, partly = (_snri(system, condition, refinements) for condition in (MATCHED, partial))
    both = ~np.isnan((matched + partly).sum((0, 2)))  # mixtures that have both conditions, as in choose_refinement
    starts, ends = (values[:, both].mean((0, 1)) for values in (matched, partly))
    leads, slopes = starts[:, None] - starts, ends - starts
    with np.errstate(divide="ignore", invalid="ignore"):  # parallel lines do not cross
        crossings = leads / (slopes - slopes[:, None])
    shares = np.unique([0.0, *crossings[(crossings > 0.0) & (crossings < 1.0)], 1.0])
    middles = (shares[:-1] + shares[1:]) / 2  # between two crossings the best one stays the best
    best = (starts + middles[:, None] * slopes).argmax(1)
    changes = [0, *(np.flatnonzero(np.diff(best)) + 1), len(best)]
    return [(refinements[best[i]], float(shares[i]), float(shares[j])) for i, j in pairwise(changes)]


def choosable(system: System) -> tuple[Refinement, ...]:
    """Return the raw query and the refinements that a user can choose."""
    rules = system.refinements
    return tuple(rule for rule in rules if isinstance(rule, NoRefinement) or rule in system.candidates)


@dataclass(frozen=True)
class BestValue:
    """The best value of a parameter beside the next best.

    Attributes:
        best: value with the best mean over its runs.
        runner_up: next best value; None where only one value was tried.
        lead: difference of the two means, not negative, in the metric's unit.
        spread: larger of the two ranges (largest minus smallest) over the runs of one value; None where neither has
            several runs, so that the effect of the seed is not known.
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
    """A value of a parameter and a refinement with the highest expected SNRi.

    Attributes:
        value: value of the parameter.
        refinement: name of the refinement as result files write it, or ``refined``.
        expected_snri_db: mean over the runs with that value.
    """

    value: Any
    refinement: str
    expected_snri_db: float


def best_value(runs: Sequence[SweptRun], parameter: str, metric: str, maximize: bool = True) -> BestValue:
    """Compare the values of a parameter by a metric.

    Args:
        runs: runs of one sweep; those with one value of the parameter are repeats of one another.
        parameter: dotted name of an option, such as ``model.loss_weight``.
        metric: name of the logged metric.
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
    runs: Sequence[SweptRun], parameter: str, split: str, share: float, refinements: Sequence[str] = ()
) -> BestPair:
    """Choose a value of a parameter and a refinement together, since which refinement is best may depend on the value.

    Args:
        runs: runs of one sweep.
        parameter: dotted name of an option, such as ``model.loss_weight``.
        split: ``val``, to choose, or ``test``.
        share: share of the queries that are partially matched, (1:3), in [0, 1]; the others are fully matched, (1:0).
        refinements: refinements to choose among, as logged metrics name them, such as ``refined``; by default the raw
            query and every rule that decides class by class, where all runs were measured.

    Raises:
        InputError: the parameter was not swept, or the runs share no refinement in both conditions.
    """
    matched, partial = (f"{split}/{SNRI.name}/{condition.key}/" for condition in (MATCHED, PARTIAL))
    common = set.intersection(*(set(run.metrics) for run in runs))
    keys = {key for key in (name.removeprefix(matched) for name in common) if {matched + key, partial + key} <= common}
    pairs = []
    for key in sorted(keys & set(refinements) if refinements else filter(_can_be_chosen, keys)):
        starts, ends = (by_value(runs, parameter, f"{prefix}{key}") for prefix in (matched, partial))
        for value in starts:
            expected = (1.0 - share) * starts[value].mean() + share * ends[value].mean()
            pairs.append(BestPair(value, key if key == REFINED else parse_key(key).name, float(expected)))
    if not pairs:
        raise InputError(f"No threshold was measured in {matched[:-1]} and {partial[:-1]} of every run.")
    return max(pairs, key=lambda pair: pair.expected_snri_db)


def difference_on_test(first: Sequence[SweptRun], second: Sequence[SweptRun], metric: str) -> Interval | None:
    """Compare two groups of tested runs on their test mixtures, pair by pair.

    Args:
        first: runs with folders, repeats of one another.
        second: likewise.
        metric: name of a metric of a condition, such as ``val/snri_db/1a3i/refined``; it is looked up in the test.

    Returns:
        Mean of first - second with its interval over mixtures and runs, one cell; None where a run has no test results
        here, or the metric is not one of a condition.

    Raises:
        InputError: the runs were tested on different mixtures, or not in this condition with this refinement.
    """
    measure_name, *place = metric.split("/")[1:]
    tested = all(run.folder and (run.folder / "test" / "results.csv").exists() for run in (*first, *second))
    if measure_name not in MEASURES or not tested:
        return None
    groups = [[TestedRun(run.folder) for run in group if run.folder] for group in (first, second)]
    group_systems([*groups[0], *groups[1]])  # rejects runs that were tested with other queries
    ours, theirs = (np.stack([_cell(run, MEASURES[measure_name], *place) for run in group]) for group in groups)
    return paired_difference(ours[:, :, None], theirs[:, :, None])


def _snri(system: System, condition: Condition, refinements: Sequence[Refinement]) -> np.ndarray:
    """Return SNRi in a condition, ``[runs, mixtures, refinements]``."""
    try:
        return np.stack([system.cell(SNRI, condition, refinement) for refinement in refinements], axis=2)
    except KeyError:
        raise InputError(
            f"{system.runs[0].folder.path} was not tested in the condition {condition.name}; tested were "
            f"{', '.join(tested.name for tested in system.runs[0].grid.conditions)}. Choose among those, or test with "
            "--evaluation.conditions."
        ) from None


def _can_be_chosen(key: str) -> bool:
    if key == REFINED:  # one of the others
        return False
    refinement = parse_key(key)
    return refinement.per_class or isinstance(refinement, NoRefinement)


def _cell(run: TestedRun, measure: Measure, condition: str, key: str) -> np.ndarray:
    """Return a measure by the names of logged metrics, ``[mixtures]``."""
    try:
        refinement = run.operating if key == REFINED else parse_key(key)
        return run.grid.cell(measure, Condition.from_key(condition), refinement)
    except (KeyError, ValueError):
        raise InputError(
            f"{run.folder.path}: its test has no {condition}/{key}; test all runs in the condition and at the "
            "threshold of the metric."
        ) from None
