"""What a finished run measured, read back from its folder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tse_refine.checkpoint import CHECKPOINT_KEY, read_checkpoint
from tse_refine.errors import InputError
from tse_refine.grid import Condition, threshold_name
from tse_refine.results import (
    CLASSIFICATION_COLUMNS,
    PER_CLASS_COLUMNS,
    PROBABILITY_COLUMNS,
    RESULT_COLUMNS,
    read_table,
)
from tse_refine.run_folder import RunFolder

COST_COLUMNS = ("parameters", "parameters_classifier", "gmac_per_second", "gmac_per_second_classifier")


@dataclass(frozen=True)
class Grid:
    """The measures of every mixture, condition and threshold; NaN where there is none.

    Attributes:
        mixtures: their numbers, ``[mixtures]``, ascending.
        conditions: pairs (active, inactive), in the file's order.
        thresholds: as written, in the file's order.
        snri_db: ``[mixtures, conditions, thresholds]``.
        attenuation_db: ``[mixtures, conditions, thresholds]``.
        input_snr_db: ``[mixtures, conditions]``.
        kept_active: active classes in the refined query, ``[mixtures, conditions, thresholds]``.
        kept_inactive: inactive ones.
        questions: what each mixture was asked, one text a mixture: two runs with the same were asked the same.
    """

    mixtures: np.ndarray
    conditions: list[Condition]
    thresholds: list[str]
    snri_db: np.ndarray
    attenuation_db: np.ndarray
    input_snr_db: np.ndarray
    kept_active: np.ndarray
    kept_inactive: np.ndarray
    questions: list[str]

    def cell(self, measure: str, condition: Condition, threshold: str) -> np.ndarray:
        """Return one measure in one cell, ``[mixtures]``.

        Raises:
            KeyError: the grid has no such cell.
        """
        if condition not in self.conditions or threshold not in self.thresholds:
            raise KeyError((condition, threshold))
        place = self.conditions.index(condition), self.thresholds.index(threshold)
        return getattr(self, measure)[:, place[0], place[1]]


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


class MeasuredRun:
    """A run that ``test`` has evaluated.

    Args:
        path: the run's folder.

    Raises:
        InputError: a file of the run is missing or is not what ``test`` wrote; each property reads its own.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(path)
        self.name = self.folder.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of the training."""
        path = self.folder.config
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
            _ = config["model"]["network"]["classifier"], config["data"]["queries"]["inactive_sample_rate"]
        except FileNotFoundError:
            raise InputError(f"{path} does not exist; give the folder of a run that `tse-refine fit` made.") from None
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: is not the configuration of a run ({type(error).__name__}: {error}).") from error
        return config

    @cached_property
    def recommended_threshold(self) -> str:
        """What validation recommended when the best checkpoint was written, else the operating threshold."""
        path = self.folder.checkpoints / "best.ckpt"
        found = read_checkpoint(path)[CHECKPOINT_KEY].get("recommended_threshold") if path.exists() else None
        return threshold_name(self.config["evaluation"]["threshold"] if found is None else found)

    @cached_property
    def grid(self) -> Grid:
        """The rows of ``results.csv``."""
        path = self.folder.test / "results.csv"
        rows = read_table(path, RESULT_COLUMNS)
        if not rows:
            raise InputError(f"{path} holds no row; run `tse-refine test` again.")
        try:
            return _grid(rows)
        except (ValueError, TypeError) as error:  # half a line, or a word where a number belongs
            raise InputError(
                f"{path}: {error}. The file is cut off or changed; run `tse-refine test` again."
            ) from error

    @cached_property
    def cost(self) -> dict[str, float]:
        """Parameters and multiply-accumulates, as ``cost.csv`` names them."""
        path = self.folder.test / "cost.csv"
        rows = read_table(path, COST_COLUMNS)
        try:
            return {name: float(rows[0][name]) for name in COST_COLUMNS}
        except (IndexError, TypeError, ValueError) as error:
            raise InputError(f"{path}: holds no costs ({error}); run `tse-refine test` again.") from error

    @cached_property
    def macro_f1(self) -> dict[str, float]:
        """Macro F1 of the classifier by threshold; empty without one."""
        path = self.folder.test / "classification.csv"
        if self.config["model"]["network"]["classifier"] is None:
            return {}
        rows = read_table(path, CLASSIFICATION_COLUMNS)
        try:
            return {row["threshold"]: float(row["macro_f1"]) for row in rows}
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; run `tse-refine test` again.") from error

    @cached_property
    def per_class(self) -> dict[str, list[ClassScore]]:
        """Scores of every class by threshold, in the file's order; empty without a classifier."""
        path = self.folder.test / "per_class.csv"
        if self.config["model"]["network"]["classifier"] is None:
            return {}
        scores: dict[str, list[ClassScore]] = {}
        try:
            for row in read_table(path, PER_CLASS_COLUMNS):
                measures = (float(row[name] or "nan") for name in PER_CLASS_COLUMNS[3:])
                score = ClassScore(row["class"], int(row["support"]), *measures)
                scores.setdefault(row["threshold"], []).append(score)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; run `tse-refine test` again.") from error
        listed = [[score.name for score in members] for members in scores.values()]
        if not scores or any(names != listed[0] or len(set(names)) != len(names) for names in listed):
            raise InputError(
                f"{path}: not every threshold has one row a class; the file is cut off or changed; run `tse-refine "
                "test` again."
            )
        return scores

    @cached_property
    def decisions(self) -> Decisions | None:
        """The classifier's probabilities, from ``probabilities.csv``; None without a classifier."""
        path = self.folder.test / "probabilities.csv"
        if self.config["model"]["network"]["classifier"] is None:
            return None
        rows = read_table(path, PROBABILITY_COLUMNS)
        try:
            names = list(dict.fromkeys(row["class"] for row in rows))
            shape = (len(rows) // max(1, len(names)), len(names))
            tidy = [row["class"] for row in rows] == names * shape[0]
            same = [int(row["mixture"]) for row in rows] == np.repeat(self.grid.mixtures, shape[1]).tolist()
            probability, active = (
                np.array([float(row[name]) for row in rows]).reshape(shape) for name in ("probability", "active")
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}; run `tse-refine test` again.") from error
        if not tidy or not same:
            raise InputError(
                f"{path}: does not hold every class of every mixture of results.csv; it is cut off or of another "
                "test; run `tse-refine test` again."
            )
        return Decisions(names, probability, active > 0)


def _grid(rows: list[dict[str, str]]) -> Grid:
    conditions = list(dict.fromkeys((int(row["active"]), int(row["inactive"])) for row in rows))
    thresholds = list(dict.fromkeys(row["threshold"] for row in rows))
    mixtures = np.array(sorted({int(row["mixture"]) for row in rows}))
    place = {int(mixture): number for number, mixture in enumerate(mixtures)}
    column = {threshold: number for number, threshold in enumerate(thresholds)}
    line = {condition: number for number, condition in enumerate(conditions)}
    shape = (len(mixtures), len(conditions), len(thresholds))
    numbers = {
        name: np.full(shape, np.nan)
        for name in ("snri_db", "attenuation_db", "n_kept_active", "n_kept_inactive", "input_snr_db")
    }
    asked: list[dict[int, str]] = [{} for _ in mixtures]
    for row in rows:
        if any(row[name] is None for name in RESULT_COLUMNS):
            raise ValueError(f"the row of mixture {row['mixture']} breaks off")
        c = line[int(row["active"]), int(row["inactive"])]
        cell = (place[int(row["mixture"])], c, column[row["threshold"]])
        for name, values in numbers.items():
            values[cell] = float(row[name] or "nan")
        asked[cell[0]][c] = f"{row['query_active']}/{row['query_inactive']}"
    return Grid(
        mixtures,
        conditions,
        thresholds,
        numbers["snri_db"],
        numbers["attenuation_db"],
        numbers["input_snr_db"][:, :, 0],
        numbers["n_kept_active"],
        numbers["n_kept_inactive"],
        [" ".join(texts[c] for c in sorted(texts)) for texts in asked],
    )
