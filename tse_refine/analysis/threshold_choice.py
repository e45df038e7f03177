"""Which threshold serves best, by how often queries name classes that are not in the recording.

A test measures fully matched and partially matched queries apart. A user meets a mixture of both, and only the user
knows how many are of which kind; so the question is answered for every share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tse_refine.analysis.systems import System
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import NONE, WORDS, Condition, condition_name
from tse_refine.evaluation.statistics import Interval, pooled_mean

MATCHED: Condition = (1, 0)
PARTIAL: Condition = (1, 3)


@dataclass(frozen=True)
class ThresholdChoice:
    """The thresholds of a system at one share of partially matched queries.

    Attributes:
        share: of partially matched queries, in [0, 1].
        thresholds: as the grid writes them, ``none`` (no refinement) first; the cells of the intervals below.
        expected: SNRi in dB, ``[thresholds]``.
        behind: by how much each is worse than the best, in dB, paired over mixtures and runs, ``[thresholds]``.
    """

    share: float
    thresholds: tuple[str, ...]
    expected: Interval
    behind: Interval

    @property
    def best(self) -> str:
        """The threshold with the highest mean; the lowest of several."""
        return self.thresholds[int(np.argmax(self.expected.mean))]

    @property
    def alike(self) -> tuple[str, ...]:
        """The thresholds that these mixtures cannot tell from the best: 95 % intervals of ``behind`` that hold 0."""
        return tuple(
            threshold for threshold, low in zip(self.thresholds, self.behind.low, strict=True) if not low > 0.0
        )


def choose_threshold(system: System, share: float, partial: Condition = PARTIAL) -> ThresholdChoice:
    """Compare the thresholds of a system where a share of the queries is partially matched.

    The best of several noisy means is flattered by having been picked, and with many candidates one interval in twenty
    misses; so this describes the mixtures at hand. To choose, use validation mixtures.

    Args:
        system: one that was tested at several thresholds.
        share: of partially matched queries, in [0, 1]; the others are fully matched.
        partial: the partially matched condition.

    Raises:
        InputError: a condition was not tested, or the share is no share.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"The share of partially matched queries is {share}; a number from 0 to 1 is expected.")
    thresholds = candidates(system)
    matched, partly = (_snri(system, condition, thresholds) for condition in (MATCHED, partial))
    values = (1.0 - share) * matched + share * partly
    expected = pooled_mean(values)
    best = int(np.argmax(expected.mean))
    return ThresholdChoice(share, thresholds, expected, pooled_mean(values[:, :, best, None] - values))


def best_by_share(system: System, partial: Condition = PARTIAL) -> list[tuple[str, float, float]]:
    """Return which threshold has the highest mean for which shares of partially matched queries.

    The expected SNRi of a threshold is a straight line over the share; the best ones are the lines' upper envelope.

    Args:
        system: one that was tested at several thresholds.
        partial: the partially matched condition.

    Returns:
        (threshold, first share, last share), from share 0 to share 1 without a gap.

    Raises:
        InputError: a condition was not tested.
    """
    thresholds = candidates(system)
    matched, partly = (_snri(system, condition, thresholds) for condition in (MATCHED, partial))
    both = ~np.isnan((matched + partly).sum((0, 2)))  # mixtures that have both conditions, as in choose_threshold
    starts, ends = (values[:, both].mean((0, 1)) for values in (matched, partly))
    current = max(range(len(thresholds)), key=lambda t: (starts[t], ends[t]))
    ranges, share = [], 0.0
    while True:
        crossings = []
        for t in range(len(thresholds)):
            lost, won = starts[current] - starts[t], ends[t] - ends[current]
            if won > 0.0:  # it is ahead at share 1, so it overtakes somewhere
                crossings.append((lost / (lost + won), -won, t))
        if not crossings:
            return [*ranges, (thresholds[current], share, 1.0)]
        crossing, _, overtaker = min(crossings)
        ranges.append((thresholds[current], share, float(crossing)))
        share, current = float(crossing), overtaker


def candidates(system: System) -> tuple[str, ...]:
    """Return ``none`` and the numeric thresholds that every run of a system was tested at, ascending."""
    common = [t for t in system.runs[0].grid.thresholds if all(t in run.grid.thresholds for run in system.runs)]
    numbers = sorted((t for t in common if t not in WORDS), key=float)
    return (*([NONE] if NONE in common else []), *numbers)


def _snri(system: System, condition: Condition, thresholds: tuple[str, ...]) -> np.ndarray:
    """Return SNRi in a condition, ``[runs, mixtures, thresholds]``."""
    try:
        return np.stack([system.cell("snri_db", condition, threshold) for threshold in thresholds], axis=2)
    except KeyError:
        raise InputError(
            f"{system.runs[0].folder.path} was not tested in the condition {condition_name(condition)}; tested were "
            f"{', '.join(condition_name(c) for c in system.runs[0].grid.conditions)}. Choose among those, or test with "
            "--evaluation.conditions."
        ) from None
