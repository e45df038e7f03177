"""Scores of the classifier's decisions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import binary_average_precision

from tse_refine.refinement import KEPT_WEIGHT, Refinement


@dataclass(frozen=True)
class ClassificationScores:
    """Scores of one refinement's decisions. Averages run over the classes that occur; absent ones have no recall.

    Attributes:
        precision: per class, ``[classes]``; 0 for a class that is never predicted.
        recall: per class, ``[classes]``; 0 for a class that never occurs.
        f1: per class, ``[classes]``.
        support: mixtures that hold the class, ``[classes]``.
        micro_f1: over all decisions.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    micro_f1: float

    def macro(self, name: str) -> float:
        """Return the mean of ``precision``, ``recall`` or ``f1`` over the classes that occur."""
        occurs = self.support > 0
        return float(getattr(self, name)[occurs].mean()) if occurs.any() else float("nan")


@dataclass(frozen=True)
class LabelCounts:
    """How the classes that a refinement keeps differ from the true ones, in every mixture.

    Attributes:
        correct: active classes that are kept, ``[mixtures]``.
        missed: active classes that are not kept, ``[mixtures]``.
        false: inactive classes that are kept, ``[mixtures]``.
    """

    correct: np.ndarray
    missed: np.ndarray
    false: np.ndarray

    @property
    def exact(self) -> np.ndarray:
        """Whether a label set is the true one, ``[mixtures]``."""
        return (self.missed == 0) & (self.false == 0)

    @property
    def mixture_accuracy(self) -> float:
        """Share of the mixtures whose label set is exactly the true one."""
        return float(self.exact.mean())

    @property
    def source_accuracy(self) -> float:
        """Correct labels over the union of true and estimated ones, counted over all mixtures; NaN without a label."""
        union = self.correct.sum() + self.missed.sum() + self.false.sum()
        return float(self.correct.sum() / union) if union else float("nan")

    @property
    def false_alarm_rate(self) -> float:
        """Share of the mixtures without a true label that have an estimated one; NaN without such mixtures."""
        alarms = self.false[self.correct + self.missed == 0] > 0
        return float(alarms.mean()) if len(alarms) else float("nan")


def kept_classes(probability: np.ndarray, refinement: Refinement) -> np.ndarray:
    """Return which classes a refinement keeps in a query for all of them, ``[mixtures, classes]``.

    Args:
        probability: clip-level, ``[mixtures, classes]``, in [0, 1].
        refinement: one that decides class by class.
    """
    estimates = torch.from_numpy(probability)
    return (refinement(torch.ones_like(estimates), estimates) >= KEPT_WEIGHT).numpy()


def classification_scores(
    probability: np.ndarray, activity: np.ndarray, refinement: Refinement
) -> ClassificationScores:
    """Score the decisions of a refinement as those of a classifier.

    Args:
        probability: clip-level, ``[mixtures, classes]``, in [0, 1].
        activity: 1 for an active class, ``[mixtures, classes]``.
        refinement: one that decides class by class.

    >>> from tse_refine.refinement import Threshold
    >>> p, active = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1]]), np.array([[1, 0, 0], [0, 1, 0]])
    >>> round(classification_scores(p, active, Threshold(0.5)).macro("f1"), 4)
    0.8333
    """
    decided, active = kept_classes(probability, refinement), activity > 0
    tp, fp, fn = (
        np.sum(cases, axis=0, dtype=float) for cases in (decided & active, decided & ~active, ~decided & active)
    )
    support = tp + fn

    def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    return ClassificationScores(
        precision=ratio(tp, tp + fp),
        recall=ratio(tp, support),
        f1=ratio(2 * tp, 2 * tp + fp + fn),
        support=support.astype(int),
        micro_f1=float(ratio(2 * tp.sum(keepdims=True), (2 * tp + fp + fn).sum(keepdims=True))[0]),
    )


def label_counts(probability: np.ndarray, activity: np.ndarray, refinement: Refinement) -> LabelCounts:
    """Compare the classes that a refinement keeps with the true ones.

    Args:
        probability: clip-level, ``[mixtures, classes]``, in [0, 1].
        activity: 1 for an active class, ``[mixtures, classes]``.
        refinement: one that decides class by class.

    >>> from tse_refine.refinement import Threshold
    >>> p, active = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1], [0.2, 0.6, 0.1]]), np.eye(3)[[0, 1, 2]]
    >>> active[2] = 0.0  # background alone
    >>> labels = label_counts(p, active, Threshold(0.5))
    >>> round(labels.mixture_accuracy, 4), labels.source_accuracy, labels.false_alarm_rate
    (0.3333, 0.5, 1.0)
    """
    kept, active = kept_classes(probability, refinement), activity > 0
    return LabelCounts((kept & active).sum(1), (~kept & active).sum(1), (kept & ~active).sum(1))


def mean_average_precision(probability: np.ndarray, activity: np.ndarray) -> float:
    """Return the average precision, mean over the classes that occur; it needs no threshold.

    Args:
        probability: clip-level, ``[mixtures, classes]``.
        activity: 1 for an active class, ``[mixtures, classes]``.
    """
    occurs = activity.sum(0) > 0
    if not occurs.any():
        return float("nan")
    scores = [
        binary_average_precision(torch.from_numpy(probability[:, label]), torch.from_numpy(activity[:, label]).int())
        for label in np.flatnonzero(occurs)
    ]
    return float(torch.stack(scores).double().mean())
