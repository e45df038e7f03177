"""Signals that stop a training, such as a scheduler's: the latest state is saved, and the exit status tells."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Callback

from tse_refine.errors import STOP_SIGNALS, StoppedError
from tse_refine.training.checkpoints import RunCheckpoint

_ONE_SIGNAL_SECONDS = 1.0


class StopSignals(Callback):
    """Stops a command at SIGINT, SIGTERM and SIGUSR1 with :class:`tse_refine.errors.StoppedError`.

    A training first ends the step that it is in, or the validation after an epoch, and saves ``last.ckpt``; a second
    signal, a second or more after the first, ends it at once. Every other command ends at once. In jobs of SLURM that
    are requeued SIGUSR1 and SIGTERM are Lightning's.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._since = 0.0
        self._training = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over the signals."""
        self._register()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over SIGTERM again, after Lightning has."""
        self._register()
        self._training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop, but after the last step of an epoch: from there a resumed training would not validate."""
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stop(trainer, save=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop; the end of the epoch before has saved."""
        self._stop(trainer, save=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop; the end of the last epoch has saved."""
        self._training = False
        self._stop(trainer, save=False)

    def _stop(self, trainer: Trainer, save: bool) -> None:
        if not trainer.strategy.reduce_boolean_decision(self._received is not None, all=False):
            return
        checkpoint = trainer.checkpoint_callback
        if isinstance(checkpoint, RunCheckpoint) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if save:
                checkpoint.write_last(trainer)
            if trainer.is_global_zero:
                print(f"Resume with --ckpt_path {checkpoint.last_model_path}", file=sys.stderr, flush=True)
        raise StoppedError(self._received or signal.SIGTERM)

    def _register(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS[:1] if SLURMEnvironment.detect() else STOP_SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        # a signal to all processes of a job comes twice where their parent passes it on too
        if self._received is not None and time.monotonic() - self._since < _ONE_SIGNAL_SECONDS:
            return
        ends = self._received is not None or not self._training
        after = "" if ends else " after this step or validation; at once at a second signal"
        print(f"\ntse-refine: stopped by {signal.Signals(number).name}{after}.", file=sys.stderr, flush=True)
        if ends:
            raise StoppedError(number)
        self._received, self._since = number, time.monotonic()


@contextmanager
def restored_signals() -> Iterator[None]:
    """Put back, when the block ends, what stop signals did before it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
