"""What the classifier of a tested run believed, and how each class fares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tse_refine.errors import InputError
from tse_refine.evaluation.results import PER_CLASS_COLUMNS, PROBABILITY_COLUMNS, REMEDY
from tse_refine.files.tables import read_csv

_REMEDY = "It is cut off, changed or of another test; run `tse-refine test` again."


@dataclass(frozen=True)
class Decisions:
    """What the classifier believed and what was true.

    Attributes:
        class_names: by index.
        probability: clip-level, ``[mixtures, classes]``, in [0, 1].
        active: whether the class is in the mixture, ``[mixtures, classes]``.
    """

    class_names: list[str]
    probability: np.ndarray
    active: np.ndarray


@dataclass(frozen=True)
class ClassScore:
    """How one class fares at one threshold.

    Attributes:
        name: of the class.
        support: mixtures that hold it.
        precision: of the classifier's decisions, in [0, 1].
        recall: likewise; what it misses, refinement removes from a query that was right.
        f1: likewise.
        snri_db_none: SNRi at (1:3) with the raw query; NaN where no mixture asks for the class there.
        snri_db_refined: likewise with the refined query.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    snri_db_none: float
    snri_db_refined: float


def read_decisions(path: Path, mixtures: Sequence[int]) -> Decisions:
    """Read ``probabilities.csv``.

    Args:
        path: the file.
        mixtures: numbers of the mixtures that were tested, ascending.

    Raises:
        InputError: the file is not what a test of these mixtures wrote.
    """
    rows = read_csv(path, PROBABILITY_COLUMNS, REMEDY)
    names = list(dict.fromkeys(row["class"] for row in rows))
    due = [(str(mixture), name) for mixture in mixtures for name in names]
    try:
        if not rows or [(row["mixture"], row["class"]) for row in rows] != due:
            raise ValueError("does not hold every class of every mixture of results.csv once")
        probability, active = (
            np.array([float(row[name]) for row in rows]).reshape(len(mixtures), len(names))
            for name in ("probability", "active")
        )
        if not ((probability >= 0.0) & (probability <= 1.0)).all() or not np.isin(active, (0.0, 1.0)).all():
            raise ValueError("a probability is not from 0 to 1, or active is neither 0 nor 1")
    except ValueError as error:
        raise InputError(f"{path}: {error}. {_REMEDY}") from error
    return Decisions(names, probability, active > 0)


def read_class_scores(path: Path, thresholds: Sequence[str], decisions: Decisions) -> dict[str, list[ClassScore]]:
    """Read ``per_class.csv``.

    Args:
        path: the file.
        thresholds: the numeric ones that were tested, as written, in the order of ``results.csv``.
        decisions: of the same test.

    Returns:
        By threshold, a score a class.

    Raises:
        InputError: the file is not what the same test wrote.
    """
    rows = read_csv(path, PER_CLASS_COLUMNS, REMEDY)
    support = dict(zip(decisions.class_names, decisions.active.sum(0).tolist(), strict=True))
    due = [(threshold, name) for threshold in thresholds for name in decisions.class_names]
    scores: dict[str, list[ClassScore]] = {threshold: [] for threshold in thresholds}
    try:
        if [(row["threshold"], row["class"]) for row in rows] != due:
            raise ValueError("does not hold every class of probabilities.csv at every threshold of results.csv once")
        for row in rows:
            name, measures = row["class"], [float(row[column] or "nan") for column in PER_CLASS_COLUMNS[3:]]
            if int(row["support"]) != support[name] or not all(0.0 <= measure <= 1.0 for measure in measures[:3]):
                raise ValueError(f"the scores of {name} are impossible, or its support is not that of the test")
            scores[row["threshold"]].append(ClassScore(name, support[name], *measures))
    except ValueError as error:
        raise InputError(f"{path}: {error}. {_REMEDY}") from error
    return scores
