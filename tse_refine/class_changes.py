"""What refinement does to each class: pooled over a system's runs, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tse_refine.comparison import System
from tse_refine.errors import InputError
from tse_refine.grid import NONE
from tse_refine.results import PER_CLASS_CONDITION, RESULT_COLUMNS, read_table
from tse_refine.statistics import Interval, pooled_mean


@dataclass(frozen=True)
class ClassChange:
    """One class at one threshold, over all runs of a system.

    Attributes:
        name: of the class.
        support: mixtures that hold it.
        asked: mixtures that ask for it at (1:3), beside three inactive classes.
        raw: their SNRi without refinement, in dB; NaN where there are none.
        refined: with it.
        change: refined - raw, in dB, paired over mixtures and runs; one cell.
        recall: of the classifier, in [0, 1], mean over runs; NaN where no mixture holds the class.
    """

    name: str
    support: int
    asked: int
    raw: float
    refined: float
    change: Interval
    recall: float

    @property
    def false_negative_rate(self) -> float:
        """How often the class is taken out of a query although it is there, in [0, 1]."""
        return 1.0 - self.recall


def class_changes(system: System, threshold: str) -> list[ClassChange]:
    """Return every class of a system that refines, by name.

    Args:
        system: its runs share the test mixtures.
        threshold: as the grid writes it, a number.

    Raises:
        InputError: (1:3) or the threshold was not tested.
    """
    run = system.runs[0]
    try:
        raw, refined = (system.cell("snri_db", PER_CLASS_CONDITION, t) for t in (NONE, threshold))  # [runs, mixtures]
        scores = [{score.name: score for score in one.per_class[threshold]} for one in system.runs]
    except KeyError:
        raise InputError(
            f"{run.folder.path} was not tested at (1:3) with the thresholds none and {threshold}; test it with "
            "--evaluation.conditions and --evaluation.thresholds that hold them."
        ) from None
    asked_class = _asked_class(system)
    changes = []
    for name, score in sorted(scores[0].items()):
        members = asked_class == name
        means = [float(values[:, members].mean()) if members.any() else float("nan") for values in (raw, refined)]
        change = pooled_mean((refined - raw)[:, members, None]) if members.any() else Interval(*np.full((3, 1), np.nan))
        recall = float(np.mean([one[name].recall for one in scores])) if score.support else float("nan")
        changes.append(ClassChange(name, score.support, int(members.sum()), *means, change, recall))
    return changes


def _asked_class(system: System) -> np.ndarray:
    """Return the one active class that each mixture asks for at (1:3), ``[mixtures]``; the same in all runs."""
    run = system.runs[0]
    active, inactive = (str(number) for number in PER_CLASS_CONDITION)
    rows = read_table(run.folder.test / "results.csv", RESULT_COLUMNS)
    asked = {
        int(row["mixture"]): row["query_active"]
        for row in rows
        if row["active"] == active and row["inactive"] == inactive
    }
    return np.array([asked.get(int(mixture), "") for mixture in run.grid.mixtures])
