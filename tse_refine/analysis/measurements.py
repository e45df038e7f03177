"""What the result files of a test hold, as arrays: whole, possible, and in agreement with one another."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tse_refine.analysis.labels import MeasuredLabels, read_labels
from tse_refine.errors import InputError
from tse_refine.evaluation.classification import mean_average_precision
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.events import COUNTS, EventScores
from tse_refine.evaluation.metrics import HEADLINES, MEASURES, Measure
from tse_refine.evaluation.results import (
    CHANGED,
    CLASSIFICATION_COLUMNS,
    FALSE_ALARMS,
    LABEL_COLUMNS,
    LABEL_MEASURES,
    PER_CLASS_COLUMNS,
    PROBABILITY_COLUMNS,
    REMEDY,
    ROUNDING,
    decisive,
    result_columns,
    summary_columns,
)
from tse_refine.files.tables import content_of, read_columns, read_csv
from tse_refine.refinement import Refinement, parse_refinement

_MOST_CELLS_PER_ROW = 100  # only conditions with too many active classes have no row
_TYPES: dict[str, type] = dict.fromkeys(("mixture", "active", "inactive", "num_active"), int)
_TYPES |= dict.fromkeys(("threshold", "query_active", "query_inactive"), str)


@dataclass(frozen=True)
class MeasuredGrid:
    """What a test measured of every mixture; NaN where a value does not exist.

    Attributes:
        mixtures: number of each mixture, ``[mixtures]``, ascending.
        conditions: conditions in the order of the file.
        refinements: refinements in the order of the file.
        values: by the name of each measure, ``[mixtures, conditions, refinements]``.
        input_snr_db: SNR of the mixture itself, ``[mixtures, conditions]``.
        kept_active: active classes kept in the refined query, ``[mixtures, conditions, refinements]``.
        kept_inactive: inactive ones, ``[mixtures, conditions, refinements]``.
        query_active: active classes of each query as the file writes them, ``[mixtures, conditions]``.
        query_inactive: inactive ones, ``[mixtures, conditions]``.
    """

    mixtures: np.ndarray
    conditions: tuple[Condition, ...]
    refinements: tuple[Refinement, ...]
    values: Mapping[str, np.ndarray]
    input_snr_db: np.ndarray
    kept_active: np.ndarray
    kept_inactive: np.ndarray
    query_active: np.ndarray
    query_inactive: np.ndarray

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures of the file that are in the table of measures."""
        return tuple(MEASURES[name] for name in self.values)

    def holds(self, condition: Condition, refinement: Refinement) -> bool:
        """Whether there is such a cell."""
        return condition in self.conditions and any(refinement.name == other.name for other in self.refinements)

    def place(self, condition: Condition, refinement: Refinement) -> tuple[int, int]:
        """Return the numbers of a condition and of a refinement, by its name; KeyError where there is no such cell."""
        if not self.holds(condition, refinement):
            raise KeyError((condition, refinement))
        names = [other.name for other in self.refinements]
        return self.conditions.index(condition), names.index(refinement.name)

    def cell(self, measure: Measure, condition: Condition, refinement: Refinement) -> np.ndarray:
        """Return a measure in one cell, ``[mixtures]``; KeyError where there is no such measure or cell."""
        c, r = self.place(condition, refinement)
        return self.values[measure.name][:, c, r]


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class under one refinement.

    Attributes:
        name: name of the class.
        support: number of mixtures that hold the class.
        precision: precision of the decisions, in [0, 1].
        recall: recall, in [0, 1]; an active class that is missed is removed from a query that was right.
        f1: F1, in [0, 1].
        snri_db_none: SNRi at (1:3) with the raw query; NaN where no mixture queries the class there.
        snri_db_refined: SNRi at (1:3) with the refined query.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    snri_db_none: float
    snri_db_refined: float

    @property
    def false_negative_rate(self) -> float:
        """Share of the mixtures with the class in which it is removed from a query; NaN where there are none."""
        return 1.0 - self.recall if self.support else float("nan")


@dataclass(frozen=True)
class MeasuredClassifier:
    """What a test measured of the classifier.

    Attributes:
        class_names: names by index.
        probability: clip-level, ``[mixtures, classes]``, in [0, 1]; also of mixtures that no condition queries because
            they have too few active classes, which the grid lacks.
        activity: whether the class is active, ``[mixtures, classes]``.
        macro_f1: by the name of each refinement that decides class by class.
        scores: likewise, one per class.
        labels: likewise; empty where the test did not measure the CA-SDRi.
        events: how well events agree with the true ones; None in results of versions that did not measure it.
    """

    class_names: tuple[str, ...]
    probability: np.ndarray
    activity: np.ndarray
    macro_f1: Mapping[str, float]
    scores: Mapping[str, Sequence[ClassScore]]
    labels: Mapping[str, MeasuredLabels]
    events: EventScores | None = None

    @cached_property
    def mean_average_precision(self) -> float:
        """Average precision, mean over the classes that occur, in [0, 1]."""
        return mean_average_precision(self.probability, self.activity)


def read_grid(folder: Path, gate_threshold: float) -> MeasuredGrid:
    """Read ``results.csv`` and compare ``summary.csv`` with it.

    Args:
        folder: ``RUN/test``.
        gate_threshold: decision threshold of ``gate``, in [0, 1].

    Raises:
        InputError: a file is missing, is not what ``test`` wrote, or is of another test than the other.
    """
    path, summary = folder / "results.csv", folder / "summary.csv"
    types = {name: _TYPES.get(name, float) for name in result_columns(HEADLINES)}
    columns = read_columns(path, types, dict.fromkeys(MEASURES, float), REMEDY)
    if not len(columns["mixture"]):
        raise InputError(f"{path} holds no row; run `tse-refine test` again.")
    with content_of(path, "The file is cut off or changed; run `tse-refine test` again."):
        grid = _grid(columns, gate_threshold)
    rows = read_csv(summary, summary_columns(grid.measures), REMEDY)
    with content_of(summary, "One of them was changed or is of another test; run `tse-refine test` again."):
        _check_summary(rows, grid)
    return grid


def read_classifier(folder: Path, grid: MeasuredGrid) -> MeasuredClassifier:
    """Read the tables of the classifier; ``class_aware.csv`` and ``events.csv`` where they were written.

    Args:
        folder: ``RUN/test``.
        grid: grid of the same test.

    Raises:
        InputError: a file is missing or is not what the same test wrote.
    """
    refinements = [refinement.name for refinement in decisive(grid.refinements)]
    path = folder / "probabilities.csv"
    columns = read_columns(path, dict(zip(PROBABILITY_COLUMNS, (int, str, float, float), strict=True)), {}, REMEDY)
    with content_of(path, CHANGED):
        names, probability, activity = _probabilities(columns, grid)
    mixtures = columns["mixture"][:: len(names)]
    path = folder / "classification.csv"
    rows = read_csv(path, CLASSIFICATION_COLUMNS, REMEDY)
    with content_of(path, CHANGED):
        macro_f1 = _macro_f1(rows, refinements)
        means = _label_means(rows)
    labels = read_labels(folder / "class_aware.csv", means, mixtures, activity) if means else {}
    path = folder / "per_class.csv"
    rows = read_csv(path, PER_CLASS_COLUMNS, REMEDY)
    with content_of(path, CHANGED):
        scores = _scores(rows, refinements, dict(zip(names, activity.sum(0).tolist(), strict=True)))
    path = folder / "events.csv"
    events = None
    if path.exists():
        types = {"class": str, **dict.fromkeys(COUNTS, int), "event_f1": float, "segment_f1": float}
        columns = read_columns(path, types, {}, REMEDY)
        with content_of(path, CHANGED):
            events = _events(columns, names)
    return MeasuredClassifier(names, probability, activity, macro_f1, scores, labels, events)


def _grid(columns: Mapping[str, np.ndarray], gate_threshold: float) -> MeasuredGrid:
    """Return the columns as arrays; ValueError where they are not those of a test."""
    mixtures, m = np.unique(columns["mixture"], return_inverse=True)
    pairs, c = _numbered(zip(columns["active"].tolist(), columns["inactive"].tolist(), strict=True))
    names, r = _numbered(columns["threshold"])
    shape = (len(mixtures), len(pairs), len(names))
    if math.prod(shape) > _MOST_CELLS_PER_ROW * len(m):  # before their arrays are made
        raise ValueError(f"its {len(m)} rows are of {' x '.join(map(str, shape))} mixtures, conditions and thresholds")
    place = np.ravel_multi_index((m, c, r), shape)

    def on_grid(column: np.ndarray) -> np.ndarray:
        values = np.full(np.prod(shape), np.nan)
        values[place] = column
        return values.reshape(shape)

    queries = {name: np.full(shape[:2], "", object) for name in ("query_active", "query_inactive")}
    num_active = np.zeros(len(mixtures), int)
    num_active[m] = columns["num_active"]
    differs = num_active[m] != columns["num_active"]
    for name, texts in queries.items():
        texts[m, c] = columns[name]
        differs |= texts[m, c] != columns[name]
    if differs.any():
        mixture = columns["mixture"][differs][0]
        raise ValueError(f"the rows of mixture {mixture} disagree on its active classes or its queries")
    grid = MeasuredGrid(
        mixtures,
        tuple(Condition(*pair) for pair in pairs),
        tuple(_refinement(name, gate_threshold) for name in names),
        {name: on_grid(columns[name]) for name in MEASURES if name in columns},
        on_grid(columns["input_snr_db"]),
        on_grid(columns["n_kept_active"]),
        on_grid(columns["n_kept_inactive"]),
        **queries,
    )
    _check_cells(grid, np.bincount(place, minlength=np.prod(shape)).reshape(shape), num_active)
    return replace(grid, input_snr_db=grid.input_snr_db[:, :, 0])


def _check_cells(grid: MeasuredGrid, num_rows: np.ndarray, num_active: np.ndarray) -> None:
    """Raise ValueError where a row is missing or too much, or a number missing, out of place or impossible."""

    def reject(wrong: np.ndarray, problem: str) -> None:
        if wrong.any():
            m, c, r = np.argwhere(wrong)[0]
            cell = f"{grid.conditions[c].name}, {grid.refinements[r].name}"
            raise ValueError(f"mixture {grid.mixtures[m]}, {cell} {problem}")

    active, inactive = np.array(grid.conditions).T[:, :, None]  # [conditions, 1]
    due = np.broadcast_to(active <= num_active[:, None, None], num_rows.shape)
    reject(num_rows > 1, "has two rows")
    reject(due & (num_rows == 0), "has no row")
    reject((num_rows > 0) & ~due, "has a row, but queries more active classes than the mixture has")
    everywhere = np.ones_like(active, bool)
    numbers = {"n_kept_active": (grid.kept_active, everywhere), "n_kept_inactive": (grid.kept_inactive, everywhere)}
    numbers["input_snr_db"] = (grid.input_snr_db, active > 0)
    for measure in grid.measures:
        exists = np.array([[condition.kind in measure.kinds] for condition in grid.conditions])
        numbers[measure.name] = (grid.values[measure.name], exists)
    undefined_for_some = {measure.name for measure in grid.measures if measure not in HEADLINES}
    for name, (values, exists) in numbers.items():
        lacks = np.isinf(values) if name in undefined_for_some else ~np.isfinite(values)
        reject(due & exists & lacks, f"has no number as {name}")
        reject(~(due & exists) & ~np.isnan(values), f"has a {name}, which does not exist there")
    for name, most in (("n_kept_active", active), ("n_kept_inactive", inactive)):
        kept = numbers[name][0]
        reject(due & ~((kept >= 0) & (kept <= most) & (kept == np.round(kept))), f"has an impossible {name}")
    own = np.nan_to_num(grid.input_snr_db)
    reject(own != own[:, :, :1], "has another input_snr_db than with other refinements")


def _check_summary(rows: Sequence[Mapping[str, str]], grid: MeasuredGrid) -> None:
    """Raise ValueError where the means and counts of ``summary.csv`` are not those of ``results.csv``."""
    count = (~np.isnan(grid.kept_active)).sum(0)
    with np.errstate(invalid="ignore"):  # NaN where a measure has no value
        means = {name: np.nansum(values, 0) / (~np.isnan(values)).sum(0) for name, values in grid.values.items()}
    due = {(grid.conditions[c], grid.refinements[r].name): (c, r) for c, r in np.ndindex(count.shape)}
    for row in rows:
        condition, name = Condition(int(row["active"]), int(row["inactive"])), row["threshold"]
        numbers = {column: float(row[column] or "nan") for column in summary_columns(grid.measures)[3:]}
        cell, place = f"{condition.name}, {name}", due.pop((condition, name), None)
        expected = 0 if place is None else count[place]
        if numbers["n"] != expected:
            raise ValueError(f"{cell} is of {row['n']} mixtures there, of {expected} in results.csv")
        for measure in grid.measures if place is not None else ():
            mean = means[measure.name][place]
            if not np.isnan(mean) and not abs(numbers[measure.name] - mean) <= ROUNDING:
                raise ValueError(
                    f"{cell} has {row[measure.name] or 'no'} {measure.unit} there, but the rows of results.csv have "
                    f"{mean:.5f} {measure.unit}"
                )
    for condition, name in due:
        raise ValueError(f"{condition.name}, {name} is in results.csv, but not there")


def _probabilities(
    columns: Mapping[str, np.ndarray], grid: MeasuredGrid
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Return the classes, their probabilities and activity, ``[mixtures, classes]``; ValueError for other mixtures."""
    names, mixtures = tuple(dict.fromkeys(columns["class"])), np.unique(columns["mixture"])
    in_order = np.repeat(mixtures, len(names)), np.tile(np.array(names, object), len(mixtures))
    is_whole = names and all(map(np.array_equal, (columns["mixture"], columns["class"]), in_order))
    if not is_whole or not np.isin(grid.mixtures, mixtures).all():
        raise ValueError("does not hold every class of every mixture of results.csv once")
    probability, activity = (columns[name].reshape(len(mixtures), len(names)) for name in ("probability", "active"))
    is_due = activity.sum(1) >= min(condition.active for condition in grid.conditions)
    if not np.isin(mixtures[is_due], grid.mixtures).all():
        raise ValueError("holds a mixture that results.csv lacks")
    if not ((probability >= 0.0) & (probability <= 1.0)).all() or not np.isin(activity, (0.0, 1.0)).all():
        raise ValueError("a probability is not from 0 to 1, or active is neither 0 nor 1")
    return names, probability, activity > 0


def _macro_f1(rows: Sequence[Mapping[str, str]], refinements: Sequence[str]) -> dict[str, float]:
    columns = (*CLASSIFICATION_COLUMNS[1:], FALSE_ALARMS)
    scores = [[float(row[name]) for name in columns if name in row] for row in rows]
    if [row["threshold"] for row in rows] != refinements:
        names = ", ".join(row["threshold"] for row in rows) or "none"
        raise ValueError(f"its thresholds are {names}, those of results.csv {', '.join(refinements)}")
    if not all(0.0 <= score <= 1.0 for row in scores for score in row):
        raise ValueError("a score is not from 0 to 1")
    return {row["threshold"]: float(row["macro_f1"]) for row in rows}


def _label_means(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """Return the means of the label measures by refinement; none of a test without them or of an earlier version."""
    if not rows or not set(LABEL_COLUMNS) <= set(rows[0]):
        return {}
    means = {row["threshold"]: {name: float(row[name] or "nan") for name in LABEL_COLUMNS} for row in rows}
    if any(mean[name] < 0.0 or mean[name] > 1.0 for mean in means.values() for name in LABEL_MEASURES[1:]):
        raise ValueError("an accuracy is not from 0 to 1")
    return means


def _scores(
    rows: Sequence[Mapping[str, str]], refinements: Sequence[str], support: Mapping[str, int]
) -> dict[str, list[ClassScore]]:
    """Return the scores of every class by refinement; ``support`` is of each class by its name."""
    if [(row["threshold"], row["class"]) for row in rows] != [(r, name) for r in refinements for name in support]:
        raise ValueError("does not hold every class of probabilities.csv at every threshold of results.csv once")
    scores: dict[str, list[ClassScore]] = {refinement: [] for refinement in refinements}
    for row in rows:
        name, numbers = row["class"], [float(row[column] or "nan") for column in PER_CLASS_COLUMNS[3:]]
        if int(row["support"]) != support[name] or not all(0.0 <= score <= 1.0 for score in numbers[:3]):
            raise ValueError(f"the scores of {name} are impossible, or its support is not that of the test")
        scores[row["threshold"]].append(ClassScore(name, support[name], *numbers))
    return scores


def _events(columns: Mapping[str, np.ndarray], class_names: Sequence[str]) -> EventScores:
    """Return the scores of events; ValueError where they are impossible or of other classes."""
    if columns["class"].tolist() != list(class_names):
        raise ValueError("does not hold every class of probabilities.csv once")
    scores = EventScores({name: columns[name] for name in COUNTS})
    for kind in ("event", "segment"):
        true, estimated, right = (columns[f"{kind}s_{part}"] for part in ("true", "estimated", "right"))
        if (right < 0).any() or (right > np.minimum(true, estimated)).any():
            raise ValueError(f"more {kind}s are right than there are")
        if not np.allclose(columns[f"{kind}_f1"], getattr(scores, f"{kind}_f1"), atol=ROUNDING):
            raise ValueError(f"{kind}_f1 does not follow from the counts")
    return scores


def _refinement(name: str, gate_threshold: float) -> Refinement:
    refinement = parse_refinement(name, "threshold", gate_threshold)
    if refinement.name != name:
        raise ValueError(f"threshold: {name!r} is not a valid refinement: it is written {refinement.name}")
    return refinement


def _numbered(values: Iterable[Hashable]) -> tuple[list[Any], np.ndarray]:
    """Return the distinct values in the order in which they first appear, and the number of each value's."""
    numbers: dict[Hashable, int] = {}
    places = np.array([numbers.setdefault(value, len(numbers)) for value in values])
    return list(numbers), places
