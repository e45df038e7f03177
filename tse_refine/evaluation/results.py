"""The result files of a run: what their columns hold and how they are written and read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tse_refine.evaluation.classification import classification_scores, mean_average_precision
from tse_refine.evaluation.conditions import NONE, Condition, Threshold, condition_name, threshold_name
from tse_refine.evaluation.grid import GridResults
from tse_refine.evaluation.statistics import bootstrap_mean
from tse_refine.files.atomic import remove_leftovers, replacing
from tse_refine.files.tables import Table, read_csv, write_csv
from tse_refine.model.cost import Cost

SUMMARY_COLUMNS = (
    "active",
    "inactive",
    "threshold",
    "n",
    "snri_db",
    "snri_db_low",
    "snri_db_high",
    "attenuation_db",
    "attenuation_db_low",
    "attenuation_db_high",
    "snri_db_silence",
    "attenuation_db_silence",
)
RESULT_COLUMNS = (
    "mixture",
    "active",
    "inactive",
    "threshold",
    "num_active",
    "query_active",
    "query_inactive",
    "input_snr_db",
    "snri_db",
    "attenuation_db",
    "n_kept_active",
    "n_kept_inactive",
)
CLASSIFICATION_COLUMNS = ("threshold", "macro_f1", "micro_f1", "macro_precision", "macro_recall", "map")
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
PER_CLASS_CONDITION: Condition = (1, 3)
REMEDY = "`tse-refine test` writes it into a run's folder; run it again."  # in messages about these files
CLASSIFIER_FILES = ("probabilities.csv", "classification.csv", "per_class.csv")

Row = dict[str, Any]


def summary_rows(results: GridResults, conditions: Sequence[Condition], thresholds: Sequence[Threshold]) -> list[Row]:
    """Return one row a condition and threshold: means over mixtures with bootstrap 95 % intervals.

    ``snri_db_silence`` and ``attenuation_db_silence`` tell what the means would be if an empty refined query were
    answered by exact silence instead of the network's response to a zero query.

    Args:
        results: of all mixtures.
        conditions: pairs (active, inactive), as measured.
        thresholds: as measured.
    """
    cells = (len(results.index), -1)
    empty = results.kept_active + results.kept_inactive == 0
    silent_snri = np.where(empty, 0.0 - results.input_snr_db[:, :, None], results.snri_db)
    silent_attenuation = np.where(empty & ~np.isnan(results.attenuation_db), 120.0, results.attenuation_db)
    snri = bootstrap_mean(results.snri_db.reshape(cells))
    attenuation = bootstrap_mean(results.attenuation_db.reshape(cells))
    snri_silence = bootstrap_mean(silent_snri.reshape(cells)).mean
    attenuation_silence = bootstrap_mean(silent_attenuation.reshape(cells)).mean
    measured = ~np.isnan(results.snri_db) | ~np.isnan(results.attenuation_db)
    count = measured.sum(0).reshape(-1)
    rows = []
    for number, (condition, threshold) in enumerate((c, t) for c in conditions for t in thresholds):
        values = (*(part[number] for part in (*snri, *attenuation)), snri_silence[number], attenuation_silence[number])
        head = (*condition, threshold_name(threshold), int(count[number]))
        rows.append(dict(zip(SUMMARY_COLUMNS, (*head, *values), strict=True)))
    return rows


def result_rows(
    results: GridResults, conditions: Sequence[Condition], thresholds: Sequence[Threshold], class_names: Sequence[str]
) -> Iterable[Row]:
    """Yield one row a mixture, condition and threshold; none where a mixture cannot serve a condition."""
    names = np.array(class_names)
    for m, mixture in enumerate(results.index):
        order, num_active = names[results.query_order[m]], int(results.num_active[m])
        for c, (active, inactive) in enumerate(conditions):
            if active > num_active:
                continue
            asked = "|".join(order[:active]), "|".join(order[num_active : num_active + inactive])
            for t, threshold in enumerate(thresholds):
                values = (
                    mixture,
                    active,
                    inactive,
                    threshold_name(threshold),
                    num_active,
                    *asked,
                    results.input_snr_db[m, c],
                    results.snri_db[m, c, t],
                    results.attenuation_db[m, c, t],
                    results.kept_active[m, c, t],
                    results.kept_inactive[m, c, t],
                )
                yield dict(zip(RESULT_COLUMNS, values, strict=True))


def classification_rows(results: GridResults, thresholds: Sequence[Threshold]) -> list[Row]:
    """Return one row a numeric threshold."""
    mean_precision = mean_average_precision(results.probability, results.activity)
    rows = []
    for threshold in numeric(thresholds):
        scores = classification_scores(results.probability, results.activity, threshold)
        averages = (scores.macro("f1"), scores.micro_f1, scores.macro("precision"), scores.macro("recall"))
        values = (threshold_name(threshold), *averages, mean_precision)
        rows.append(dict(zip(CLASSIFICATION_COLUMNS, values, strict=True)))
    return rows


def per_class_rows(
    results: GridResults, conditions: Sequence[Condition], thresholds: Sequence[Threshold], class_names: Sequence[str]
) -> list[Row]:
    """Return one row a class and numeric threshold; SNRi at (1:3), over the mixtures that ask for the class there."""
    rows = []
    asked_class = results.query_order[:, 0]
    for threshold in numeric(thresholds):
        scores = classification_scores(results.probability, results.activity, threshold)
        for label, name in enumerate(class_names):
            snri = [float("nan")] * 2
            if PER_CLASS_CONDITION in conditions and NONE in thresholds and (asked_class == label).any():
                at_condition = results.snri_db[asked_class == label, list(conditions).index(PER_CLASS_CONDITION)]
                snri = [at_condition[:, list(thresholds).index(t)].mean() for t in (NONE, threshold)]
            measures = (scores.support[label], scores.precision[label], scores.recall[label], scores.f1[label])
            values = (name, threshold_name(threshold), *measures, *snri)
            rows.append(dict(zip(PER_CLASS_COLUMNS, values, strict=True)))
    return rows


def write_test_results(
    folder: Path,
    results: GridResults,
    conditions: Sequence[Condition],
    thresholds: Sequence[Threshold],
    class_names: Sequence[str],
    cost: Cost,
    config: str | None = None,
) -> list[Row]:
    """Write every file of a test; return the summary's rows.

    All files are written before the first takes its place, so that a killed test leaves those of the one before it.
    What only an earlier test has goes: the files of the classifier for a network without one, a configuration that
    these results were not made with.

    Args:
        folder: ``RUN/test``.
        results: of all mixtures.
        conditions: as measured.
        thresholds: as measured.
        class_names: by index.
        cost: of the network.
        config: text of ``config.yaml``, the configuration of the test; None where there is none.
    """
    summary = summary_rows(results, conditions, thresholds)
    tables: dict[str, tuple[Sequence[str], Iterable[Row]]] = {
        "results.csv": (RESULT_COLUMNS, result_rows(results, conditions, thresholds, class_names)),
        "summary.csv": (SUMMARY_COLUMNS, summary),
        "cost.csv": (tuple(asdict(cost)), [asdict(cost)]),
    }
    if not np.isnan(results.probability).any():
        per_class = per_class_rows(results, conditions, thresholds, class_names)
        tables |= {
            "probabilities.csv": (PROBABILITY_COLUMNS, _probability_rows(results, class_names)),
            "classification.csv": (CLASSIFICATION_COLUMNS, classification_rows(results, thresholds)),
            "per_class.csv": (PER_CLASS_COLUMNS, per_class),
        }
    with ExitStack() as all_files:
        if config is not None:  # the first to enter is the last to take its place
            all_files.enter_context(replacing(folder / "config.yaml")).write_text(config, encoding="utf-8")
        for name, (columns, rows) in tables.items():
            write_csv(all_files.enter_context(replacing(folder / name)), columns, rows)
    written = {*tables, *([] if config is None else ["config.yaml"])}
    for name in {"config.yaml", *CLASSIFIER_FILES} - written:
        (folder / name).unlink(missing_ok=True)
    remove_leftovers(folder)
    return summary


def earlier_results(folder: Path) -> str | None:
    """Say what results a folder holds, in a few words for a message; None where it holds none.

    Args:
        folder: ``RUN/test``.
    """
    path = next((folder / name for name in ("summary.csv", "results.csv") if (folder / name).is_file()), None)
    if path is None:
        return None
    try:
        # every mixture is in the condition that asks for the fewest active classes
        mixtures = max(int(row["n"]) for row in read_csv(folder / "summary.csv", SUMMARY_COLUMNS))
        results = f"the results of {mixtures} mixtures"
    except ValueError:  # InputError is one
        results = "results that cannot be read,"
    return f"{results} measured on {datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M}"


def summary_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out summary rows: thresholds down, conditions across.

    Args:
        rows: of ``summary.csv``, as numbers or as text.

    Returns:
        Several lines: SNRi in dB, attenuation in dB (marked ``att``) for conditions without an active class, and how
        many mixtures are behind each column.
    """
    conditions = list(dict.fromkeys((int(row["active"]), int(row["inactive"])) for row in rows))
    thresholds = list(dict.fromkeys(str(row["threshold"]) for row in rows))
    cell = {(int(row["active"]), int(row["inactive"]), str(row["threshold"])): row for row in rows}

    def text(condition: tuple[int, int], threshold: str) -> str:
        row = cell[(*condition, threshold)]
        value = row["snri_db" if condition[0] else "attenuation_db"]
        return "-" if value == "" or math.isnan(float(value)) else f"{float(value):.2f}"

    head = ["threshold", *(condition_name(c) + ("" if c[0] else " att") for c in conditions)]
    body = [[threshold, *(text(condition, threshold) for condition in conditions)] for threshold in thresholds]
    counts = ["mixtures", *(str(cell[(*condition, thresholds[0])]["n"]) for condition in conditions)]
    title = "SNRi in dB by condition (active:inactive); att: attenuation in dB"
    return f"{title}\n{Table(head, [*body, counts], rules=(0, len(body))).text()}"


def numeric(thresholds: Sequence[Threshold]) -> list[float]:
    """Return the thresholds that are numbers."""
    return [threshold for threshold in thresholds if not isinstance(threshold, str)]


def _probability_rows(results: GridResults, class_names: Sequence[str]) -> Iterator[Row]:
    for m, mixture in enumerate(results.index):
        for k, name in enumerate(class_names):
            values = (mixture, name, results.probability[m, k], int(results.activity[m, k]))
            yield dict(zip(PROBABILITY_COLUMNS, values, strict=True))
