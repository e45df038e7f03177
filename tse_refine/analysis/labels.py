"""The classes that refinements keep, each extracted alone, as the result files of a test hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tse_refine.evaluation.classification import LabelCounts
from tse_refine.evaluation.results import CHANGED, CLASS_AWARE_COLUMNS, LABEL_MEASURES, REMEDY, ROUNDING
from tse_refine.files.tables import content_of, read_columns


@dataclass(frozen=True)
class MeasuredLabels:
    """What a test measured of the classes that one refinement keeps.

    Attributes:
        ca_sdri_db: CA-SDRi, ``[mixtures]``; NaN where no class is active and none is kept.
        counts: how the kept classes differ from the true ones.
    """

    ca_sdri_db: np.ndarray
    counts: LabelCounts

    def mean(self, name: str) -> float:
        """Return the value of one of :data:`LABEL_MEASURES` over all mixtures; NaN where there is none."""
        if name != "ca_sdri_db":
            return float(getattr(self.counts, name))
        values = self.ca_sdri_db[~np.isnan(self.ca_sdri_db)]
        return float(values.mean()) if len(values) else float("nan")


def read_labels(
    path: Path, means: Mapping[str, Mapping[str, float]], mixtures: np.ndarray, activity: np.ndarray
) -> dict[str, MeasuredLabels]:
    """Read ``class_aware.csv`` and compare it with ``classification.csv``.

    Args:
        path: the file.
        means: values of :data:`LABEL_MEASURES` in ``classification.csv``, by the name of each refinement.
        mixtures: number of each mixture, ``[mixtures]``, ascending.
        activity: whether a class is active, ``[mixtures, classes]``.

    Returns:
        By the name of each refinement.

    Raises:
        InputError: the file is missing or is not what the same test wrote.
    """
    types = dict(zip(CLASS_AWARE_COLUMNS, (int, str, float, int, int, int), strict=True))
    columns = read_columns(path, types, {}, REMEDY)
    in_order = np.repeat(mixtures, len(means)), np.tile(np.array(list(means), object), len(mixtures))
    labels = {}
    with content_of(path, CHANGED):
        if not all(map(np.array_equal, (columns["mixture"], columns["threshold"]), in_order)):
            raise ValueError("does not hold every threshold of classification.csv once for every mixture")
        for number, (threshold, expected) in enumerate(means.items()):
            ca_sdri, *counts = (columns[name][number :: len(means)] for name in CLASS_AWARE_COLUMNS[2:])
            measured = labels[threshold] = MeasuredLabels(ca_sdri, LabelCounts(*counts))
            possible = _possible(measured, activity)
            if not possible.all():
                raise ValueError(f"mixture {mixtures[possible.argmin()]}, {threshold} has impossible numbers")
            for name in LABEL_MEASURES:
                mean = measured.mean(name)
                if not np.isclose(expected[name], mean, rtol=0.0, atol=ROUNDING, equal_nan=True):
                    raise ValueError(
                        f"{threshold} has a {name} of {mean:.5f} there, of {expected[name]:.5f} in classification.csv"
                    )
    return labels


def _possible(labels: MeasuredLabels, activity: np.ndarray) -> np.ndarray:
    """Return whether a mixture can have its counts, and has a CA-SDRi where it has a label, ``[mixtures]``."""
    correct, missed, false = labels.counts.correct, labels.counts.missed, labels.counts.false
    active, num_classes = activity.sum(1), activity.shape[1]
    counted = (np.min([correct, missed, false], axis=0) >= 0) & (correct + missed == active)
    measured = np.where(active + false > 0, np.isfinite(labels.ca_sdri_db), np.isnan(labels.ca_sdri_db))
    return counted & (active + false <= num_classes) & measured
