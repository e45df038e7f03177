"""What a finished run measured, read back from its folder."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from tse_refine.errors import InputError
from tse_refine.grid import Condition, threshold_name
from tse_refine.module import CHECKPOINT_KEY
from tse_refine.results import CLASSIFICATION_COLUMNS, RESULT_COLUMNS, read_table
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
        found = None
        if path.exists():
            try:
                checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as error:
                raise InputError(f"{path}: cannot be read as a checkpoint; give --threshold.") from error
            found = checkpoint.get(CHECKPOINT_KEY, {}).get("recommended_threshold")
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
