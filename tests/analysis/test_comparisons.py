import csv
import math

import numpy as np
import pytest

from tse_refine.analysis.comparisons import (
    class_changes,
    class_rows,
    compare_systems,
    condition_differences,
    decision_rows,
    label_rows,
    mean_scores,
    method_differences,
    query_rows,
)
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED, Condition
from tse_refine.evaluation.metrics import ATTENUATION, SI_SDRI, SNRI
from tse_refine.evaluation.results import LABEL_COLUMNS
from tse_refine.refinement import SoftThreshold, Threshold

REFINED = Threshold(0.3)
SOFT = {"none": 2.0, 0.3: 0.5, "soft:0.2-0.6": 0.25, "oracle": 0.0, "gate": 2.0}


def systems_of(*runs):
    return group_systems([TestedRun(run) for run in runs])


def rewrite(path, change):
    """Change the rows of a result file in place."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def systems(make_run):
    return systems_of(
        make_run("b1", refines=False),
        make_run("b2", refines=False, inactive_sample_rate=0.1, offset=-1.0),
        make_run("p0", offset=-1.0),
        make_run("p1", seed=1, offset=-1.0),
    )


def test_rows_are_those_of_the_papers_table(systems):
    results = compare_systems(systems)
    assert [(result.system.name, result.refinement.name) for result in results] == [
        ("Baseline 1", "none"),
        ("Baseline 2", "none"),
        *(("Proposed", name) for name in ("none", "0.3", "oracle", "gate")),
    ]
    by_name = {(result.system.name, result.refinement.name): result for result in results}
    raw, oracle = by_name["Proposed", "none"], by_name["Proposed", "oracle"]
    assert raw.values[MATCHED, "snri_db"].mean[0] == pytest.approx(oracle.values[PARTIAL, "snri_db"].mean[0])
    fall = raw.values[MATCHED, "snri_db"].mean[0] - raw.values[PARTIAL, "snri_db"].mean[0]
    assert fall == pytest.approx(6.0, abs=1e-4)
    assert by_name["Proposed", "0.3"].macro_f1 == pytest.approx(1.0)
    assert by_name["Proposed", "gate"].macro_f1 is None
    assert by_name["Baseline 1", "none"].macro_f1 is None


def test_every_measure_is_compared_where_it_exists(systems):
    raw = compare_systems(systems)[0]
    assert set(raw.values) == {
        *((condition, measure.name) for condition in (MATCHED, (1, 1), PARTIAL) for measure in (SNRI, SI_SDRI)),
        (UNMATCHED, ATTENUATION.name),
    }


def test_soft_thresholds_stand_behind_the_hard_ones(make_run):
    systems = systems_of(make_run("p", falls={"none": 2.0, "soft:0.2-0.6": 0.25, 0.5: 0.1, 0.3: 0.5, "oracle": 0.0}))
    assert [result.refinement.name for result in compare_systems(systems)] == [
        "none", "0.3", "0.5", "soft:0.2-0.6", "oracle",
    ]  # fmt: skip
    names = ["0.3", "0.5", "soft:0.2-0.6"]
    assert [row["threshold"] for row in decision_rows(systems)] == names
    assert list(dict.fromkeys(row["threshold"] for row in class_rows(systems))) == names
    assert list(dict.fromkeys(row["threshold"] for row in query_rows(systems))) == names


def test_every_method_is_compared_with_what_it_changes(systems):
    differences = method_differences([systems[0], systems[2]], REFINED)
    assert [(difference.first, difference.second) for difference in differences] == [
        ("Proposed, raw query", "Baseline 1"),
        ("Proposed, δ = 0.3", "Proposed, raw query"),
        ("Proposed, oracle", "Proposed, raw query"),
        ("Proposed, gate at 0.3", "Proposed, raw query"),
        ("Proposed, δ = 0.3", "Baseline 1"),
    ]
    partial, matched = ([row.values[c].mean[0] for row in differences] for c in (PARTIAL, MATCHED))
    assert partial == pytest.approx([-1.0, 4.25, 6.0, 0.0, 3.25], abs=1e-4)
    assert matched == pytest.approx([-1.0, -0.25, 0.0, 0.0, -1.25], abs=1e-4)
    refined = differences[1].values[PARTIAL]  # the same in every mixture, however difficult it is
    assert (refined.low[0], refined.high[0]) == pytest.approx((4.25, 4.25), abs=1e-3)


def test_a_soft_threshold_is_compared_like_a_hard_one(make_run):
    systems = systems_of(make_run("p", falls=SOFT))
    labels = [row.first for row in method_differences(systems, SoftThreshold(0.2, 0.6))]
    assert labels == [f"Proposed, {label}" for label in ("δ = 0.3", "δ = 0.2 to 0.6", "oracle", "gate at 0.3")]


def test_what_inactive_classes_cost_is_paired_too(systems):
    rows = {row.first: row for row in condition_differences([systems[0], systems[2]], REFINED)}
    assert list(rows) == [
        "Baseline 1",
        "Proposed, raw query",
        "Proposed, δ = 0.3",
        "Proposed, oracle",
        "Proposed, gate at 0.3",
    ]
    assert rows["Baseline 1"].values[PARTIAL].mean[0] == pytest.approx(-6.0, abs=1e-4)
    assert rows["Proposed, δ = 0.3"].values[Condition(1, 1)].low[0] == pytest.approx(-0.5, abs=1e-3)


def test_one_run_without_classifier_has_only_its_conditions(make_run):
    systems = systems_of(make_run("b1", refines=False))
    assert method_differences(systems, None) == []
    assert len(condition_differences(systems, None)) == 1
    assert decision_rows(systems) == query_rows(systems) == class_rows(systems) == []


@pytest.fixture
def seeds(make_run):
    """Two seeds of a run; in the first, the classifier misses an active class of mixture 0 and adds two to others."""

    def miss(rows):
        next(row for row in rows if row["active"] == "1")["probability"] = "0.29999"
        for row in [row for row in rows if row["active"] == "0"][4:6]:
            row["probability"] = "0.30000"  # at the threshold: kept

    def empty(rows):
        cell = [row for row in rows if (row["active"], row["inactive"], row["threshold"]) == ("1", "3", "0.3")]
        cell[0]["n_kept_active"] = "0"  # emptied
        cell[1]["n_kept_inactive"] = "2"

    runs = [make_run("p0", mixtures=10), make_run("p1", mixtures=10, seed=1)]
    rewrite(runs[0] / "test" / "probabilities.csv", miss)
    rewrite(runs[0] / "test" / "results.csv", empty)
    return systems_of(*runs)


def test_removed_and_kept_classes_are_counted_and_averaged_over_seeds(seeds):
    (row,) = decision_rows(seeds)
    assert (row["system"], row["threshold"], row["seeds"]) == ("Proposed", "0.3", 2)
    assert (row["active_classes"], row["inactive_classes"]) == (30, 30)
    assert (row["active_removed"], row["inactive_kept"]) == (0.5, 1.0)
    assert row["macro_recall"] == 1.0  # of per_class.csv, which is unchanged
    assert row["macro_false_negative_rate"] == 0.0
    assert row["map"] == 1.0


def test_a_soft_threshold_keeps_the_classes_of_at_least_half_weight(make_run):
    """The probabilities are 0.8 for active classes and 0.1 for inactive ones."""
    falls = {"none": 2.0, "soft:0.2-0.6": 0.25, "soft:0.7-1": 0.5, "soft:0-0.19": 0.5}
    rows = {row["threshold"]: row for row in decision_rows(systems_of(make_run("p", falls=falls)))}
    removed, kept = (
        {name: row[column] for name, row in rows.items()} for column in ("active_removed", "inactive_kept")
    )
    assert removed == {"soft:0.2-0.6": 0, "soft:0.7-1": 120, "soft:0-0.19": 0}
    assert kept == {"soft:0.2-0.6": 0, "soft:0.7-1": 0, "soft:0-0.19": 120}


def test_what_refinement_does_to_the_queries_of_a_condition(seeds):
    rows = {(row["active"], row["inactive"]): row for row in query_rows(seeds)}
    assert set(rows) == {(1, 0), (1, 1), (1, 3), (0, 1)}
    changed = rows[1, 3]
    assert changed["n"] == 10
    assert changed["active_removed"] == pytest.approx(1 / 20)
    assert changed["inactive_kept"] == pytest.approx(2 / 20)
    assert changed["emptied"] == pytest.approx(1 / 20)
    assert rows[1, 0]["emptied"] == 0.0
    assert rows[0, 1]["emptied"] == 1.0


def test_answers_as_good_as_silence_are_counted(make_run):
    """Of 10 answers at (1:3), one has the SNR of silence, 0 dB, one nearly, and the others another."""
    systems = systems_of(make_run("p", mixtures=10))
    grid = systems[0].runs[0].grid
    condition, refinement = grid.place(PARTIAL, Threshold(0.3))
    snr = np.array([0.0, -0.29, 0.31, *[5.0] * 7])
    grid.values["snri_db"][:, condition, refinement] = snr - grid.input_snr_db[:, condition]
    rows = {(row["active"], row["inactive"]): row for row in query_rows(systems)}
    assert rows[1, 3]["silent"] == pytest.approx(0.2)
    assert np.isnan(rows[0, 1]["silent"])


def test_classes_have_a_false_negative_rate_averaged_over_seeds(make_run):
    runs = [make_run("p0", mixtures=10), make_run("p1", mixtures=10, seed=1)]
    rewrite(runs[0] / "test" / "per_class.csv", lambda rows: rows[0].update(recall="0.50000", snri_db_refined=""))
    systems = systems_of(*runs)
    first = class_rows(systems)[0]
    assert first["class"] == "bell"
    assert first["recall"] == 0.75
    assert first["false_negative_rate"] == 0.25
    other = systems[0].runs[1].classifier.scores["0.3"][0].snri_db_refined
    assert first["snri_db_refined"] == pytest.approx(other)  # the seed without a value is left out


def test_a_class_that_never_occurs_has_no_rates(make_run):
    run = make_run("p")
    rewrite(
        run / "test" / "probabilities.csv",
        lambda rows: [row.update(active="0") for row in rows if row["class"] == "glass"],
    )
    rewrite(run / "test" / "per_class.csv", lambda rows: rows[2].update(support="0", recall="0.00000"))
    # the labels of class_aware.csv still have the class
    rewrite(run / "test" / "classification.csv", lambda rows: [row.pop(name) for row in rows for name in LABEL_COLUMNS])
    systems = systems_of(run)
    glass = class_rows(systems)[2]
    assert (glass["class"], glass["support"]) == ("glass", 0)
    assert np.isnan(glass["false_negative_rate"])
    (row,) = decision_rows(systems)
    assert row["macro_recall"] == 1.0


def test_false_alarms_are_the_share_of_the_mixtures_of_background_alone_in_which_a_class_is_kept(make_run):
    (row,) = decision_rows(systems_of(make_run("p", background_alone=3)))
    assert row["false_alarm_rate"] == pytest.approx(2 / 3)
    assert "false_alarm_rate" not in decision_rows(systems_of(make_run("without")))[0]


def test_the_measures_of_labels_are_means_over_mixtures_and_runs(make_run):
    runs = [make_run("b1", refines=False), make_run("p0", falls=SOFT), make_run("p1", falls=SOFT, seed=1)]

    def miss_a_class(rows):
        for row in rows[::2]:  # at 0.3, in every mixture
            row.update(n_correct="2", n_missed="1", ca_sdri_db="3.00000")

    rewrite(runs[2] / "test" / "class_aware.csv", miss_a_class)
    rewrite(
        runs[2] / "test" / "classification.csv",
        lambda rows: rows[0].update(ca_sdri_db="3.0", mixture_accuracy="0.0", source_accuracy="0.66667"),
    )
    hard, soft = label_rows(systems_of(*runs))
    assert (hard["system"], hard["threshold"], hard["seeds"]) == ("Proposed", "0.3", 2)
    assert soft["threshold"] == "soft:0.2-0.6"
    assert hard["ca_sdri_db"] == pytest.approx((6.0 + 3.0) / 2)  # 0 to 12 dB in the first run
    assert hard["ca_sdri_db_low"] < 4.0 < 5.0 < hard["ca_sdri_db_high"]
    assert (hard["mixture_accuracy"], hard["mixture_accuracy_low"], hard["mixture_accuracy_high"]) == (0.5, 0.0, 1.0)
    assert hard["source_accuracy"] == pytest.approx((1.0 + 2.0 / 3.0) / 2)
    assert (soft["ca_sdri_db"], soft["mixture_accuracy"], soft["source_accuracy"]) == (pytest.approx(6.0), 1.0, 1.0)


def test_a_run_that_was_tested_without_them_leaves_its_system_without_measures_of_labels(make_run):
    runs = [make_run("p0"), make_run("p1", seed=1), make_run("other", loss_weight=1.0)]
    rewrite(
        runs[1] / "test" / "classification.csv", lambda rows: [row.pop(name) for row in rows for name in LABEL_COLUMNS]
    )
    assert [row["system"] for row in label_rows(systems_of(*runs))] == ["Proposed (λ = 1)"]


def test_scores_of_one_run_are_its_own(make_run):
    (system,) = systems_of(make_run("p"))
    assert mean_scores(system, REFINED)[1].name == "dog"


@pytest.fixture
def pair(make_run):
    return [make_run("p0"), make_run("p1", seed=1, offset=2.0)]


def test_the_change_of_a_class_is_paired_over_the_mixtures_that_query_it(pair):
    changes = class_changes(systems_of(*pair)[0], REFINED)
    assert [change.score.name for change in changes] == ["bell", "dog", "glass", "rain", "siren", "tram"]
    assert sum(change.num_queries for change in changes) == 40  # every mixture queries one class there
    for change in changes:
        assert change.score.snri_db_refined - change.score.snri_db_none == pytest.approx(4.25, abs=1e-4)
        for end in change.change:  # neither the mixtures' difficulty nor the runs' 2 dB are left
            assert end[0] == pytest.approx(4.25, abs=1e-3)
        assert change.score.support >= change.num_queries
        assert change.score.recall == 1.0
        assert change.score.false_negative_rate == 0.0


def test_recall_is_the_mean_of_the_runs(pair):
    rewrite(pair[0] / "test" / "per_class.csv", lambda rows: [row.update(recall="0.5") for row in rows])
    scores = [change.score for change in class_changes(systems_of(*pair)[0], REFINED)]
    assert {score.recall for score in scores} == {0.75}
    assert {score.false_negative_rate for score in scores} == {0.25}


def test_a_class_that_no_mixture_queries_has_no_change(pair):
    def rename(rows):
        for row in rows:
            row["query_active"] = row["query_active"].replace("bell", "dog")

    for run in pair:
        rewrite(run / "test" / "results.csv", rename)
    bell, dog, *_ = class_changes(systems_of(*pair)[0], REFINED)
    assert bell.num_queries == 0
    assert math.isnan(bell.change.low[0])
    assert math.isnan(bell.change.mean[0])
    assert dog.change.mean[0] == pytest.approx(4.25, abs=1e-4)


def test_a_threshold_that_was_not_tested_is_rejected(pair):
    with pytest.raises(InputError, match=r"p0 was not tested at \(1:3\) with the thresholds none and 0\.4"):
        class_changes(systems_of(*pair)[0], Threshold(0.4))
