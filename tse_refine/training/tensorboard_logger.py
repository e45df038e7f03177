"""Logs to TensorBoard: numbers, options and tables as text, sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from tse_refine.errors import InputError
from tse_refine.evaluation.example import Example
from tse_refine.evaluation.result_logger import ResultLogger
from tse_refine.files.tables import Table


class RunTensorBoardLogger(TensorBoardLogger, ResultLogger):
    """Logs to ``RUN/tensorboard``, a folder ``version_0`` and so on for each command; ``tensorboard --logdir RUN``.

    Args:
        save_dir: folder of the run; by default ``trainer.default_root_dir``.
        log_audio: log an example of each condition from the first mixtures of a test: mixture, target and extractions
            with the raw and the refined query.

    Raises:
        InputError: neither ``tensorboard`` nor ``tensorboardX`` is installed.
    """

    def __init__(self, save_dir: str | None = None, log_audio: bool = False) -> None:
        check_tensorboard()
        super().__init__(save_dir or ".", name="tensorboard", default_hp_metric=False)
        self.plays_examples = log_audio

    @rank_zero_only
    def log_hyperparams(self, params: Any, *_: Any) -> None:
        """Log options as text, those that were logged before among them."""
        self.hparams.update(params)
        text = yaml.safe_dump(dict(self.hparams), sort_keys=False, allow_unicode=True)
        self.experiment.add_text("options", "".join(f"    {line}\n" for line in text.splitlines()))

    @rank_zero_only
    def log_rows(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Log a table as text in Markdown."""
        body = [[_text(value) for value in row.values()] for row in rows]
        self.experiment.add_text(name, Table(list(rows[0]), body).markdown(), step)

    @rank_zero_only
    def log_examples(self, name: str, examples: Sequence[Example], step: int) -> None:
        """Log the sounds of each condition, ``test/examples/1a3i/raw`` and so on, and a table about them."""
        for example in examples:
            for sound, signal in example.signals.items():
                tag = f"{name}/{example.condition.key}/{sound}"
                self.experiment.add_audio(tag, torch.from_numpy(signal)[None], step, sample_rate=example.sample_rate)
        self.log_rows(name, [example.row for example in examples], step)


def check_tensorboard() -> None:
    """Raise an InputError where no package writes files of TensorBoard."""
    if not any(find_spec(package) for package in ("tensorboard", "tensorboardX")):
        raise InputError(
            "trainer.logger: files of TensorBoard need tensorboard, which is not installed; install it with `pip "
            "install 'tse-refine[tensorboard]'`, or use another logger, such as -c logger/csv."
        )


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
