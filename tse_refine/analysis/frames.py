"""The result files of a run as pandas tables, for notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tse_refine.errors import InputError
from tse_refine.evaluation.results import REMEDY
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.tables import read_csv

if TYPE_CHECKING:
    import pandas as pd

_TEST_TABLES = (
    *("results", "summary", "classification", "class_aware", "per_class", "events", "probabilities", "cost"),
)
_REQUIRED = ("results", "summary")  # a network without a classifier has no others
_TEXT = {"threshold", "class", "query_active", "query_inactive", "weights"}  # also where every cell looks like a number


def load_results(run: str | Path) -> dict[str, pd.DataFrame]:
    """Return the result files of a run as tables, by name.

    Args:
        run: folder of a run that ``test`` has evaluated.

    Returns:
        Of the test ``results`` (one row per mixture, condition and refinement), ``summary`` (means and 95 % intervals),
        ``classification``, ``class_aware``, ``per_class``, ``events``, ``probabilities`` and ``cost``; of the training
        ``metrics`` and ``validation``. Columns are those of the files; empty cells are NaN, refinements and classes are
        text. What the run does not have is left out, such as the classifier's tables of a baseline.

    Raises:
        InputError: the run was not tested, a file is damaged, or pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError(
            "Tables need pandas, which is not installed; install it with `pip install 'tse-refine[notebook]'`."
        ) from None
    folder = RunFolder(run)
    paths = {name: folder.test / f"{name}.csv" for name in _TEST_TABLES}
    paths |= {"metrics": folder.metrics, "validation": folder.validation}
    tables = {}
    for name, path in paths.items():
        if path.exists() or name in _REQUIRED:
            rows: list[Any] = list(read_csv(path, (), REMEDY))
            table = pd.DataFrame(rows)
            for column in table.columns.difference(_TEXT):
                numbers = pd.to_numeric(table[column].replace("", "nan"), errors="coerce")
                if not (numbers.isna() & ~table[column].isin(["", "nan", "NaN"])).any():
                    table[column] = numbers
            tables[name] = table
    return tables
