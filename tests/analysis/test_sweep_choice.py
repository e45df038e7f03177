from pathlib import Path

import pytest
import yaml
from tse_refine.analysis.sweep_choice import best_pair, best_value, difference_on_test

from tse_refine.analysis.sweeps import SweptRun
from tse_refine.errors import InputError

METRIC = "val/snri_db/1a3i/refined"


def swept(weight, seed, value, folder=None):
    return SweptRun(f"{weight}-{seed}", {"model.loss_weight": weight, "seed_everything": seed}, {METRIC: value}, folder)


RUNS = [swept(1.0, 0, 5.0), swept(1.0, 1, 5.5), swept(10.0, 0, 8.0), swept(10.0, 1, 7.0), swept(100.0, 0, 7.0)]


def test_the_best_mean_wins_by_its_lead_over_the_next():
    best = best_value(RUNS, "model.loss_weight", METRIC)
    assert (best.best, best.runner_up) == (10.0, 100.0)
    assert best.lead == pytest.approx(0.5)
    assert best.spread == pytest.approx(1.0)  # of the seeds at 10; 100 has one run
    assert best.beyond_chance is False


def test_smaller_may_be_better():
    best = best_value(RUNS, "model.loss_weight", METRIC, maximize=False)
    assert (best.best, best.runner_up) == (1.0, 100.0)
    assert best.lead == pytest.approx(1.75)
    assert best.spread == pytest.approx(0.5)
    assert best.beyond_chance is True


def test_without_repeats_chance_is_not_known():
    best = best_value([RUNS[0], RUNS[2]], "model.loss_weight", METRIC)
    assert (best.best, best.lead) == (10.0, pytest.approx(3.0))
    assert best.spread is None
    assert best.beyond_chance is None


def test_a_single_value_leads_nobody():
    best = best_value(RUNS[:2], "model.loss_weight", METRIC)
    assert (best.best, best.runner_up, best.lead) == (1.0, None, 0.0)


@pytest.mark.parametrize(
    ("share", "thresholds", "expected"),
    [
        (0.0, (), (1.0, "none", 9.0)),
        (0.5, (), (1.0, "0.3", 7.5)),
        (1.0, (), (1.0, "0.3", 7.0)),
        (1.0, ("refined",), (10.0, "refined", 6.0)),
        (0.9, ("delta_0p1", "none"), (10.0, "0.1", 6.2)),
    ],
)
def test_value_and_threshold_are_chosen_together(share, thresholds, expected):
    """At the operating threshold 0.1 the larger weight is better at (1:3); at 0.3 the smaller one is, everywhere."""
    measured = {1.0: {"none": (9.0, 2.0), "delta_0p1": (8.8, 4.0), "delta_0p3": (8.0, 7.0)}}
    measured[10.0] = {"none": (8.5, 3.0), "delta_0p1": (8.0, 6.0), "delta_0p3": (7.5, 6.5)}
    runs = []
    for weight, cells in measured.items():
        cells = cells | {"refined": cells["delta_0p1"], "oracle": (99.0, 99.0)}  # nobody can choose the oracle
        for seed in (-0.5, 0.5):
            conditions = enumerate(("1a0i", "1a3i"))
            metrics = {f"val/snri_db/{c}/{key}": pair[n] + seed for n, c in conditions for key, pair in cells.items()}
            runs.append(SweptRun("run", {"model.loss_weight": weight}, metrics))
    pair = best_pair(runs, "model.loss_weight", "val", share, thresholds)
    assert pair[:2] == expected[:2]
    assert pair.expected_snri_db == pytest.approx(expected[2])


def test_pairs_need_a_threshold_that_all_runs_share():
    with pytest.raises(InputError, match="No threshold was measured in val/snri_db/1a0i and val/snri_db/1a3i of every"):
        best_pair(RUNS, "model.loss_weight", "val", 0.5)


def write_test_config(folder, threshold):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "test" / "config.yaml").write_text(yaml.safe_dump(config | {"evaluation": {"threshold": threshold}}))


@pytest.fixture
def pair(make_run):
    """Two loss weights, 2 dB apart in every mixture."""
    groups = []
    for weight, offset in ((1.0, 0.0), (10.0, 2.0)):
        folders = [make_run(f"{weight}-{seed}", loss_weight=weight, seed=seed, offset=offset) for seed in (0, 1)]
        for folder in folders:
            write_test_config(folder, 0.3)
        groups.append([swept(weight, seed, 0.0, folder) for seed, folder in enumerate(folders)])
    return groups


@pytest.mark.parametrize("metric", [METRIC, "test/snri_db/1a0i/none", "val/snri_db/1a1i/delta_0p3"])
def test_tested_runs_are_compared_pair_by_pair(pair, metric):
    first, second = pair
    difference = difference_on_test(second, first, metric)
    for end in difference:  # the mixtures' hardness of 3 dB leaves no trace
        assert end[0] == pytest.approx(2.0, abs=1e-3)


def test_refined_is_the_threshold_of_each_runs_own_test(pair):
    first, second = pair
    for run in second:
        write_test_config(run.folder, 0.4)
    with pytest.raises(InputError, match=r"10\.0-0: its test has no 1a3i/refined"):
        difference_on_test(second, first, METRIC)


def test_what_was_not_tested_here_is_not_compared(pair):
    first, second = pair
    assert difference_on_test(second, [swept(1.0, 0, 0.0)], METRIC) is None  # a run of W&B's
    assert difference_on_test(second, [swept(1.0, 0, 0.0, Path("nowhere"))], METRIC) is None
    assert difference_on_test(second, first, "val/macro_f1/delta_0p3") is None


def test_runs_on_other_mixtures_are_not_compared(pair, make_run):
    other = swept(5.0, 0, 0.0, make_run("other", data_seed=1))
    write_test_config(other.folder, 0.3)
    with pytest.raises(InputError, match="different mixtures, classes or queries"):
        difference_on_test(pair[0], [other], METRIC)
