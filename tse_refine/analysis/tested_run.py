"""A run that ``test`` has evaluated, read back from its folder."""

from __future__ import annotations

import json
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from tse_refine.analysis.compared_options import complete_data, complete_model
from tse_refine.analysis.measurements import MeasuredClassifier, MeasuredGrid, read_classifier, read_grid
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid
from tse_refine.evaluation.logged import recommended_refinement
from tse_refine.evaluation.metrics import SNRI
from tse_refine.evaluation.results import COST_COLUMNS, REMEDY, WEIGHTS, read_validation
from tse_refine.evaluation.run_config import data_of_run, not_a_config, operating_refinement, read_config
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.tables import content_of, read_csv
from tse_refine.model.checkpoint import read_checkpoint, weights_digest
from tse_refine.model.cost import Cost
from tse_refine.refinement import Refinement, parse_refinement, parse_refinements
from tse_refine.version import PACKAGE

# options that do not change a training: where it ran, what it showed, what it was tested on
_NOT_DATA = ("digest", "cache_dir", "num_workers", "num_test", "download", "predict_indices", "aliases")
_NOT_TRAINER = (
    *("default_root_dir", "logger", "callbacks", "log_every_n_steps", "profiler", "accelerator", "barebones"),
    *("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams"),
    *("num_sanity_val_steps", "model_registry"),
)


class TestedRun:
    """A run that ``test`` has evaluated.

    Args:
        path: folder of the run.

    Raises:
        InputError: a file of the run is missing or is not what ``test`` wrote; each property reads its own, once.
    """

    __test__ = False  # its name makes pytest collect it

    def __init__(self, path: str | Path) -> None:
        self.folder = RunFolder(path)
        self.name = self.folder.path.name

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of the training."""
        path = self.folder.config
        config = read_config(path)
        if config is None:
            raise InputError(f"{path} does not exist; give the folder of a run that `tse-refine fit` made.")
        try:
            model, rate = config["model"], config["data"]["queries"]["inactive_sample_rate"]
            if not isinstance(model["network"]["classifier"], dict | None):
                raise TypeError("model.network.classifier is a single value")
            if not isinstance(config.get("trainer", {}), dict):
                raise TypeError("trainer is a single value")
            if not all(isinstance(number, int | float) for number in (model["loss_weight"], rate)):
                raise TypeError("loss weight and inactive sample rate are not numbers")
        except (KeyError, TypeError) as error:
            raise not_a_config(path, error) from error
        return config

    @cached_property
    def test_config(self) -> dict[str, Any]:
        """The configuration of the test; empty where none was saved, as by a test from Python."""
        return read_config(self.folder.test / "config.yaml") or {}

    @cached_property
    def version(self) -> str | None:
        """The version of the package that tested the run; None where it was not recorded."""
        text = (self.folder.test / "config.yaml").read_text(encoding="utf-8") if self.test_config else ""
        version = re.search(rf"^# {PACKAGE}==(\S+)$", text, re.MULTILINE)
        return version and version[1]

    @property
    def has_classifier(self) -> bool:
        """Whether the run's network can refine queries."""
        return self.config["model"]["network"]["classifier"] is not None

    @cached_property
    def training_fingerprint(self) -> str:
        """What two runs of one system have in common: the options of module, data and trainer, without the seed.

        An option that the run's version did not have yet counts as its default.
        """
        config = self.config
        data = {name: value for name, value in complete_data(config["data"]).items() if name not in _NOT_DATA}
        trainer = {name: value for name, value in config.get("trainer", {}).items() if name not in _NOT_TRAINER}
        return json.dumps([complete_model(config["model"]), data, trainer], sort_keys=True, default=str)

    @cached_property
    def operating(self) -> Refinement:
        """The operating refinement of the test, which logged metrics call ``refined``."""
        path = self.folder.test / "config.yaml" if self.test_config else self.folder.config
        return operating_refinement(path, self.test_config or self.config)

    @cached_property
    def recommended(self) -> Refinement:
        """What validation recommended at the best checkpoint, else the training's operating refinement.

        Of a run that was passed on without checkpoints, at the last epoch of ``validation.csv``.
        """
        path = self.folder.checkpoints / "best.ckpt"
        option = read_checkpoint(path).about.recommended_threshold if path.exists() else None
        if option is not None:
            return parse_refinement(option, f"{path}: the recommended threshold")
        last = None if path.exists() or not self.has_classifier else self._recommended_last()
        return last or operating_refinement(self.folder.config, self.config)

    def _recommended_last(self) -> Refinement | None:
        """Return what the last epoch of ``validation.csv`` recommends; None without the file."""
        path = self.folder.validation
        rows = read_validation(path)
        if not rows:
            return None
        with content_of(path, "It is damaged; restore it, or rename it."):
            cells: list[dict[str, Any]] = [
                {
                    "active": int(row["active"]),
                    "inactive": int(row["inactive"]),
                    "threshold": row["threshold"],
                    SNRI.name: float(row[SNRI.name] or math.nan),
                }
                for row in rows
                if row["epoch"] == rows[-1]["epoch"]
            ]
            conditions = tuple(dict.fromkeys(Condition(cell["active"], cell["inactive"]) for cell in cells))
            rules = parse_refinements([cell["threshold"] for cell in cells], str(path))
            expected = {(*condition, rule.name) for condition in conditions for rule in rules}
            if {(cell["active"], cell["inactive"], cell["threshold"]) for cell in cells} != expected:
                raise ValueError("a refinement is missing under a condition")
            return recommended_refinement(
                cells, Grid(conditions, rules), self.config["evaluation"].get("recommend_for")
            )

    @cached_property
    def checkpoint(self) -> Path:
        """The checkpoint that was tested; in a run's folder that has moved, the file of the same name there."""
        named = Path(self.test_config.get("ckpt_path") or "best.ckpt")
        own = self.folder.checkpoints / named.name
        return named if named.is_file() and not own.is_file() else own

    def tested(self, checkpoint: Path, network: nn.Module) -> bool:
        """Whether the results are those of a checkpoint; false where its file was overwritten after the test.

        Where an earlier version did not record the weights, its path and time tell.

        Args:
            checkpoint: file.
            network: its network.
        """
        rows = read_csv(self.folder.test / "cost.csv", COST_COLUMNS, REMEDY)
        if rows and WEIGHTS in rows[0]:
            return rows[0][WEIGHTS] == weights_digest(network)
        measured = (self.folder.test / "summary.csv").stat().st_mtime
        return self.checkpoint.resolve() == checkpoint.resolve() and checkpoint.stat().st_mtime <= measured

    @cached_property
    def data(self) -> MixtureDataModule:
        """The data of the test, or of the training where the test's configuration was not saved."""
        return data_of_run(self.test_config or self.config)

    @cached_property
    def grid(self) -> MeasuredGrid:
        """The rows of ``results.csv``, which ``summary.csv`` agrees with."""
        grid = read_grid(self.folder.test, self.operating.gate_threshold)
        refined = [refinement.name for refinement in grid.refinements if refinement.needs_classifier]
        if refined and not self.has_classifier:
            raise InputError(
                f"{self.folder.test / 'results.csv'} has refined queries ({', '.join(refined)}), but "
                f"{self.folder.config} describes a network without a classifier; run `tse-refine test` again."
            )
        return grid

    @cached_property
    def classifier(self) -> MeasuredClassifier | None:
        """Probabilities and scores of the classifier; None without one."""
        grid = self.grid
        return read_classifier(self.folder.test, grid) if self.has_classifier else None

    @cached_property
    def cost(self) -> Cost:
        """Parameters and multiply-accumulates of the network."""
        path = self.folder.test / "cost.csv"
        rows = read_csv(path, COST_COLUMNS, REMEDY)
        try:
            (numbers,) = ([float(row[name]) for name in COST_COLUMNS] for row in rows)
            if not all(0.0 <= number < math.inf for number in numbers):
                raise ValueError(f"a number is negative or not finite: {', '.join(rows[0].values())}")
        except ValueError as error:
            raise InputError(
                f"{path}: does not hold one row of costs ({error}); run `tse-refine test` again."
            ) from error
        return Cost(int(numbers[0]), int(numbers[1]), *numbers[2:])
