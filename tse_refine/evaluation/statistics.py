"""Means with bootstrap intervals over mixtures."""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and its bootstrap interval, each ``[cells]``; NaN where a cell has no value.

    Attributes:
        mean: over mixtures.
        low: lower end.
        high: upper end.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_mean(values: np.ndarray) -> Interval:
    """Return the mean over mixtures with its percentile bootstrap 95 % interval.

    Mixtures are resampled, the same ones for every cell, 1000 times.

    Args:
        values: ``[mixtures, cells]``; NaN where a mixture has no value in a cell.

    >>> bootstrap_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).mean
    array([ 2., nan])
    """
    return pooled_mean(values[None])


def pooled_mean(values: np.ndarray) -> Interval:
    """Return the mean over runs and mixtures with its bootstrap 95 % interval.

    Runs differ in their seed and share the mixtures. Both are resampled, independently of each other (the product
    bootstrap: A. B. Owen, 2007), so that the interval covers other mixtures and other trainings. With one run it covers
    mixtures only; with two or three it holds little about other trainings.

    Differences between thresholds or conditions of the same runs are the pooled mean of paired differences: what makes
    a mixture hard, or a training good, is in both and drops out.

    Args:
        values: ``[runs, mixtures, cells]``; NaN where a mixture has no value in a cell.
    """
    return _bootstrap([values])


def paired_difference(first: np.ndarray, second: np.ndarray) -> Interval:
    """Return the mean of ``first - second`` for different runs on the same mixtures and queries, with its interval.

    Mixtures are resampled in pairs, the same ones on both sides; the runs of each side on their own.

    Args:
        first: ``[runs, mixtures, cells]``; NaN where a mixture has no value in a cell.
        second: the same mixtures and cells; its runs need not be as many.

    >>> paired_difference(np.array([[[1.0], [9.0]]]), np.array([[[0.5], [8.5]]]))
    Interval(mean=array([0.5]), low=array([0.5]), high=array([0.5]))
    """
    return _bootstrap([first, -second])


def _bootstrap(sides: list[np.ndarray]) -> Interval:
    """Return the sum of the means of all sides; mixtures are resampled for all alike, runs for each side."""
    _, num_mixtures, num_cells = sides[0].shape
    present = ~np.isnan(sum(side.sum(0) for side in sides))  # [mixtures, cells]
    mixtures = _draws(num_mixtures, 0)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a cell without values has a NaN mean, as documented
        count = mixtures @ present.astype(np.float32)  # [resamples, cells]
        mean, means = np.zeros(num_cells), np.zeros((RESAMPLES, num_cells))
        for number, side in enumerate(sides, start=1):
            runs = _draws(len(side), number).astype(float) / len(side)  # weights that add up to one
            for run, values in enumerate(side):
                centre = np.where(present, values, 0.0).sum(0) / present.sum(0)
                around = np.where(present, values - centre, 0.0).astype(np.float32)  # centred: single precision will do
                mean += centre / len(side)
                means += runs[:, run, None] * (centre + (mixtures @ around) / count)
        tail = (1.0 - CONFIDENCE) / 2.0
        low, high = np.nanquantile(means, [tail, 1.0 - tail], axis=0)
    return Interval(mean, np.minimum(low, mean), np.maximum(high, mean))  # where all are alike, up to rounding


@lru_cache(maxsize=8)
def _draws(number: int, stream: int) -> np.ndarray:
    """Return how often each item is drawn, ``[resamples, number]``; cached for the hundreds of calls of a report."""
    rng = np.random.default_rng((0, stream))
    return rng.multinomial(number, np.full(number, 1.0 / number), size=RESAMPLES).astype(np.float32)
