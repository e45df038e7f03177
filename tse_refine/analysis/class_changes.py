"""What refinement does to each class: pooled over a system's runs, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tse_refine.analysis.decision_tables import mean_scores
from tse_refine.analysis.measured_classifier import ClassScore
from tse_refine.analysis.systems import System
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import NONE
from tse_refine.evaluation.results import PER_CLASS_CONDITION, REMEDY, RESULT_COLUMNS
from tse_refine.evaluation.statistics import Interval, pooled_mean
from tse_refine.files.tables import read_csv


@dataclass(frozen=True)
class ClassChange:
    """One class at one threshold, over all runs of a system.

    Attributes:
        score: means over the runs.
        asked: mixtures that ask for the class at (1:3), beside three inactive classes.
        change: their SNRi with refinement minus without, in dB, paired over mixtures and runs, one cell; NaN where
            there are none.
    """

    score: ClassScore
    asked: int
    change: Interval

    @property
    def false_negative_rate(self) -> float:
        """How often the class is taken out of a query although it is there, in [0, 1]; NaN where it never is."""
        return 1.0 - self.score.recall if self.score.support else float("nan")


def class_changes(system: System, threshold: str) -> list[ClassChange]:
    """Return what refinement does to every class of a system that refines.

    Args:
        system: its runs share the test mixtures.
        threshold: as the grid writes it, a number.

    Raises:
        InputError: (1:3) or the threshold was not tested.
    """
    run = system.runs[0]
    try:
        scores = mean_scores(system, threshold)
        raw, refined = (system.cell("snri_db", PER_CLASS_CONDITION, t) for t in (NONE, threshold))  # [runs, mixtures]
    except KeyError:
        raise InputError(
            f"{run.folder.path} was not tested at (1:3) with the thresholds none and {threshold}; test it with "
            "--evaluation.conditions and --evaluation.thresholds that hold them."
        ) from None
    asked_class = _asked_class(run)
    changes = []
    for score in scores:
        members = asked_class == score.name
        nothing = Interval(*np.full((3, 1), np.nan))
        change = pooled_mean((refined - raw)[:, members, None]) if members.any() else nothing
        changes.append(ClassChange(score, int(members.sum()), change))
    return changes


def _asked_class(run: MeasuredRun) -> np.ndarray:
    """Return the one active class that each mixture asks for at (1:3), ``[mixtures]``; the same in all runs."""
    active, inactive = (str(number) for number in PER_CLASS_CONDITION)
    rows = read_csv(run.folder.test / "results.csv", RESULT_COLUMNS, REMEDY)
    asked = {
        int(row["mixture"]): row["query_active"]
        for row in rows
        if row["active"] == active and row["inactive"] == inactive
    }
    return np.array([asked.get(int(mixture), "") for mixture in run.grid.mixtures])
