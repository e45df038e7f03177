"""The result files of a run: what their columns hold and how they are written and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, fields
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from tse_refine.evaluation.classification import (
    classification_scores,
    label_counts,
    mean_average_precision,
)
from tse_refine.evaluation.conditions import PARTIAL
from tse_refine.evaluation.events import COUNTS, EVENT_SCORES, EventScores
from tse_refine.evaluation.grid import GridResults
from tse_refine.evaluation.metrics import HEADLINES, SNRI, Measure
from tse_refine.evaluation.statistics import bootstrap_mean
from tse_refine.files.atomic import remove_leftovers, replacing
from tse_refine.files.tables import content_of, read_csv, write_csv
from tse_refine.model.cost import Cost
from tse_refine.refinement import NoRefinement, Refinement

CLASSIFICATION_COLUMNS = ("threshold", "macro_f1", "micro_f1", "macro_precision", "macro_recall", "map")
FALSE_ALARMS = "false_alarm_rate"  # a further column where mixtures have no active class
LABEL_MEASURES = ("ca_sdri_db", "mixture_accuracy", "source_accuracy")
LABEL_COLUMNS = ("ca_sdri_db", "ca_sdri_db_low", "ca_sdri_db_high", *LABEL_MEASURES[1:])  # of classification.csv
CLASS_AWARE_COLUMNS = ("mixture", "threshold", "ca_sdri_db", "n_correct", "n_missed", "n_false")
PROBABILITY_COLUMNS = ("mixture", "class", "probability", "active")
PER_CLASS_COLUMNS = (
    "class",
    "threshold",
    "support",
    "precision",
    "recall",
    "f1",
    "snri_db_none",
    "snri_db_refined",
)
EVENT_COLUMNS = ("class", *COUNTS, *EVENT_SCORES)
COST_COLUMNS = tuple(field.name for field in fields(Cost))
WEIGHTS = "weights"  # a further column of cost.csv: which weights were tested
_CELL_COLUMNS = ("active", "inactive", "threshold", "n")  # of summary.csv, before the measures
REMEDY = "`tse-refine test` writes it into a run's folder; run it again."  # in messages about these files
CHANGED = "It is cut off, changed or of another test; run `tse-refine test` again."  # likewise
ROUNDING = 2e-5  # the mean of values of five decimals against a mean of five decimals
CLASSIFIER_FILES = ("probabilities.csv", "classification.csv", "per_class.csv", "class_aware.csv", "events.csv")

Row = dict[str, Any]


def result_columns(measures: Iterable[Measure]) -> tuple[str, ...]:
    """Return the columns of ``results.csv``; a measure of its own adds one."""
    first = ("mixture", "active", "inactive", "threshold", "num_active", "query_active", "query_inactive")
    return (*first, "input_snr_db", *(measure.name for measure in measures), "n_kept_active", "n_kept_inactive")


def summary_columns(measures: Sequence[Measure]) -> tuple[str, ...]:
    """Return the columns of ``summary.csv`` and ``validation.csv``: mean and interval of each measure."""
    values = (f"{measure.name}{end}" for measure in measures for end in ("", "_low", "_high"))
    silence = (f"{measure.name}_silence" for measure in HEADLINES)
    return (*_CELL_COLUMNS, *values, *silence)


def summary_rows(results: GridResults) -> list[Row]:
    """Return one row per condition and refinement: means over mixtures with bootstrap 95 % intervals.

    ``snri_db_silence`` and ``attenuation_db_silence`` are the means that result if the estimate of an empty refined
    query is exact silence instead of the network's response to a zero query.
    """
    grid = results.grid
    if not grid.conditions:
        return []
    cells = (len(results.index), -1)
    columns: dict[str, np.ndarray] = {}
    for measure in grid.measures:
        values = results.values[measure.name]
        for end, column in zip(("", "_low", "_high"), bootstrap_mean(values.reshape(cells)), strict=True):
            columns[f"{measure.name}{end}"] = column
    for measure in HEADLINES:
        values, silence = results.values[measure.name], results.silence[measure.name][:, :, None]
        silenced = np.where(results.empty & ~np.isnan(values), silence, values)
        columns[f"{measure.name}_silence"] = bootstrap_mean(silenced.reshape(cells)).mean
    measured = np.any([~np.isnan(results.values[measure.name]) for measure in HEADLINES], axis=0)
    columns["n"] = measured.sum(0).reshape(-1)
    rows = []
    for number, (condition, refinement) in enumerate(product(grid.conditions, grid.refinements)):
        head = {"active": condition.active, "inactive": condition.inactive, "threshold": refinement.name}
        rows.append(head | {name: column[number].item() for name, column in columns.items()})
    return rows


def result_rows(results: GridResults, class_names: Sequence[str]) -> Iterator[Row]:
    """Yield one row per mixture, condition and refinement; none where a mixture has too few active classes."""
    grid = results.grid
    names = np.array(class_names)
    for m, mixture in enumerate(results.index):
        order, num_active = names[results.query_order[m]], int(results.num_active[m])
        for c, condition in enumerate(grid.conditions):
            if condition.active > num_active:
                continue
            head = {
                "mixture": mixture,
                "active": condition.active,
                "inactive": condition.inactive,
                "num_active": num_active,
                "query_active": "|".join(order[: condition.active]),
                "query_inactive": "|".join(order[num_active : num_active + condition.inactive]),
                "input_snr_db": results.input_snr_db[m, c],
            }
            for r, refinement in enumerate(grid.refinements):
                yield {
                    **head,
                    "threshold": refinement.name,
                    **{measure.name: results.values[measure.name][m, c, r] for measure in grid.measures},
                    "n_kept_active": results.kept_active[m, c, r],
                    "n_kept_inactive": results.kept_inactive[m, c, r],
                }


def classification_columns(results: GridResults) -> tuple[str, ...]:
    """Return the columns of ``classification.csv``; false alarms, and a CA-SDRi with what belongs to it, add some."""
    false_alarms = (FALSE_ALARMS,) if results.num_without_target else ()
    return (*CLASSIFICATION_COLUMNS, *false_alarms, *(LABEL_COLUMNS if results.grid.labelling else ()))


def classification_rows(results: GridResults) -> list[Row]:
    """Return one row per refinement that decides class by class; with false alarms where there can be any."""
    mean_precision = mean_average_precision(results.probability, results.activity)
    of_labels = {row["threshold"]: row for row in label_rows(results)}
    rows = []
    for refinement in decisive(results.grid.refinements):
        scores = classification_scores(results.probability, results.activity, refinement)
        averages = (scores.macro("f1"), scores.micro_f1, scores.macro("precision"), scores.macro("recall"))
        row = dict(zip(CLASSIFICATION_COLUMNS, (refinement.name, *averages, mean_precision), strict=True))
        if results.num_without_target:
            row[FALSE_ALARMS] = label_counts(results.probability, results.activity, refinement).false_alarm_rate
        rows.append(row | of_labels.get(refinement.name, {}))
    return rows


def label_rows(results: GridResults) -> list[Row]:
    """Return one row per refinement with a CA-SDRi: its mean with a bootstrap 95 % interval, accuracy of the labels."""
    rows = []
    for number, refinement in enumerate(results.grid.labelling):
        labels = label_counts(results.probability, results.activity, refinement)
        mean = bootstrap_mean(results.ca_sdri_db[:, number, None])
        scores = (*(part.item() for part in mean), labels.mixture_accuracy, labels.source_accuracy)
        rows.append({"threshold": refinement.name} | dict(zip(LABEL_COLUMNS, scores, strict=True)))
    return rows


def class_aware_rows(results: GridResults) -> Iterator[Row]:
    """Yield one row per mixture and refinement with a CA-SDRi."""
    rules = results.grid.labelling
    labels = [label_counts(results.probability, results.activity, rule) for rule in rules]
    for m, mixture in enumerate(results.index):
        for r, rule in enumerate(rules):
            counts = (labels[r].correct[m], labels[r].missed[m], labels[r].false[m])
            values = (mixture, rule.name, results.ca_sdri_db[m, r], *counts)
            yield dict(zip(CLASS_AWARE_COLUMNS, values, strict=True))


def per_class_rows(results: GridResults, class_names: Sequence[str]) -> list[Row]:
    """Return one row per class and refinement; SNRi at (1:3), over the mixtures that query the class there."""
    grid = results.grid
    rows = []
    queried_class = np.where(results.num_active > 0, results.query_order[:, 0], -1)
    names = [refinement.name for refinement in grid.refinements]
    for refinement in decisive(grid.refinements):
        scores = classification_scores(results.probability, results.activity, refinement)
        for label, name in enumerate(class_names):
            snri = [float("nan")] * 2
            if PARTIAL in grid.conditions and NoRefinement().name in names and (queried_class == label).any():
                at_condition = results.values[SNRI.name][queried_class == label, grid.conditions.index(PARTIAL)]
                compared = (NoRefinement().name, refinement.name)
                snri = [at_condition[:, names.index(row)].mean() for row in compared]
            measures = (scores.support[label], scores.precision[label], scores.recall[label], scores.f1[label])
            rows.append(dict(zip(PER_CLASS_COLUMNS, (name, refinement.name, *measures, *snri), strict=True)))
    return rows


def event_scores(results: GridResults) -> EventScores:
    """Return how well events agree with the true ones, over all mixtures of a network with a classifier."""
    return EventScores({name: counts.sum(0) for name, counts in results.event_counts.items()})


def event_rows(results: GridResults, class_names: Sequence[str]) -> list[Row]:
    """Return one row per class: how many events and segments are true, estimated and right, and their F1."""
    scores = event_scores(results)
    columns = [*(scores.counts[name] for name in COUNTS), scores.event_f1, scores.segment_f1]
    return [
        dict(zip(EVENT_COLUMNS, (name, *(column[label].item() for column in columns)), strict=True))
        for label, name in enumerate(class_names)
    ]


def write_test_results(
    folder: Path,
    results: GridResults,
    class_names: Sequence[str],
    cost: Cost,
    config: str | None = None,
    weights: str | None = None,
) -> dict[str, list[Row]]:
    """Write every file of a test; return the rows of those that do not have some for each mixture, by name.

    All files are written before the first takes its place, so that a killed test leaves those of the one before it.
    What only an earlier test has is removed: the files of the classifier for a network without one, a configuration
    that these results were not made with.

    Args:
        folder: ``RUN/test``.
        results: results of all mixtures.
        class_names: names by index.
        cost: cost of the network.
        config: text of ``config.yaml``, the configuration of the test; None where there is none.
        weights: digest of the network's weights (:func:`tse_refine.model.checkpoint.weights_digest`); None for none.
    """
    costs = asdict(cost) | ({} if weights is None else {WEIGHTS: weights})
    short = {"summary": summary_rows(results), "cost": [costs]}
    if results.has_classifier:
        short |= {"classification": classification_rows(results), "per_class": per_class_rows(results, class_names)}
    if results.event_counts:
        short["events"] = event_rows(results, class_names)
    measures = results.grid.measures
    tables: dict[str, tuple[Sequence[str], Iterable[Row]]] = {
        "results.csv": (result_columns(measures), result_rows(results, class_names)),
        "summary.csv": (summary_columns(measures), short["summary"]),
        "cost.csv": (tuple(costs), short["cost"]),
    }
    if results.has_classifier:
        tables |= {
            "probabilities.csv": (PROBABILITY_COLUMNS, _probability_rows(results, class_names)),
            "classification.csv": (classification_columns(results), short["classification"]),
            "per_class.csv": (PER_CLASS_COLUMNS, short["per_class"]),
        }
    if results.event_counts:
        tables["events.csv"] = (EVENT_COLUMNS, short["events"])
    if results.grid.labelling:
        tables["class_aware.csv"] = (CLASS_AWARE_COLUMNS, class_aware_rows(results))
    with ExitStack() as all_files:
        if config is not None:  # the first to enter is the last to take its place
            all_files.enter_context(replacing(folder / "config.yaml")).write_text(config, encoding="utf-8")
        for name, (columns, rows) in tables.items():
            write_csv(all_files.enter_context(replacing(folder / name)), columns, rows)
    written = {*tables, *([] if config is None else ["config.yaml"])}
    for name in {"config.yaml", *CLASSIFIER_FILES} - written:
        (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)
    return short


def append_validation(path: Path, rows: Sequence[Row], measures: Sequence[Measure], epoch: int) -> None:
    """Add an epoch's summary rows to ``validation.csv``, without those of this or a later epoch before a resume."""
    columns = (*summary_columns(measures), "epoch")
    kept: list[Row] = [
        {name: row.get(name, "") for name in columns} for row in read_validation(path) if int(row["epoch"]) < epoch
    ]
    write_csv(path, columns, [*kept, *({**row, "epoch": epoch} for row in rows)])


def read_validation(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``validation.csv``; none where there is no file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return []
    remedy = "Rename or remove the file to go on without the rows of earlier epochs."
    rows = read_csv(path, (*_CELL_COLUMNS, "epoch"), remedy)
    with content_of(path, remedy):
        for row in rows:
            int(row["epoch"])
    return rows


def earlier_results(folder: Path) -> str | None:
    """Return a description of the results in a folder for a message; None where there are none.

    Args:
        folder: ``RUN/test``.
    """
    path = next((folder / name for name in ("summary.csv", "results.csv") if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        # every mixture is in the condition that queries the fewest active classes
        mixtures = max(int(row["n"]) for row in read_csv(folder / "summary.csv", _CELL_COLUMNS, REMEDY))
        results = f"the results of {mixtures} mixtures"
    except ValueError:  # InputError is one
        results = "results that cannot be read,"
    return f"{results} measured on {datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}"


def decisive(refinements: Iterable[Refinement]) -> list[Refinement]:
    """Return the refinements that decide class by class from the probability."""
    return [refinement for refinement in refinements if refinement.per_class]


def _probability_rows(results: GridResults, class_names: Sequence[str]) -> Iterator[Row]:
    for m, mixture in enumerate(results.index):
        for k, name in enumerate(class_names):
            values = (mixture, name, results.probability[m, k], int(results.activity[m, k]))
            yield dict(zip(PROBABILITY_COLUMNS, values, strict=True))
