"""Lightning's CSV logger, writing ``metrics.csv`` straight into the run's folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from tse_refine.files.atomic import named_errors


class RunCSVLogger(CSVLogger):
    """Logs to ``RUN/metrics.csv``, without version folders; a resumed training goes on in the same file.

    Args:
        save_dir: folder of the run; by default ``trainer.default_root_dir``.
        flush_logs_every_n_steps: number of steps after which rows are written.
    """

    def __init__(self, save_dir: str | None = None, flush_logs_every_n_steps: int = 50) -> None:
        super().__init__(save_dir or ".", name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Writer of ``metrics.csv``, created at first use."""
        if self._experiment is None:
            self._experiment = _QuietWriter(self.log_dir)
        return self._experiment

    def log_hyperparams(self, params: object = None) -> None:
        """Write nothing: ``config.yaml`` holds every option."""


class _QuietWriter(ExperimentWriter):
    """A writer that shares its folder: a run's folder is never empty."""

    def _check_log_dir_exists(self) -> None:
        pass

    def save(self) -> None:
        path = Path(self.metrics_file_path)
        if not self.metrics_keys and path.exists():  # a resumed training continues with the columns of the file
            with open(path, newline="", encoding="utf-8") as file:
                self.metrics_keys = next(csv.reader(file), [])
        if self.metrics:  # the base class would also write hparams.yaml
            with named_errors(path):
                super(ExperimentWriter, self).save()
