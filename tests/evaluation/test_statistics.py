import warnings

import numpy as np
import pytest

from tse_refine.evaluation.statistics import bootstrap_mean, paired_difference, pooled_mean


@pytest.fixture
def values():
    values = 5.0 + 2.0 * np.random.default_rng(0).standard_normal((300, 4))
    values[::3, 1] = np.nan  # a cell that a third of the mixtures cannot serve
    values[:, 3] = np.nan  # a cell that none can
    return values


def test_the_mean_is_over_the_mixtures_that_have_a_value(values):
    expected = [values[:, 0].mean(), np.mean([v for v in values[:, 1] if not np.isnan(v)]), values[:, 2].mean()]
    np.testing.assert_allclose(bootstrap_mean(values).mean[:3], expected, rtol=1e-12)


def test_a_cell_without_values_has_nan_everywhere_and_warns_of_nothing(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interval = bootstrap_mean(values)
    for part in interval:
        assert np.isnan(part).tolist() == [False, False, False, True]


def test_the_interval_is_close_to_the_normal_approximation(values):
    interval = bootstrap_mean(values)
    for cell in range(3):
        present = values[~np.isnan(values[:, cell]), cell]
        width = 2 * 1.96 * present.std() / np.sqrt(len(present))
        assert interval.high[cell] - interval.low[cell] == pytest.approx(width, rel=0.1)
        assert (interval.low[cell] + interval.high[cell]) / 2 == pytest.approx(present.mean(), abs=0.1 * width)


def test_the_interval_covers_the_true_mean_at_about_the_nominal_rate():
    # 600 cells are 600 experiments; the standard error of the rate is 0.9 %, and the percentile bootstrap of 100
    # mixtures covers a little less than it says
    values = np.random.default_rng(1).normal(3.0, 2.0, size=(100, 600))
    interval = bootstrap_mean(values)
    covered = ((interval.low <= 3.0) & (interval.high >= 3.0)).mean()
    assert 0.91 < covered < 0.98


def test_the_interval_shrinks_with_the_root_of_the_mixtures():
    values = np.random.default_rng(2).standard_normal((1600, 1))
    few, many = bootstrap_mean(values[:100]), bootstrap_mean(values)
    assert ((few.high - few.low) / (many.high - many.low)).item() == pytest.approx(4.0, rel=0.25)


def test_the_same_values_have_the_same_interval_whatever_the_global_random_state(values):
    np.random.seed(1)  # noqa: NPY002  the legacy state is the one that others may touch
    first = bootstrap_mean(values)
    np.random.seed(2)  # noqa: NPY002
    for one, other in zip(first, bootstrap_mean(values), strict=True):
        np.testing.assert_array_equal(one, other)


def test_all_cells_resample_the_same_mixtures(values):
    # so that cells can be compared pair by pair: shifting a cell shifts its interval, whatever stands beside it
    both = bootstrap_mean(np.column_stack([values[:, 0], values[:, 0] + 10.0, values[:, 1]]))
    alone = bootstrap_mean(values[:, :1])
    np.testing.assert_allclose(both.low[:2], [alone.low[0], alone.low[0] + 10.0])
    np.testing.assert_allclose(both.high[:2], [alone.high[0], alone.high[0] + 10.0])


def test_constant_values_have_an_interval_of_no_width():
    # a cell with one value is left out of resamples that miss its mixture
    values = np.array([[7.0, np.nan], [7.0, 2.0], [7.0, np.nan], [7.0, np.nan]])
    for part in bootstrap_mean(values):
        np.testing.assert_allclose(part, [7.0, 2.0])


def test_a_single_mixture_is_its_own_interval():
    for part in bootstrap_mean(np.array([[1.5, -2.0]])):
        np.testing.assert_allclose(part, [1.5, -2.0])


def test_one_run_pools_to_its_own_mean(values):
    for pooled, alone in zip(pooled_mean(values[None]), bootstrap_mean(values), strict=True):
        np.testing.assert_array_equal(pooled, alone)


def test_runs_that_differ_widen_the_interval_runs_that_agree_do_not(values):
    alike = pooled_mean(np.stack([values] * 4))
    apart = pooled_mean(values + np.array([-3.0, -1.0, 1.0, 3.0])[:, None, None])
    alone = bootstrap_mean(values)
    np.testing.assert_allclose(apart.mean, alone.mean)
    width = [interval.high[0] - interval.low[0] for interval in (alone, alike, apart)]
    assert width[1] == pytest.approx(width[0], rel=0.1)
    # four runs whose means have a standard deviation of 2.24 dB: 1.96 * 2 * 2.24 / 2
    assert width[2] == pytest.approx(4.4, rel=0.1)


def test_a_paired_difference_has_a_narrow_interval_where_the_means_do_not():
    rng = np.random.default_rng(1)
    hardness = 10.0 * rng.standard_normal((400, 1))
    first, second = (hardness + gain + 0.1 * rng.standard_normal((400, 1)) for gain in (0.5, 0.0))
    first[5], second[7] = np.nan, np.nan
    interval = paired_difference(first[None], second[None])
    both = np.delete(first - second, [5, 7])
    assert interval.mean[0] == pytest.approx(both.mean())
    assert 0.45 < interval.low[0] < interval.high[0] < 0.55
    means = [bootstrap_mean(side) for side in (first, second)]
    assert means[0].low[0] < means[1].high[0]  # their own intervals overlap


def test_a_paired_difference_resamples_the_runs_of_each_side(values):
    first = np.stack([values, values + 2.0])
    interval = paired_difference(first, values[None])
    assert interval.mean[0] == pytest.approx(1.0)
    assert interval.low[0] == pytest.approx(0.0)  # both draws the first run
    assert interval.high[0] == pytest.approx(2.0)
    turned = paired_difference(values[None], first)
    np.testing.assert_allclose(turned.mean[:3], -interval.mean[:3])


@pytest.mark.parametrize("runs", [1, 2, 3, 5, 6, 7])
def test_where_all_values_are_alike_the_interval_is_a_point(runs):
    interval = pooled_mean(np.full((runs, 200, 1), 120.0))
    assert interval.low[0] == pytest.approx(120.0, abs=1e-9)
    assert interval.high[0] == pytest.approx(120.0, abs=1e-9)
    assert interval.low[0] <= interval.mean[0] <= interval.high[0]
    side = np.random.default_rng(0).normal(size=(1, 50, 1)) * np.ones((runs, 1, 1))
    difference = paired_difference(side, side)
    assert (difference.low[0], difference.high[0]) == pytest.approx((0.0, 0.0), abs=1e-6)
