"""How well the classifier tells which classes are active."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import binary_average_precision


@dataclass(frozen=True)
class ClassificationScores:
    """Scores at one threshold. Averages run over the classes that occur; absent ones say nothing of recall.

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


def classification_scores(probability: np.ndarray, activity: np.ndarray, threshold: float) -> ClassificationScores:
    """Score the decisions ``probability >= threshold``.

    Args:
        probability: clip-level, ``[mixtures, classes]``, in [0, 1].
        activity: 1 for an active class, ``[mixtures, classes]``.
        threshold: of the decision, in [0, 1].

    >>> p, active = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1]]), np.array([[1, 0, 0], [0, 1, 0]])
    >>> round(classification_scores(p, active, 0.5).macro("f1"), 4)
    0.8333
    """
    decided, active = probability >= threshold, activity > 0  # torchmetrics would decide by >, the method does by >=
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
