import numpy as np
import pytest
from tse_refine.analysis.threshold_choice import best_by_share, choose_threshold

from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.errors import InputError


@pytest.fixture
def system(make_run):
    """At (1:3) refinement wins 4.25 dB, at (1:0) it costs 0.25 dB, in every mixture of both runs."""
    return group_systems([MeasuredRun(run) for run in (make_run("p0"), make_run("p1", seed=1, offset=2.0))])[0]


def test_the_expected_snri_is_the_weighted_mean_of_both_conditions(system):
    choice = choose_threshold(system, 0.25)
    assert choice.thresholds == ("none", "0.3")  # neither oracle nor gate is a threshold to choose
    matched = system.mean((1, 0), "0.3").mean[0]
    partial = system.mean((1, 3), "0.3").mean[0]
    assert choice.expected.mean[1] == pytest.approx(0.75 * matched + 0.25 * partial)


@pytest.mark.parametrize(("share", "best", "lead"), [(0.0, "none", 0.25), (0.5, "0.3", 2.0), (1.0, "0.3", 4.25)])
def test_the_lead_of_the_best_is_paired(system, share, best, lead):
    choice = choose_threshold(system, share)
    assert choice.best == best
    assert choice.alike == (best,)
    other = 1 - choice.thresholds.index(best)
    # 3 dB of hardness a mixture and 2 dB between the runs are on both sides and leave no trace
    for end in choice.behind:
        assert end[other] == pytest.approx(lead, abs=1e-3)
        assert end[1 - other] == 0.0


def test_thresholds_within_noise_are_alike(system):
    grid = system.runs[0].grid
    noise = np.random.default_rng(0).normal(0.0, 2.0, len(grid.mixtures))
    row, column = grid.conditions.index((1, 3)), grid.thresholds.index("0.3")
    # at 0.3, the same as without refinement up to noise of no mean
    grid.snri_db[:, row, column] = grid.snri_db[:, row, 0] + noise - noise.mean()
    alone = group_systems(system.runs[:1])[0]
    assert choose_threshold(alone, 1.0).alike == ("none", "0.3")


def test_the_best_changes_where_the_lines_cross(system):
    (first, start, crossing), (second, again, end) = best_by_share(system)
    assert (first, second) == ("none", "0.3")
    assert (start, end) == (0.0, 1.0)
    assert crossing == again == pytest.approx(0.25 / (0.25 + 4.25), abs=1e-4)
    for share, best in ((crossing - 0.01, "none"), (crossing + 0.01, "0.3")):
        assert choose_threshold(system, share).best == best


def test_a_threshold_that_is_nowhere_best_has_no_range(system):
    for run in system.runs:
        run.grid.snri_db[:, :, run.grid.thresholds.index("0.3")] -= 5.0
    assert best_by_share(system) == [("none", 0.0, 1.0)]


def test_what_was_not_tested_is_refused(system):
    with pytest.raises(InputError, match=r"p0 was not tested in the condition \(2:2\); tested were \(1:0\), \(1:1\)"):
        choose_threshold(system, 0.5, partial=(2, 2))
    with pytest.raises(InputError, match=r"share of partially matched queries is 1\.5"):
        choose_threshold(system, 1.5)
