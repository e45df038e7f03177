"""What a logger offers that shows tables and sounds, beside the numbers that every logger of Lightning's has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lightning import Trainer

from tse_refine.evaluation.example import Example


class ResultLogger(ABC):
    """A logger that shows tables and examples; also a logger of Lightning's.

    Attributes:
        plays_examples: whether a test extracts an example of each condition for it.
    """

    plays_examples: bool = False

    @abstractmethod
    def log_rows(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Log a table; called in the first process alone.

        Args:
            name: such as ``val/table``.
            rows: cells by column, at least one row; every row has the columns of the first.
            step: number of training steps so far.
        """

    @abstractmethod
    def log_examples(self, name: str, examples: Sequence[Example], step: int) -> None:
        """Log one example per condition, with its sounds; called in the first process alone.

        Args:
            name: such as ``test/examples``.
            examples: examples, at least one.
            step: number of training steps so far.
        """


def result_loggers(trainer: Trainer) -> list[ResultLogger]:
    """Return those of a trainer's loggers that show tables; none but in its first process."""
    return [logger for logger in trainer.loggers if isinstance(logger, ResultLogger) and trainer.is_global_zero]


def log_tables(trainer: Trainer, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Show tables in every logger that can.

    Args:
        trainer: trainer with the loggers.
        tables: rows by name, as :meth:`ResultLogger.log_rows` expects them; an empty one is left out.
    """
    for logger in result_loggers(trainer):
        for name, rows in tables.items():
            if rows:
                logger.log_rows(name, rows, trainer.global_step)
