"""Calibration of the classifier: probabilities that are as often right as they say.

Where a probability of 0.3 means that three such classes in ten are active, one threshold is right for every class, and
its value follows from what a wrong decision costs. Training leaves each class with a bias of its own, most of all where
classes differ in how hard they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tse_refine.model.classifier import pooled_log_probability

NUM_BINS = 10
_PRIOR_STD = 1.0  # of the shifts and of the logarithm of the scale: a class that is rare in validation keeps its own
_MOST_STEPS = 100  # L-BFGS needs about 20


class Calibration(NamedTuple):
    """A change of frame logits: z becomes ``scale * z + shift``.

    Attributes:
        scale: one for all classes, above 0; the inverse of a temperature (Guo et al. 2017, arXiv 1706.04599).
        shift: one for each class, ``[classes]``, which serves as a threshold of its own.
    """

    scale: float
    shift: Tensor


class Reliability(NamedTuple):
    """How often decisions of about equal probability are right, in bins of equal width.

    Attributes:
        probability: mean of each bin, ``[bins]``; NaN for an empty one.
        frequency: share of active classes in each bin, ``[bins]``; NaN for an empty one.
        decisions: number of decisions in each bin, ``[bins]``.
    """

    probability: np.ndarray
    frequency: np.ndarray
    decisions: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: distance of frequency and probability, mean over decisions, in [0, 1]."""
        used = self.decisions > 0
        return float(np.average(np.abs(self.frequency - self.probability)[used], weights=self.decisions[used]))


def fit_calibration(frame_logits: Tensor, activity: Tensor) -> Calibration:
    """Fit the calibration that makes clip-level probabilities likeliest, with a prior against large changes.

    It minimises the summed cross-entropy of the pooled probabilities plus half the squares of the shifts and of the
    scale's logarithm, so that a class without evidence is not changed.

    Args:
        frame_logits: ``[mixtures, frames, classes]``, of mixtures that were not trained on.
        activity: 1 for an active class, ``[mixtures, classes]``.
    """
    logits, active = frame_logits.double(), activity.double()
    numbers = torch.zeros(1 + logits.shape[-1], dtype=torch.float64, requires_grad=True)  # log scale, then shifts
    optimizer = torch.optim.LBFGS([numbers], max_iter=_MOST_STEPS, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        optimizer.zero_grad()
        log_y, log_not_y = pooled_log_probability(logits * numbers[0].exp() + numbers[1:])
        total = -(active * log_y + (1 - active) * log_not_y).double().sum()
        total = total + (numbers / _PRIOR_STD).square().sum() / 2
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(cost)
    fitted = numbers.detach()
    return Calibration(float(fitted[0].exp()), fitted[1:].float())


def reliability(probability: np.ndarray, activity: np.ndarray, num_bins: int = NUM_BINS) -> Reliability:
    """Return how often decisions of about equal probability are right.

    Args:
        probability: clip-level, ``[mixtures, classes]``, in [0, 1].
        activity: 1 for an active class, ``[mixtures, classes]``.
        num_bins: number of bins of equal width.

    >>> found = reliability(np.array([[0.1, 0.9], [0.3, 0.9]]), np.array([[0, 1], [1, 1]]), num_bins=2)
    >>> found.probability.round(2).tolist(), found.frequency.tolist(), round(found.error, 3)
    ([0.2, 0.9], [0.5, 1.0], 0.2)
    """
    place = np.minimum((probability * num_bins).astype(int), num_bins - 1).ravel()
    count = np.bincount(place, minlength=num_bins)
    sums = [np.bincount(place, values.ravel(), num_bins) for values in (probability, activity > 0)]
    means = [np.divide(total, count, out=np.full(num_bins, np.nan), where=count > 0) for total in sums]
    return Reliability(means[0], means[1], count)
