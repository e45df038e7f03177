"""``metrics.csv`` in the run's folder, with one row per step also after a training was stopped and resumed."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from torch import Tensor

from tse_refine.files.atomic import named_errors, replacing
from tse_refine.files.tables import content_of, read_csv

REMEDY = "Rename or remove the file to go on without its rows."


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
            self._experiment = MetricsFile(Path(self.save_dir) / "metrics.csv")  # type: ignore[assignment]
        return self._experiment

    def log_hyperparams(self, params: object = None) -> None:
        """Write nothing: ``config.yaml`` holds every option."""


class MetricsFile:
    """A table of metrics by step, which grows at its end; the training's and the validation's share a step's row.

    The first row of a training replaces the rows of that step and later ones, which are of a state that was lost. A
    last line that was cut off counts as lost too.

    Args:
        path: the table; need not exist.

    Raises:
        InputError: there is a file that is not such a table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics: list[dict[str, Any]] = []  # rows that are not in the file yet
        self._earlier = self._read()
        self._columns: list[str] = list(self._earlier[0]) if self._earlier else []
        self._last: dict[str, Any] = {}  # last row in the file, and where its line begins
        self._last_offset = 0

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Add metrics of a step, in the order of steps."""
        values = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        if self.metrics and self.metrics[-1]["step"] == step:
            self.metrics[-1].update(values)
        else:
            self.metrics.append({**values, "step": step})

    def save(self) -> None:
        """Write the rows that are not in the file yet."""
        if not self.metrics:
            return
        rows, self.metrics = self.metrics, []
        if rows[0]["step"] == self._last.get("step"):
            rows[0] = self._last | rows[0]
            os.truncate(self.path, self._last_offset)
        lost = any(int(row["step"]) >= rows[0]["step"] for row in self._earlier)
        new = set().union(*rows).difference(self._columns)
        if new or lost:
            self._columns = sorted({*self._columns, *new})
            earlier = [row for row in self._earlier or self._read() if int(row["step"]) < rows[0]["step"]]
            with replacing(self.path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(earlier)
        self._earlier = []
        with named_errors(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writerows(rows[:-1])
            self._last, self._last_offset = rows[-1], file.tell()
            writer.writerow(rows[-1])

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, "rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
        if b"\n" not in content:
            return []
        rows = read_csv(self.path, ["step"], REMEDY)
        with content_of(self.path, REMEDY):
            for row in rows:
                int(row["step"])
        return rows
