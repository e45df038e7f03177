"""What a finished run measured, read back from its folder."""

from __future__ import annotations

import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tse_refine.analysis.measured_classifier import ClassScore, Decisions, read_class_scores, read_decisions
from tse_refine.analysis.measured_grid import Grid, read_grid
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import WORDS, threshold_name
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS, REMEDY
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.tables import read_csv
from tse_refine.model.checkpoint import CHECKPOINT_KEY, read_checkpoint
from tse_refine.version import PACKAGE

COST_COLUMNS = ("parameters", "parameters_classifier", "gmac_per_second", "gmac_per_second_classifier")


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
        config = _read_config(path)[0]
        if config is None:
            raise InputError(f"{path} does not exist; give the folder of a run that `tse-refine fit` made.")
        try:
            model, data, trainer = config["model"], config["data"], config.get("trainer", {})
            numbers = model["loss_weight"], data["queries"]["inactive_sample_rate"], config["evaluation"]["threshold"]
            if not isinstance(model["network"]["classifier"], dict | None) or not isinstance(trainer, dict):
                raise TypeError("model.network.classifier or trainer is a single value")
            if not all(isinstance(number, int | float) for number in numbers):
                raise TypeError(f"numbers are expected as loss weight, inactive sample rate and threshold: {numbers}")
        except (KeyError, TypeError) as error:
            raise _no_config(path, error) from error
        return config

    @cached_property
    def test_config(self) -> dict[str, Any]:
        """The configuration of the test; empty where none was saved, as by a test from Python."""
        return _read_config(self.folder.test / "config.yaml")[0] or {}

    @cached_property
    def version(self) -> str | None:
        """The version of the package that tested the run; None where it was not recorded."""
        return _read_config(self.folder.test / "config.yaml")[1]

    @cached_property
    def recommended_threshold(self) -> str:
        """What validation recommended when the best checkpoint was written, else the operating threshold."""
        path = self.folder.checkpoints / "best.ckpt"
        found = read_checkpoint(path)[CHECKPOINT_KEY].get("recommended_threshold") if path.exists() else None
        return threshold_name(self.config["evaluation"]["threshold"] if found is None else found)

    @cached_property
    def grid(self) -> Grid:
        """The rows of ``results.csv``, which ``summary.csv`` agrees with."""
        return read_grid(self.folder.test)

    @cached_property
    def cost(self) -> dict[str, float]:
        """Parameters and multiply-accumulates, as ``cost.csv`` names them."""
        path = self.folder.test / "cost.csv"
        rows = read_csv(path, COST_COLUMNS, REMEDY)
        try:
            (cost,) = ({name: float(row[name]) for name in COST_COLUMNS} for row in rows)
            if not all(0.0 <= value < math.inf for value in cost.values()):
                raise ValueError(f"a number is negative or not finite: {', '.join(rows[0].values())}")
        except ValueError as error:
            raise InputError(
                f"{path}: does not hold one row of costs ({error}); run `tse-refine test` again."
            ) from error
        return cost

    @cached_property
    def macro_f1(self) -> dict[str, float]:
        """Macro F1 of the classifier by threshold; empty without one."""
        path = self.folder.test / "classification.csv"
        thresholds = [threshold for threshold in self.grid.thresholds if threshold not in WORDS]
        if self.config["model"]["network"]["classifier"] is None:
            if thresholds:
                raise InputError(
                    f"{self.folder.test / 'results.csv'} has refined queries ({', '.join(thresholds)}), but "
                    f"{self.folder.config} describes a network without a classifier; run `tse-refine test` again."
                )
            return {}
        rows = read_csv(path, CLASSIFICATION_COLUMNS, REMEDY)
        try:
            scores = [[float(row[name]) for name in CLASSIFICATION_COLUMNS[1:]] for row in rows]
            if [row["threshold"] for row in rows] != thresholds:
                raise ValueError(
                    f"its thresholds are {', '.join(row['threshold'] for row in rows) or 'none'}, those of results.csv "
                    f"{', '.join(thresholds)}"
                )
            if not all(0.0 <= score <= 1.0 for row in scores for score in row):
                raise ValueError("a score is not from 0 to 1")
        except ValueError as error:
            raise InputError(
                f"{path}: {error}. It is changed or of another test; run `tse-refine test` again."
            ) from error
        return {threshold: row[0] for threshold, row in zip(thresholds, scores, strict=True)}

    @cached_property
    def per_class(self) -> dict[str, list[ClassScore]]:
        """Scores of every class by threshold; empty without a classifier."""
        if self.decisions is None:
            return {}
        thresholds = [threshold for threshold in self.grid.thresholds if threshold not in WORDS]
        return read_class_scores(self.folder.test / "per_class.csv", thresholds, self.decisions)

    @cached_property
    def decisions(self) -> Decisions | None:
        """What the classifier believed of every mixture; None without one."""
        if self.config["model"]["network"]["classifier"] is None:
            return None
        return read_decisions(self.folder.test / "probabilities.csv", self.grid.mixtures.tolist())


def _read_config(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Return a saved configuration and the package's version that saved it; None for what is not there."""
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text)
        if not isinstance(config, dict) or not all(isinstance(config.get(k), dict) for k in ("data", "evaluation")):
            raise TypeError("no options of data and evaluation in it")
    except FileNotFoundError:
        return None, None
    except (yaml.YAMLError, TypeError, UnicodeDecodeError) as error:
        raise _no_config(path, error) from error
    version = re.search(rf"^# {PACKAGE}==(\S+)$", text, re.MULTILINE)
    return config, version[1] if version else None


def _no_config(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: is not the configuration of a run ({type(error).__name__}: {' '.join(str(error).split())}). Restore "
        "it, or train and test again."
    )
