from pathlib import Path

import numpy as np
import pytest
import yaml

from tse_refine.analysis.choices import best_by_share, best_pair, best_value, choose_refinement, difference_on_test
from tse_refine.analysis.sweeps import SweptRun
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, Condition
from tse_refine.evaluation.metrics import SNRI
from tse_refine.refinement import NoRefinement, SoftThreshold, Threshold

METRIC = "val/snri_db/1a3i/refined"
RAW, REFINED = NoRefinement(), Threshold(0.3)


@pytest.fixture
def system(make_run):
    """At (1:3) refinement gains 4.25 dB, at (1:0) it costs 0.25 dB, in every mixture of both runs."""
    return group_systems([TestedRun(run) for run in (make_run("p0"), make_run("p1", seed=1, offset=2.0))])[0]


def test_the_expected_snri_is_the_weighted_mean_of_both_conditions(system):
    choice = choose_refinement(system, 0.25)
    assert choice.refinements == (RAW, REFINED)  # neither oracle nor gate can be chosen
    matched = system.mean(MATCHED, REFINED).mean[0]
    partial = system.mean(PARTIAL, REFINED).mean[0]
    assert choice.expected.mean[1] == pytest.approx(0.75 * matched + 0.25 * partial)


def test_soft_thresholds_can_be_chosen(make_run):
    falls = {"none": 2.0, "soft:0.2-0.6": 0.25, 0.3: 0.5, "oracle": 0.0}
    (system,) = group_systems([TestedRun(make_run("p", falls=falls))])
    soft = SoftThreshold(0.2, 0.6)
    assert choose_refinement(system, 1.0).refinements == (RAW, REFINED, soft)
    assert choose_refinement(system, 1.0).best == soft
    assert [rule for rule, _, _ in best_by_share(system)] == [RAW, soft]


@pytest.mark.parametrize(("share", "best", "lead"), [(0.0, RAW, 0.25), (0.5, REFINED, 2.0), (1.0, REFINED, 4.25)])
def test_the_lead_of_the_best_is_paired(system, share, best, lead):
    choice = choose_refinement(system, share)
    assert choice.best == best
    assert choice.alike == (best,)
    other = 1 - choice.refinements.index(best)
    # the difficulty of 3 dB per mixture and the 2 dB between the runs are on both sides and leave no trace
    for end in choice.behind:
        assert end[other] == pytest.approx(lead, abs=1e-3)
        assert end[1 - other] == 0.0


def test_refinements_within_noise_are_alike(system):
    grid = system.runs[0].grid
    noise = np.random.default_rng(0).normal(0.0, 2.0, len(grid.mixtures))
    raw, refined = (grid.cell(SNRI, PARTIAL, rule) for rule in (RAW, REFINED))
    refined[:] = raw + noise - noise.mean()  # the same as without refinement up to noise of no mean
    alone = group_systems(system.runs[:1])[0]
    assert choose_refinement(alone, 1.0).alike == (RAW, REFINED)


def test_the_best_changes_where_the_lines_cross(system):
    (first, start, crossing), (second, again, end) = best_by_share(system)
    assert (first, second) == (RAW, REFINED)
    assert (start, end) == (0.0, 1.0)
    assert crossing == again == pytest.approx(0.25 / (0.25 + 4.25), abs=1e-4)
    for share, best in ((crossing - 0.01, RAW), (crossing + 0.01, REFINED)):
        assert choose_refinement(system, share).best == best


def test_a_refinement_that_is_nowhere_best_has_no_range(system):
    for run in system.runs:
        run.grid.values[SNRI.name][:, :, run.grid.place(MATCHED, REFINED)[1]] -= 5.0
    assert best_by_share(system) == [(RAW, 0.0, 1.0)]


def test_what_was_not_tested_is_rejected(system):
    with pytest.raises(InputError, match=r"p0 was not tested in the condition \(2:2\); tested were \(1:0\), \(1:1\)"):
        choose_refinement(system, 0.5, partial=Condition(2, 2))
    with pytest.raises(InputError, match=r"share of partially matched queries is 1\.5"):
        choose_refinement(system, 1.5)


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


def test_without_repeats_the_effect_of_the_seed_is_not_known():
    best = best_value([RUNS[0], RUNS[2]], "model.loss_weight", METRIC)
    assert (best.best, best.lead) == (10.0, pytest.approx(3.0))
    assert best.spread is None
    assert best.beyond_chance is None


def test_a_single_value_has_no_lead():
    best = best_value(RUNS[:2], "model.loss_weight", METRIC)
    assert (best.best, best.runner_up, best.lead) == (1.0, None, 0.0)


@pytest.mark.parametrize(
    ("share", "refinements", "expected"),
    [
        (0.0, (), (1.0, "none", 9.0)),
        (0.5, (), (1.0, "0.3", 7.5)),
        (1.0, (), (1.0, "0.3", 7.0)),
        (1.0, ("refined",), (10.0, "refined", 6.0)),
        (0.9, ("delta_0p1", "none"), (10.0, "0.1", 6.2)),
        (0.5, ("soft_0p2_0p6", "none"), (10.0, "soft:0.2-0.6", 6.75)),
    ],
)
def test_value_and_refinement_are_chosen_together(share, refinements, expected):
    """At the operating threshold 0.1 the larger weight is better at (1:3); at 0.3 the smaller one is, everywhere."""
    measured = {1.0: {"none": (9.0, 2.0), "delta_0p1": (8.8, 4.0), "delta_0p3": (8.0, 7.0), "soft_0p2_0p6": (7.0, 6.0)}}
    measured[10.0] = {"none": (8.5, 3.0), "delta_0p1": (8.0, 6.0), "delta_0p3": (7.5, 6.5), "soft_0p2_0p6": (7.5, 6.0)}
    runs = []
    for weight, cells in measured.items():
        cells = cells | {"refined": cells["delta_0p1"], "oracle": (99.0, 99.0)}  # the oracle cannot be chosen
        for seed in (-0.5, 0.5):
            conditions = enumerate(("1a0i", "1a3i"))
            metrics = {f"val/snri_db/{c}/{key}": pair[n] + seed for n, c in conditions for key, pair in cells.items()}
            runs.append(SweptRun("run", {"model.loss_weight": weight}, metrics))
    pair = best_pair(runs, "model.loss_weight", "val", share, refinements)
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
    for end in difference:  # the difficulty of 3 dB per mixture leaves no trace
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
