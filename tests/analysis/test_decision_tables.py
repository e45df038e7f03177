import numpy as np
import pytest

from tse_refine.analysis.decision_tables import class_rows, decision_rows, markdown_decisions, mean_scores, query_rows
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.evaluation.results import (
    PER_CLASS_COLUMNS,
    PROBABILITY_COLUMNS,
    RESULT_COLUMNS,
)
from tse_refine.files.tables import read_csv, write_csv


@pytest.fixture
def systems(make_run):
    """Two seeds of a run; in the first, the classifier misses an active class of mixture 0 and adds two to others."""
    runs = [make_run("b1", refines=False), make_run("p0", mixtures=10), make_run("p1", mixtures=10, seed=1)]
    path = runs[1] / "test" / "probabilities.csv"
    rows = read_csv(path, PROBABILITY_COLUMNS)
    next(row for row in rows if row["active"] == "1")["probability"] = "0.29999"
    for row in [row for row in rows if row["active"] == "0"][4:6]:
        row["probability"] = "0.30000"  # at the threshold: kept
    write_csv(path, PROBABILITY_COLUMNS, rows)
    path = runs[1] / "test" / "results.csv"
    rows = read_csv(path, RESULT_COLUMNS)
    asked = [row for row in rows if (row["active"], row["inactive"], row["threshold"]) == ("1", "3", "0.3")]
    asked[0]["n_kept_active"] = "0"  # emptied
    asked[1]["n_kept_inactive"] = "2"
    write_csv(path, RESULT_COLUMNS, rows)
    return group_systems([MeasuredRun(run) for run in runs[1:]])


def test_dropped_and_kept_classes_are_counted_and_averaged_over_seeds(systems):
    (row,) = decision_rows(systems)
    assert (row["system"], row["threshold"], row["seeds"]) == ("Proposed", "0.3", 2)
    assert (row["active_classes"], row["inactive_classes"]) == (30, 30)
    assert (row["active_dropped"], row["inactive_kept"]) == (0.5, 1.0)
    assert row["macro_recall"] == 1.0  # of per_class.csv, which nobody changed
    assert row["macro_false_negative_rate"] == 0.0
    assert row["map"] == 1.0


def test_what_refinement_does_to_the_queries_of_a_condition(systems):
    rows = {(row["active"], row["inactive"]): row for row in query_rows(systems)}
    assert set(rows) == {(1, 0), (1, 1), (1, 3), (0, 1)}
    changed = rows[1, 3]
    assert changed["n"] == 10
    assert changed["active_dropped"] == pytest.approx(1 / 20)
    assert changed["inactive_kept"] == pytest.approx(2 / 20)
    assert changed["emptied"] == pytest.approx(1 / 20)
    assert rows[1, 0]["emptied"] == 0.0
    assert rows[0, 1]["emptied"] == 1.0


def test_classes_have_a_false_negative_rate_averaged_over_seeds(systems):
    path = systems[0].runs[0].folder.test / "per_class.csv"
    rows = read_csv(path, PER_CLASS_COLUMNS)
    rows[0] |= {"recall": "0.50000", "snri_db_refined": ""}
    other = float(read_csv(systems[0].runs[1].folder.test / "per_class.csv", PER_CLASS_COLUMNS)[0]["snri_db_refined"])
    write_csv(path, PER_CLASS_COLUMNS, rows)
    first = class_rows(systems)[0]
    assert first["class"] == "bell"
    assert first["recall"] == 0.75
    assert first["false_negative_rate"] == 0.25
    assert first["snri_db_refined"] == pytest.approx(other)  # the seed without a value is left out


def test_a_class_that_never_occurs_has_no_rates(make_run):
    run = make_run("p")
    path = run / "test" / "probabilities.csv"
    rows = read_csv(path, PROBABILITY_COLUMNS)
    write_csv(path, PROBABILITY_COLUMNS, [row | ({"active": "0"} if row["class"] == "glass" else {}) for row in rows])
    path = run / "test" / "per_class.csv"
    rows = read_csv(path, PER_CLASS_COLUMNS)
    rows[2] |= {"support": "0", "recall": "0.00000"}
    write_csv(path, PER_CLASS_COLUMNS, rows)
    systems = group_systems([MeasuredRun(run)])
    glass = class_rows(systems)[2]
    assert (glass["class"], glass["support"]) == ("glass", 0)
    assert np.isnan(glass["false_negative_rate"])
    (row,) = decision_rows(systems)
    assert row["macro_recall"] == 1.0


def test_the_table_has_a_line_a_threshold_with_counts_in_words(systems):
    table = markdown_decisions(decision_rows(systems), query_rows(systems))
    line = table.splitlines()[2]
    assert "| 0.5 of 30 (1.7 %) |" in line  # a mean over two seeds
    assert "| 1 of 30 (3.3 %) |" in line
    assert "(1:3): emptied" in table


def test_systems_without_classifier_decide_nothing(make_run):
    systems = group_systems([MeasuredRun(make_run("b1", refines=False))])
    assert decision_rows(systems) == query_rows(systems) == class_rows(systems) == []


def test_scores_of_one_run_are_its_own(make_run):
    systems = group_systems([MeasuredRun(make_run("p"))])
    assert mean_scores(systems[0], "0.3")[1].name == "dog"
