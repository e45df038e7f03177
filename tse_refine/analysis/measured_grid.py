"""The values of ``results.csv`` as arrays, whole and in agreement with ``summary.csv``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import WORDS, Condition, condition_name, threshold_name
from tse_refine.evaluation.results import REMEDY, RESULT_COLUMNS, SUMMARY_COLUMNS
from tse_refine.files.tables import read_csv

_ROUNDING = 2e-5  # dB: the mean of values of five decimals against a mean of five decimals
_NUMBERS = ("snri_db", "attenuation_db", "input_snr_db", "n_kept_active", "n_kept_inactive")

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Grid:
    """The measures of every mixture, condition and threshold; NaN where there is none.

    Attributes:
        mixtures: their numbers, ``[mixtures]``, ascending.
        conditions: pairs (active, inactive), in the file's order.
        thresholds: as written, in the file's order.
        snri_db: ``[mixtures, conditions, thresholds]``.
        attenuation_db: ``[mixtures, conditions, thresholds]``.
        input_snr_db: ``[mixtures, conditions]``.
        kept_active: active classes in the refined query, ``[mixtures, conditions, thresholds]``.
        kept_inactive: inactive ones.
        questions: what each mixture was asked, one text a mixture: two runs with the same were asked the same.
    """

    mixtures: np.ndarray
    conditions: list[Condition]
    thresholds: list[str]
    snri_db: np.ndarray
    attenuation_db: np.ndarray
    input_snr_db: np.ndarray
    kept_active: np.ndarray
    kept_inactive: np.ndarray
    questions: list[str]

    def cell(self, measure: str, condition: Condition, threshold: str) -> np.ndarray:
        """Return one measure in one cell, ``[mixtures]``.

        Raises:
            KeyError: the grid has no such cell.
        """
        if condition not in self.conditions or threshold not in self.thresholds:
            raise KeyError((condition, threshold))
        place = self.conditions.index(condition), self.thresholds.index(threshold)
        return getattr(self, measure)[:, place[0], place[1]]


def read_grid(folder: Path) -> Grid:
    """Read ``results.csv`` and hold ``summary.csv`` against it.

    Args:
        folder: ``RUN/test``.

    Raises:
        InputError: a file is missing or not what ``test`` wrote, a mixture lacks a row that it should have or has one
            twice, or the two files are not of one test.
    """
    path, summary = folder / "results.csv", folder / "summary.csv"
    rows, summary_rows = read_csv(path, RESULT_COLUMNS, REMEDY), read_csv(summary, SUMMARY_COLUMNS, REMEDY)
    if not rows:
        raise InputError(f"{path} holds no row; run `tse-refine test` again.")
    try:
        grid = _grid(rows)
    except ValueError as error:
        raise InputError(f"{path}: {error}. The file is cut off or changed; run `tse-refine test` again.") from error
    try:
        _check_summary(summary_rows, grid)
    except ValueError as error:
        raise InputError(
            f"{summary}: {error}. One of them was changed or is of another test; run `tse-refine test` again."
        ) from error
    return grid


def _grid(rows: Rows) -> Grid:
    """Return the rows as arrays; ValueError where they are not those of a test."""
    conditions = list(dict.fromkeys((int(row["active"]), int(row["inactive"])) for row in rows))
    thresholds = list(dict.fromkeys(row["threshold"] for row in rows))
    mixtures = np.array(sorted({int(row["mixture"]) for row in rows}))
    for threshold in thresholds:
        if threshold not in WORDS and (threshold_name(float(threshold)) != threshold or not 0 <= float(threshold) <= 1):
            raise ValueError(f"{threshold!r} is no threshold")
    place = {int(mixture): number for number, mixture in enumerate(mixtures)}
    column = {threshold: number for number, threshold in enumerate(thresholds)}
    line = {condition: number for number, condition in enumerate(conditions)}
    shape = (len(mixtures), len(conditions), len(thresholds))
    numbers = {name: np.full(shape, np.nan) for name in _NUMBERS}
    seen = np.zeros(shape, bool)
    num_active = np.zeros(len(mixtures), int)
    asked: list[dict[int, str]] = [{} for _ in mixtures]
    for row in rows:
        condition = int(row["active"]), int(row["inactive"])
        m, c = place[int(row["mixture"])], line[condition]
        cell = (m, c, column[row["threshold"]])
        if seen[cell]:
            raise ValueError(f"{_cell_name(row['mixture'], condition, row['threshold'])} has two rows")
        seen[cell] = True
        for name, values in numbers.items():
            values[cell] = float(row[name] or "nan")
        question = f"{row['query_active']}/{row['query_inactive']}"
        if not asked[m]:
            num_active[m] = int(row["num_active"])
        if asked[m].setdefault(c, question) != question or num_active[m] != int(row["num_active"]):
            raise ValueError(f"the rows of mixture {row['mixture']} disagree on its active classes or its queries")
    _check_cells(numbers, seen, num_active, mixtures, conditions, thresholds)
    return Grid(
        mixtures,
        conditions,
        thresholds,
        numbers["snri_db"],
        numbers["attenuation_db"],
        numbers["input_snr_db"][:, :, 0],
        numbers["n_kept_active"],
        numbers["n_kept_inactive"],
        [" ".join(texts[c] for c in sorted(texts)) for texts in asked],
    )


def _check_cells(
    numbers: dict[str, np.ndarray],
    seen: np.ndarray,
    num_active: np.ndarray,
    mixtures: np.ndarray,
    conditions: list[Condition],
    thresholds: list[str],
) -> None:
    """Raise ValueError where a row is missing or too much, or a number missing, out of place or impossible."""

    def refuse(wrong: np.ndarray, said: str) -> None:
        if wrong.any():
            m, c, t = np.argwhere(wrong)[0]
            raise ValueError(f"{_cell_name(mixtures[m], conditions[c], thresholds[t])} {said}")

    active, inactive = np.array(conditions).T[:, :, None]  # [conditions, 1]
    due = np.broadcast_to(active <= num_active[:, None, None], seen.shape)
    refuse(due & ~seen, "has no row")
    refuse(seen & ~due, "has a row, but asks for more active classes than the mixture has")
    exists = dict.fromkeys(_NUMBERS, active >= 0)
    exists |= {"snri_db": active > 0, "input_snr_db": active > 0, "attenuation_db": active == 0}
    for name, values in numbers.items():
        refuse(due & exists[name] & ~np.isfinite(values), f"has no number as {name}")
        refuse(~(due & exists[name]) & ~np.isnan(values), f"has a {name}, which does not exist there")
    for name, most in (("n_kept_active", active), ("n_kept_inactive", inactive)):
        kept = np.nan_to_num(numbers[name])
        refuse((kept < 0) | (kept > most) | (kept != kept.round()), f"has an impossible {name}")
    own = np.nan_to_num(numbers["input_snr_db"])
    refuse(own != own[:, :, :1], "has another input_snr_db than at other thresholds")


def _check_summary(rows: Rows, grid: Grid) -> None:
    """Raise ValueError where the means and counts of ``summary.csv`` are not those of ``results.csv``."""
    asks_active = np.array([active > 0 for active, _ in grid.conditions])
    values = np.where(asks_active[:, None], grid.snri_db, grid.attenuation_db)
    count = (~np.isnan(values)).sum(0)
    mean = np.nansum(values, axis=0) / count  # none is 0: a condition without any mixture has no rows
    expected = {
        (condition, threshold): (int(count[c, t]), float(mean[c, t]))
        for c, condition in enumerate(grid.conditions)
        for t, threshold in enumerate(grid.thresholds)
    }
    for row in rows:
        condition, threshold = (int(row["active"]), int(row["inactive"])), row["threshold"]
        found = {name: float(row[name] or "nan") for name in SUMMARY_COLUMNS[3:]}
        number, value = expected.pop((condition, threshold), (0, 0.0))
        measure = "snri_db" if condition[0] else "attenuation_db"
        cell = f"{condition_name(condition)}, {threshold}"
        if found["n"] != number:
            raise ValueError(f"{cell} is of {row['n']} mixtures there, of {number} in results.csv")
        if number and not abs(found[measure] - value) <= _ROUNDING:
            raise ValueError(
                f"{cell} has {row[measure] or 'no'} dB there, but the rows of results.csv have {value:.5f} dB"
            )
    for condition, threshold in expected:
        raise ValueError(f"{condition_name(condition)}, {threshold} is in results.csv, but not there")


def _cell_name(mixture: object, condition: Condition, threshold: str) -> str:
    return f"mixture {mixture}, {condition_name(condition)}, {threshold}"
