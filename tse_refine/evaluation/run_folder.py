"""The folder of a run: what lies where, and that no training overwrites another by accident."""

from __future__ import annotations

import shutil
from pathlib import Path

from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home
from tse_refine.model.weights import SUFFIX, find_checkpoint

CALIBRATED = "calibrated"  # the checkpoint that `tse-refine calibrate` writes


class RunFolder:
    """One folder with a training and what was measured of it.

    Args:
        path: the folder, ``trainer.default_root_dir``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_home(path)
        self.config = self.path / "config.yaml"
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.csv"
        self.validation = self.path / "validation.csv"
        self.test = self.path / "test"
        self.predict = self.path / "predict"
        self.replaced = self.path / "replaced"  # the training before this one, until this one has a checkpoint
        self.trained = self.path / "trained.json"  # there once a training has ended, not where it was stopped

    def holds_training(self) -> bool:
        """Whether a training has been started here."""
        return self.config.exists() or self.checkpoints.exists()

    def refuse_second_training(self, ckpt_path: str | None, overwrite: bool) -> None:
        """Reject a training into a folder that has one, unless it resumes that one or overwrites it.

        Args:
            ckpt_path: checkpoint to resume from; None for none.
            overwrite: whether to start over.

        Raises:
            InputError: names the folder and the ways out.
        """
        given = None if ckpt_path is None else Path(ckpt_path).resolve()
        resumes = given is not None and (
            given.is_relative_to(self.checkpoints.resolve()) or given in [path.resolve() for path in self._requeued()]
        )
        if resumes and overwrite:
            raise InputError(
                f"--overwrite: starting over in {self.path} would remove {ckpt_path}. Resume without --overwrite, or "
                "start over without --ckpt_path."
            )
        if self.holds_training() and not resumes and not overwrite:
            last = self.checkpoints / "last.ckpt"
            resume = f"resume with --ckpt_path {last}, " if last.exists() else ""  # none before the first epoch's end
            raise InputError(
                f"trainer.default_root_dir: {self.path} already holds a training. Give another folder, {resume}or "
                "start over with --overwrite."
            )

    def latest(self) -> str | None:
        """Return the latest state of a training that a scheduler has requeued; None where none was."""
        states = [*self._requeued(), *self.checkpoints.glob("last.ckpt")]
        return str(max(states, key=lambda path: path.stat().st_mtime)) if self._requeued() else None

    def _requeued(self) -> list[Path]:
        return list(self.path.glob("hpc_ckpt_*.ckpt"))  # Lightning's, at SLURM's signal

    def set_aside(self) -> bool:
        """Move what a training and its evaluation wrote to ``replaced``; other files stay.

        One without a checkpoint is removed: it must not take the place of one that was set aside before.

        Returns:
            Whether ``replaced`` holds a training now.
        """
        written = (self.config, self.checkpoints, self.metrics, self.validation, self.trained, self.test, self.predict)
        found = [path for path in (*written, *self._requeued()) if path.exists()]
        if self._requeued() or any(self.checkpoints.glob("*.ckpt")):
            self.forget_replaced()
            self.replaced.mkdir()
            for path in found:
                path.rename(self.replaced / path.name)
        for path in found:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return self.replaced.exists()

    def forget_replaced(self) -> None:
        """Remove the training that was set aside."""
        shutil.rmtree(self.replaced, ignore_errors=True)

    def checkpoint(self, given: str | None, needed: bool) -> str | None:
        """Return the checkpoint to use: the one given, one of this run by its name, or, where needed, its best.

        Args:
            given: path of a checkpoint, ``best``, ``last``, ``calibrated`` or None.
            needed: whether there must be one.

        Raises:
            InputError: there is no such file.
        """
        if given is None and not needed:
            return None
        named = given in (None, "best", "last", CALIBRATED)
        path = self.checkpoints / f"{given or 'best'}.ckpt" if named else find_checkpoint(expand_home(str(given)))
        if not path.is_file():
            kept = f" The training before the last --overwrite is in {self.replaced}." if self.replaced.exists() else ""
            raise InputError(
                f"--ckpt_path: {path} does not exist. Give the checkpoint to use, or in trainer.default_root_dir a run "
                f"that has one.{kept}"
            )
        if path.suffix == SUFFIX and not needed:
            raise InputError(
                f"--ckpt_path: {given} has weights alone, from which no training can be resumed; start a new one from "
                f"them with --model.init_from {given}."
            )
        return str(path)
