"""The callback that evaluates query refinement: after each validation epoch, and in test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from tse_refine.data.dataset import Batch
from tse_refine.errors import InputError
from tse_refine.evaluation.classification import classification_scores, mean_average_precision
from tse_refine.evaluation.conditions import (
    GATE,
    NONE,
    ORACLE,
    Threshold,
    condition_key,
    parse_conditions,
    parse_thresholds,
    threshold_key,
    threshold_name,
    unique,
)
from tse_refine.evaluation.grid import GridResults, evaluate_batch
from tse_refine.evaluation.results import (
    SUMMARY_COLUMNS,
    Row,
    earlier_results,
    numeric,
    summary_rows,
    summary_table,
    write_test_results,
)
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.tables import read_csv, write_csv
from tse_refine.model.checkpoint import CHECKPOINT_KEY
from tse_refine.model.cost import measure_cost

# the published grid as far as its text says it, and ours beside it
TEST_CONDITIONS = [[1, 0], [1, 1], [1, 2], [1, 3], [1, 5], [2, 0], [2, 1], [2, 2], [2, 3], [3, 0], [3, 1], [3, 3]]
TEST_CONDITIONS += [[0, 1], [0, 3]]
TEST_THRESHOLDS = [NONE, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, ORACLE, GATE]
VALIDATION_CONDITIONS = [[1, 0], [1, 1], [1, 3], [2, 2], [0, 1]]
VALIDATION_THRESHOLDS = [NONE, 0.1, 0.3, 0.5, ORACLE]
LOG_NAMES = ("train/loss", "train/loss_tse", "train/loss_sed", "train/snri_db", "val/loss")


class QueryRefinementEvaluation(Callback):
    """Evaluates conditions (active:inactive) by thresholds on the features that the module's step returns.

    After validation it logs the named metrics, appends to ``validation.csv``, recommends a threshold and prints a
    table; after test it writes ``RUN/test/`` and prints the table. A network without a classifier has only the
    thresholds ``none`` and ``oracle``.

    Args:
        threshold: the operating threshold (delta); logged as ``refined``, and the gate's (0.1: the paper wants few
            false negatives).
        conditions: pairs [active, inactive] of the test.
        thresholds: of the test: numbers, ``none`` (no refinement), ``oracle`` (the true activity), ``gate`` (silence
            when no queried class reaches the operating threshold, otherwise the raw query).
        validation_conditions: pairs [active, inactive] after each validation epoch.
        validation_thresholds: after each validation epoch; the recommended one is among them.
        queries_per_pass: queries that go through the mask estimator together; a matter of memory.
    """

    def __init__(
        self,
        threshold: float = 0.1,
        conditions: list[Any] = TEST_CONDITIONS,
        thresholds: list[Any] = TEST_THRESHOLDS,
        validation_conditions: list[Any] = VALIDATION_CONDITIONS,
        validation_thresholds: list[Any] = VALIDATION_THRESHOLDS,
        queries_per_pass: int = 16,
    ) -> None:
        self.threshold = _operating_threshold(threshold)
        self.given = {
            "val": (validation_conditions, validation_thresholds),
            "test": (conditions, thresholds),
        }
        self.thresholds_of = {
            "val": parse_thresholds(validation_thresholds, "evaluation.validation_thresholds"),
            "test": parse_thresholds(thresholds, "evaluation.thresholds"),
        }
        if queries_per_pass < 1:
            raise InputError(f"evaluation.queries_per_pass is {queries_per_pass}; at least 1 is expected.")
        self.queries_per_pass = queries_per_pass
        self.recommended_threshold: float | None = None
        self.test_config: str | None = None  # what RUN/test/config.yaml will say; the command line knows it
        self._parts: list[GridResults] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the grids against the data, and what other callbacks monitor, before anything runs."""
        data = trainer.datamodule
        most_active, num_classes = max(data.mixture.num_events), len(data.class_names)
        options = {"val": "evaluation.validation_conditions", "test": "evaluation.conditions"}
        self.conditions_of = {
            split: parse_conditions(self.given[split][0], option, most_active, num_classes)
            for split, option in options.items()
        }
        if pl_module.network.classifier is None:
            self.thresholds_of = {
                split: [t for t in thresholds if t in (NONE, ORACLE)]
                for split, thresholds in self.thresholds_of.items()
            }
        else:  # the operating threshold is always measured
            self.thresholds_of = {
                split: unique([*thresholds, *([] if self.threshold in thresholds else [self.threshold])])
                for split, thresholds in self.thresholds_of.items()
            }
        for split, thresholds in self.thresholds_of.items():
            if not thresholds:
                option = "evaluation.validation_thresholds" if split == "val" else "evaluation.thresholds"
                raise InputError(f"{option}: a network without a classifier needs 'none' or 'oracle' there.")
        if stage == "fit":
            self._check_monitors(trainer)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._parts = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew."""
        self._parts = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which results this test will replace, while it can still be stopped."""
        folder = RunFolder(trainer.default_root_dir).test
        earlier = earlier_results(folder) if trainer.is_global_zero else None
        if earlier is not None:
            print(f"{folder}: replacing {earlier}, when this test ends", file=sys.stderr, flush=True)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: int
    ) -> None:
        """Evaluate a batch on the features that ``validation_step`` returned."""
        self._evaluate(trainer, pl_module, outputs, batch, "val")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: int
    ) -> None:
        """Evaluate a batch on the features that ``test_step`` returned."""
        self._evaluate(trainer, pl_module, outputs, batch, "test")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log, recommend a threshold, print and append to ``validation.csv``; in the sanity check only compute."""
        results = _joined(self._parts)
        conditions, thresholds = self.conditions_of["val"], self.thresholds_of["val"]
        rows = summary_rows(results, conditions, thresholds)
        metrics = self._metrics(results, rows, "val")
        if trainer.sanity_checking:
            return
        pl_module.log_dict(metrics, batch_size=1, sync_dist=True)
        self.recommended_threshold = _recommended(rows, thresholds)
        if trainer.is_global_zero:
            _show(pl_module, f"\n{self._heading(trainer)}\n{summary_table(rows)}\n")
            if trainer.state.fn == "fit" and not trainer.fast_dev_run:
                _append_validation(Path(trainer.default_root_dir) / "validation.csv", rows, trainer.current_epoch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write every result file, print the table, log the named metrics."""
        results = _joined(self._parts)
        conditions, thresholds = self.conditions_of["test"], self.thresholds_of["test"]
        rows: list[Row]
        if trainer.is_global_zero:
            folder = RunFolder(trainer.default_root_dir).test
            cost = measure_cost(pl_module.network)
            rows = write_test_results(
                folder, results, conditions, thresholds, pl_module.class_names, cost, self.test_config
            )
            recommended = (
                ""
                if self.recommended_threshold is None
                else (f"; recommended on validation: {threshold_name(self.recommended_threshold)}")
            )
            _show(
                pl_module,
                f"\nTest, {len(results.index)} mixtures{recommended}\n{summary_table(rows)}\nWritten to {folder}",
            )
        else:
            rows = summary_rows(results, conditions, thresholds)
        pl_module.log_dict(self._metrics(results, rows, "test"), batch_size=1, sync_dist=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the recommended threshold."""
        checkpoint.setdefault(CHECKPOINT_KEY, {})["recommended_threshold"] = self.recommended_threshold

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember the threshold that was recommended when the checkpoint was written."""
        self.recommended_threshold = checkpoint.get(CHECKPOINT_KEY, {}).get("recommended_threshold")

    def metric_names(self, split: str) -> list[str]:
        """Return the names of the metrics that are logged for ``val`` or ``test``."""
        thresholds = self.thresholds_of[split]
        names = [
            f"{split}/{'snri_db' if condition[0] else 'attenuation_db'}/{condition_key(condition)}/{key}"
            for condition in self.conditions_of[split]
            for threshold in thresholds
            for key in self._keys(threshold)
        ]
        if numeric(thresholds):
            names += [f"{split}/macro_f1/{threshold_key(threshold)}" for threshold in numeric(thresholds)]
            names.append(f"{split}/map")
        return names

    def _keys(self, threshold: Threshold) -> list[str]:
        """Return the names that a threshold is logged under; the operating one has a second, fixed name for sweeps."""
        return [threshold_key(threshold), *(["refined"] if threshold == self.threshold else [])]

    def _metrics(self, results: GridResults, rows: list[Row], split: str) -> dict[str, float]:
        metrics = {}
        cells = [(c, t) for c in self.conditions_of[split] for t in self.thresholds_of[split]]
        for (condition, threshold), row in zip(cells, rows, strict=True):
            measure = "snri_db" if condition[0] else "attenuation_db"
            for key in self._keys(threshold):
                metrics[f"{split}/{measure}/{condition_key(condition)}/{key}"] = float(row[measure])
        for threshold in numeric(self.thresholds_of[split]):
            scores = classification_scores(results.probability, results.activity, threshold)
            metrics[f"{split}/macro_f1/{threshold_key(threshold)}"] = scores.macro("f1")
        if numeric(self.thresholds_of[split]):
            metrics[f"{split}/map"] = mean_average_precision(results.probability, results.activity)
        return metrics

    def _evaluate(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, split: str) -> None:
        self._parts.append(
            evaluate_batch(
                pl_module.network,
                outputs["features"],
                outputs["probability"],
                batch,
                self.conditions_of[split],
                self.thresholds_of[split],
                self.threshold,
                self.queries_per_pass,
                trainer.precision_plugin.forward_context,
            )
        )

    def _check_monitors(self, trainer: Trainer) -> None:
        known = [*self.metric_names("val"), *LOG_NAMES]
        for callback in trainer.callbacks:
            monitor = callback.monitor if isinstance(callback, Checkpoint | EarlyStopping) else None
            if monitor is not None and monitor not in known:
                raise InputError(
                    f"{type(callback).__name__} monitors {monitor!r}, which is not logged. Logged are "
                    f"{', '.join(known)}; evaluation.validation_conditions and validation_thresholds decide."
                )

    def _heading(self, trainer: Trainer) -> str:
        recommended = (
            ""
            if self.recommended_threshold is None
            else (f", recommended threshold {threshold_name(self.recommended_threshold)}")
        )
        return f"Validation after epoch {trainer.current_epoch}{recommended}"


def _show(pl_module: LightningModule, text: str) -> None:
    """Print beside the progress bar, and at once also where the output is a file."""
    pl_module.print(text)
    sys.stdout.flush()


def _operating_threshold(threshold: float) -> float:
    if not 0.0 <= threshold <= 1.0:
        raise InputError(f"evaluation.threshold is {threshold}; a number from 0 to 1 is expected.")
    return float(threshold_name(threshold))  # as the lists of thresholds are kept


def _joined(parts: list[GridResults]) -> GridResults:
    """Join the batches of all processes."""
    mine = GridResults.join(parts)
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return mine
    everyone: list[GridResults] = [mine] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return GridResults.join(everyone)


def _recommended(rows: list[Row], thresholds: list[Threshold]) -> float | None:
    """Return the threshold with the best mean SNRi over fully and partially matched queries; None without numbers."""

    def score(threshold: float) -> float:
        chosen = [row["snri_db"] for row in rows if row["active"] and row["threshold"] == threshold_name(threshold)]
        return sum(chosen) / len(chosen)

    candidates = numeric(thresholds)
    return max(candidates, key=score) if candidates and any(row["active"] for row in rows) else None


def _append_validation(path: Path, rows: list[Row], epoch: int) -> None:
    """Add an epoch's rows; those of the same or a later epoch are from a training that was resumed before them."""
    columns = (*SUMMARY_COLUMNS, "epoch")
    earlier = read_csv(path, columns) if path.exists() else []
    kept: list[Row] = [row for row in earlier if int(row["epoch"]) < epoch]
    write_csv(path, columns, [*kept, *({**row, "epoch": epoch} for row in rows)])
