"""Means with bootstrap intervals over mixtures."""

from __future__ import annotations

import warnings
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


def bootstrap_mean(values: np.ndarray, seed: int = 0) -> Interval:
    """Return the mean over mixtures with its percentile bootstrap 95 % interval.

    Mixtures are resampled, the same ones for every cell, 1000 times.

    Args:
        values: ``[mixtures, cells]``; NaN where a mixture has no value in a cell.
        seed: of the resampling.

    >>> bootstrap_mean(np.array([[1.0, np.nan], [3.0, np.nan]])).mean
    array([ 2., nan])
    """
    num_mixtures = len(values)
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    rng = np.random.default_rng(seed)
    means = np.full((RESAMPLES, values.shape[1]), np.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a cell without values has a NaN mean, as documented
        for rows in np.array_split(np.arange(RESAMPLES), 20):  # in pieces: 10,000 mixtures a row
            counts = rng.multinomial(num_mixtures, np.full(num_mixtures, 1.0 / num_mixtures), size=len(rows))
            means[rows] = (counts @ filled) / (counts @ present)
        tail = (1.0 - CONFIDENCE) / 2.0
        low, high = np.nanquantile(means, [tail, 1.0 - tail], axis=0)
        return Interval(filled.sum(0) / present.sum(0), low, high)
