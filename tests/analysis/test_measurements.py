import re

import numpy as np
import pytest

from tse_refine.analysis.measurements import read_classifier, read_grid
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED, Condition
from tse_refine.evaluation.metrics import ATTENUATION, SI_SDRI, SNRI
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS
from tse_refine.files.tables import read_csv, write_csv
from tse_refine.refinement import Gate, NoRefinement, Oracle, SoftThreshold, Threshold

RAW = NoRefinement()


def test_what_is_written_is_read_back(make_run):
    grid = TestedRun(make_run("a")).grid
    assert grid.mixtures.tolist() == list(range(40))
    assert grid.conditions == (MATCHED, Condition(1, 1), PARTIAL, UNMATCHED)
    assert grid.refinements == (RAW, Threshold(0.3), Oracle(), Gate(0.3))
    assert grid.measures == (SNRI, SI_SDRI, ATTENUATION)
    fall = grid.cell(SNRI, MATCHED, RAW) - grid.cell(SNRI, PARTIAL, RAW)
    np.testing.assert_allclose(fall, 6.0, atol=1e-4)
    assert np.isnan(grid.cell(SNRI, UNMATCHED, RAW)).all()
    assert not np.isnan(grid.cell(ATTENUATION, UNMATCHED, RAW)).any()
    assert len(set(grid.query_active[:, 0])) > 1
    assert set(grid.query_inactive[:, 0]) == {""}


def test_refinements_are_looked_up_by_name(make_run):
    folder = make_run("a", falls={"none": 2.0, "soft:0.2-0.6": 0.5, "gate": 2.0}) / "test"
    grid = read_grid(folder, gate_threshold=0.2)
    assert grid.refinements == (RAW, SoftThreshold(0.2, 0.6), Gate(0.2))
    assert grid.place(PARTIAL, Gate(0.7)) == (2, 2)
    assert not grid.holds(PARTIAL, Threshold(0.3))
    with pytest.raises(KeyError):
        grid.cell(SNRI, PARTIAL, Threshold(0.3))


def without_columns(run, *names):
    """Remove columns from the results of a run."""
    for file in ("results.csv", "summary.csv"):
        path = run / "test" / file
        rows = read_csv(path, ())
        write_csv(path, [column for column in rows[0] if not column.startswith(names)], rows)


def test_files_of_versions_without_a_measure_are_read(make_run):
    run = make_run("a")
    without_columns(run, "si_sdri_db")
    assert TestedRun(run).grid.measures == (SNRI, ATTENUATION)


def test_mixtures_that_no_condition_queries_have_probabilities_alone(make_run):
    run = make_run("a", background_alone=3, conditions=(MATCHED, PARTIAL))
    tested = TestedRun(run)
    assert tested.grid.mixtures.tolist() == list(range(40))
    assert tested.classifier.activity.sum(1).tolist() == [3] * 40 + [0] * 3
    labels = tested.classifier.labels["0.3"]
    np.testing.assert_array_equal(labels.ca_sdri_db[40:], [0.0, np.nan, 0.0])  # all classes false, none, all false
    assert labels.counts.false.tolist() == [0] * 40 + [6, 0, 6]
    assert (labels.mean("ca_sdri_db"), labels.mean("mixture_accuracy")) == pytest.approx((240 / 42, 41 / 43))
    path = run / "test" / "probabilities.csv"
    rows = read_csv(path, ())
    rows[-1]["active"] = "1"  # the last mixture should now be in results.csv
    write_csv(path, list(rows[0]), rows)
    with pytest.raises(InputError, match=r"probabilities\.csv: holds a mixture that results\.csv lacks"):
        _ = TestedRun(run).classifier


def test_a_further_measure_may_be_undefined_for_some_mixtures(make_run):
    run = make_run("a")
    path = run / "test" / "results.csv"
    rows = read_csv(path, ())
    for row in rows:
        if row["mixture"] == "7":
            row["si_sdri_db"] = ""
    write_csv(path, list(rows[0]), rows)
    rows = read_csv(run / "test" / "summary.csv", ())
    grid = None
    with pytest.raises(InputError, match=r"summary\.csv: \(1:0\), none has .* dB there, but the rows of results"):
        grid = TestedRun(run).grid
    values = {row["mixture"]: row for row in read_csv(path, ()) if row["si_sdri_db"]}
    assert grid is None
    assert "7" not in values
    for row in rows:
        cell = [
            float(other["si_sdri_db"])
            for other in read_csv(path, ())
            if other["si_sdri_db"] and all(other[key] == row[key] for key in ("active", "inactive", "threshold"))
        ]
        row["si_sdri_db"] = f"{np.mean(cell):.5f}" if cell else ""
    write_csv(run / "test" / "summary.csv", list(rows[0]), rows)
    assert np.isnan(TestedRun(run).grid.cell(SI_SDRI, MATCHED, RAW)).sum() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", r"results\.csv: the columns mixture.* are missing"),
        (lambda text: text.splitlines()[0] + "\n", r"results\.csv holds no row"),
        (lambda text: text[:-20], r"results\.csv.*run it again"),
        (lambda text: re.sub(r"\bsnri_db", "sdri_db", text), r"results\.csv: the columns snri_db are missing"),
        (lambda text: text.replace("\n0,1,0,", "\nzero,1,0,"), r"results\.csv: mixture: invalid literal .* again"),
        (lambda text: text.replace("0.3,", "soft:0.6-0.2,"), r"results\.csv: .*the soft threshold runs from 0\.6 to"),
        (lambda text: text.replace("0.3,", "most,"), r"results\.csv: .*'most' is not .*none, .*soft:LOW-HIGH"),
    ],
)  # fmt: skip
def test_damaged_results_are_rejected_by_file(make_run, change, message):
    run = make_run("a")
    path = run / "test" / "results.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=message):
        _ = TestedRun(run).grid


def test_the_classifier_is_read_back(make_run):
    run = TestedRun(make_run("a", falls={"none": 2.0, 0.3: 0.5, "soft:0.2-0.6": 0.25}))
    classifier = read_classifier(run.folder.test, run.grid)
    assert classifier.class_names == ("bell", "dog", "glass", "rain", "siren", "tram")
    np.testing.assert_array_equal(classifier.probability, np.where(classifier.activity, 0.8, 0.1))
    assert classifier.activity.sum(1).tolist() == [3] * 40
    assert dict(classifier.macro_f1) == {"0.3": 1.0, "soft:0.2-0.6": 1.0}
    scores = classifier.scores["soft:0.2-0.6"]
    assert [score.support for score in scores] == classifier.activity.sum(0).tolist()
    assert {score.false_negative_rate for score in scores} == {0.0}
    labels = classifier.labels["soft:0.2-0.6"]
    np.testing.assert_allclose(labels.ca_sdri_db, np.linspace(0.0, 12.0, 40), atol=1e-5)
    assert set(labels.counts.correct) == {3}
    assert set(labels.counts.missed) == set(labels.counts.false) == {0}


def test_files_of_versions_without_measures_of_labels_are_read(make_run):
    run = TestedRun(make_run("a"))
    path = run.folder.test / "classification.csv"
    rows = read_csv(path, CLASSIFICATION_COLUMNS)
    write_csv(path, CLASSIFICATION_COLUMNS, rows)
    (run.folder.test / "class_aware.csv").unlink()
    assert run.classifier.labels == {}
    assert dict(run.classifier.macro_f1) == {"0.3": 1.0}
