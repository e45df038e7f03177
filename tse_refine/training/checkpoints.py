"""The two checkpoints of a run: ``best.ckpt``, the best validated weights, and ``last.ckpt``, the latest state."""

from __future__ import annotations

import io
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning import __version__ as lightning_version
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tse_refine.errors import InputError
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import replacing
from tse_refine.model.checkpoint import read_checkpoint
from tse_refine.model.weights import SUFFIX
from tse_refine.training.csv_logger import RunCSVLogger

# what Lightning needs to go on from a checkpoint, also in a test
_TRAINING_KEYS = ("pytorch-lightning_version", "loops", "callbacks", "epoch", "global_step")
BEST, LAST = "best", ModelCheckpoint.CHECKPOINT_NAME_LAST


class RunCheckpoint(ModelCheckpoint):
    """Writes ``best.ckpt`` after validations that improve, and ``last.ckpt`` after every epoch and within long ones.

    Lightning's own callback writes ``last.ckpt`` only in steps that also improve.

    Args:
        dirpath: folder of the checkpoints; by default ``checkpoints`` in the run's folder.
        monitor: metric of the validation that tells which weights are best.
        mode: ``max`` where larger is better, ``min`` where smaller is.
        save_top_k: 1 for both files, 0 for ``last.ckpt`` alone.
        train_time_interval: time, such as ``00:10:00``, after which ``last.ckpt`` is written within an epoch; null to
            write it after epochs only.

    Raises:
        InputError: ``save_top_k`` is another number, or the interval is negative.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        monitor: str = "val/snri_db/1a0i/none",
        mode: str = "max",
        save_top_k: int = 1,
        train_time_interval: timedelta | None = timedelta(minutes=10),
    ) -> None:
        if save_top_k not in (0, 1):
            raise InputError(
                f"checkpoint.save_top_k is {save_top_k}; a run keeps one best checkpoint, so 1 is expected, or 0 for "
                "last.ckpt alone. To keep more, add Lightning's ModelCheckpoint to trainer.callbacks."
            )
        if train_time_interval is not None and train_time_interval < timedelta(0):
            raise InputError(f"checkpoint.train_time_interval is {train_time_interval}; it must not be negative.")
        # a resumed training replaces its checkpoints, so that no version is counted
        super().__init__(
            dirpath, BEST, monitor, save_last=True, save_top_k=save_top_k, mode=mode, enable_version_counter=False
        )
        self.interval = train_time_interval
        self._last_saved = time.monotonic()

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint: that of Lightning's callback, which earlier versions used."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore which score the best checkpoint has, also where the run's folder has been moved."""
        best = self.format_checkpoint_name({}, BEST)
        if state_dict["best_k_models"] and Path(best).is_file():
            (score,) = state_dict["best_k_models"].values()
            paths = dict.fromkeys(("best_model_path", "kth_best_model_path"), best)
            state_dict = {**state_dict, **paths, "dirpath": self.dirpath, "best_k_models": {best: score}}
        super().load_state_dict(state_dict)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the first interval."""
        self._last_saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write ``last.ckpt`` when the interval is over; the end of an epoch does so after its validation."""
        ends = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.interval is None or ends or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        due = time.monotonic() - self._last_saved >= self.interval.total_seconds()
        if trainer.strategy.broadcast(due):  # saving takes all ranks, whose clocks differ
            self.write_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``best.ckpt`` if this validation is the best and not the one at the end of each epoch."""
        if not self._should_save_on_train_epoch_end(trainer):
            self._save_best(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write ``best.ckpt`` if the validation of the epoch is the best, and ``last.ckpt`` whether it is or not."""
        if self._should_save_on_train_epoch_end(trainer):
            self._save_best(trainer)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.write_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write nothing: the end of the last epoch has."""

    def write_last(self, trainer: Trainer) -> None:
        """Write ``last.ckpt``; all ranks call this, between two steps."""
        self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        if trainer.is_global_zero:
            RunFolder(trainer.default_root_dir).forget_replaced()
        self._last_saved = time.monotonic()

    def _save_best(self, trainer: Trainer) -> None:
        fits = trainer.state.fn == "fit" and not trainer.sanity_checking
        candidates = self._monitor_candidates(trainer)
        if fits and not trainer.fast_dev_run and self.monitor in candidates:  # type: ignore[attr-defined]
            self._save_topk_checkpoint(trainer, candidates)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        _write_metrics(trainer)
        super()._save_checkpoint(trainer, filepath)


def _write_metrics(trainer: Trainer) -> None:
    """Write the metrics of all steps that a checkpoint has behind it: a training goes on after them.

    Within an epoch Lightning logs a step after the callbacks that write checkpoints, too late for a process that is
    stopped or killed there.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    stepped = progress.current.ready % trainer.accumulate_grad_batches == 0
    interval = trainer.log_every_n_steps  # type: ignore[attr-defined]  # 0 logs no step
    if not progress.is_last_batch and stepped and interval and trainer.global_step % interval == 0:
        metrics = {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        for logger in trainer.loggers:
            if isinstance(logger, RunCSVLogger):  # which keeps one row per step, however often it is logged
                logger.log_metrics(metrics | {"epoch": trainer.current_epoch}, trainer.global_step - 1)
    for logger in trainer.loggers:
        logger.save()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it once it is on the disk; reads only those of this package.

    Lightning's own writes to the folder of temporary files, which may be full, or on another file system.
    """

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint, after the checks of every command.

        Raises:
            InputError: as :func:`tse_refine.model.checkpoint.read_checkpoint`, or it has no state of a training.
        """
        checkpoint = read_checkpoint(path)
        if checkpoint.path.suffix == SUFFIX:  # weights alone, which a test needs no more than
            return {**checkpoint.content, "pytorch-lightning_version": lightning_version, "epoch": 0, "global_step": 0}
        if missing := [key for key in _TRAINING_KEYS if key not in checkpoint.content]:
            raise InputError(
                f"--ckpt_path: {path} has a network alone, without {missing[0]}; expected is checkpoints/best.ckpt or "
                "last.ckpt of a run, as its training wrote them."
            )
        return super().load_checkpoint(path, *args, **options)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint whole or not at all.

        Raises:
            OSError: the file cannot be written; an older one is untouched.
        """
        content = io.BytesIO()  # in memory, because torch hides why a file cannot be written
        torch.save(checkpoint, content)
        with replacing(Path(path)) as temporary, open(temporary, "wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
