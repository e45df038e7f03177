import csv
import math

import pytest

from tse_refine.analysis.class_changes import class_changes
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.errors import InputError


@pytest.fixture
def runs(make_run):
    return [make_run("p0"), make_run("p1", seed=1, offset=2.0)]


def system_of(runs):
    return group_systems([MeasuredRun(run) for run in runs])[0]


def rewrite(path, change):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        change(row)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_the_change_of_a_class_is_paired_over_the_mixtures_that_ask_for_it(runs):
    changes = class_changes(system_of(runs), "0.3")
    assert [one.score.name for one in changes] == ["bell", "dog", "glass", "rain", "siren", "tram"]
    assert sum(one.asked for one in changes) == 40  # every mixture asks for one class there
    for one in changes:
        assert one.score.snri_db_refined - one.score.snri_db_none == pytest.approx(4.25, abs=1e-4)
        for end in one.change:  # neither the mixtures' hardness nor the runs' 2 dB are left
            assert end[0] == pytest.approx(4.25, abs=1e-3)
        assert one.score.support >= one.asked
        assert one.score.recall == 1.0
        assert one.false_negative_rate == 0.0


def test_recall_is_the_mean_of_the_runs(runs):
    rewrite(runs[0] / "test" / "per_class.csv", lambda row: row.update(recall="0.5"))
    assert {one.score.recall for one in class_changes(system_of(runs), "0.3")} == {0.75}
    assert {one.false_negative_rate for one in class_changes(system_of(runs), "0.3")} == {0.25}


def test_a_class_that_no_mixture_asks_for_has_no_change(runs):
    for run in runs:  # what asked for the bell asks for the dog
        rewrite(
            run / "test" / "results.csv",
            lambda row: row.update(query_active=row["query_active"].replace("bell", "dog")),
        )
    bell, dog, *_ = class_changes(system_of(runs), "0.3")
    assert bell.asked == 0
    assert math.isnan(bell.change.low[0])
    assert math.isnan(bell.change.mean[0])
    assert dog.change.mean[0] == pytest.approx(4.25, abs=1e-4)


def test_a_threshold_that_was_not_tested_is_refused(runs):
    with pytest.raises(InputError, match=r"p0 was not tested at \(1:3\) with the thresholds none and 0\.4"):
        class_changes(system_of(runs), "0.4")
