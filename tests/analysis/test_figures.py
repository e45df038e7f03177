import pytest

from tse_refine.analysis.figures import (
    plot_attenuation,
    plot_expected_snri,
    plot_per_class,
    plot_refinements,
    plot_reliability,
    plot_snri_by_inactive,
    plot_swept,
    plot_trade_off,
)
from tse_refine.analysis.sweeps import SweptRun
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.refinement import SoftThreshold, Threshold

REFINED, SOFT = Threshold(0.3), SoftThreshold(0.2, 0.6)


@pytest.fixture
def systems(make_run):
    runs = [make_run("b1", refines=False), make_run("b2", refines=False, inactive_sample_rate=0.1), make_run("p")]
    return group_systems([TestedRun(run) for run in runs])


def test_a_panel_per_system_with_a_line_per_refinement(systems):
    figure = plot_refinements(systems)
    assert [panel.get_title() for panel in figure.axes] == ["Baseline 1", "Baseline 2", "Proposed"]
    panel = figure.axes[-1]
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert list(lines) == ["raw query", "δ = 0.3", "oracle", "gate at 0.3"]
    assert lines["raw query"].get_xdata().tolist() == [0, 1, 3]
    fall = lines["raw query"].get_ydata()[0] - lines["raw query"].get_ydata()
    assert fall.tolist() == pytest.approx([0.0, 2.0, 6.0], abs=1e-4)
    assert "dB" in figure.axes[0].get_ylabel()
    assert "inactive classes" in panel.get_xlabel()


def test_many_systems_go_below_one_another(make_run):
    runs = [make_run(f"p{weight}", loss_weight=float(weight)) for weight in range(1, 5)]
    figure = plot_refinements(group_systems([TestedRun(run) for run in runs]))
    shown = [panel for panel in figure.axes if panel.get_visible()]
    assert len(shown) == 4
    assert figure.get_figwidth() < 16.0


def test_methods_are_lines_with_their_means(systems):
    (panel,) = plot_snri_by_inactive(systems, REFINED).axes
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    assert list(lines) == [
        "Baseline 1",
        "Baseline 2",
        "Proposed, raw query",
        "Proposed, δ = 0.3",
        "Proposed, oracle",
        "Proposed, gate at 0.3",
    ]
    raw = lines["Proposed, raw query"]
    assert (raw[0] - raw).tolist() == pytest.approx([0.0, 2.0, 6.0], abs=1e-4)
    refined = lines["Proposed, δ = 0.3"]
    assert (refined[0] - refined).tolist() == pytest.approx([0.0, 0.5, 1.5], abs=1e-4)
    assert panel.get_ylabel() == "SNRi (dB)"


def test_of_several_systems_that_refine_only_raw_and_refined_queries_are_plotted(make_run):
    systems = group_systems([TestedRun(make_run(f"p{weight}", loss_weight=weight)) for weight in (1.0, 10.0)])
    (panel,) = plot_snri_by_inactive(systems, REFINED).axes
    assert [line.get_label() for line in panel.get_lines()] == [
        f"Proposed (λ = {weight}), {what}" for weight in (1, 10) for what in ("raw query", "δ = 0.3")
    ]


def test_labels_of_the_trade_off_do_not_cover_each_other(make_run):
    systems = group_systems([TestedRun(make_run(f"p{weight}", loss_weight=weight)) for weight in (1.0, 10.0)])
    (panel,) = plot_trade_off(systems).axes  # both have the same points
    assert [text.get_text() for text in panel.texts] == ["δ = 0.3", "oracle"]


def test_the_trade_off_is_a_point_per_refinement(systems):
    (panel,) = plot_trade_off(systems).axes
    point = next(line for line in panel.get_lines() if len(line.get_xdata()) == 1)
    assert point.get_xdata()[0] == pytest.approx(-0.25, abs=1e-4)
    assert point.get_ydata()[0] == pytest.approx(6.0 - 1.5 - 0.25, abs=1e-4)
    assert "dB" in panel.get_xlabel()
    assert "dB" in panel.get_ylabel()


def test_attenuation_has_a_bar_per_method(systems):
    (panel,) = plot_attenuation(systems, REFINED).axes
    assert [label.get_text() for label in panel.get_yticklabels()][:3] == [
        "Baseline 1",
        "Baseline 2",
        "Proposed, raw query",
    ]
    widths = [bar.get_width() for bar in panel.patches]
    assert widths[3] - widths[2] == pytest.approx(5.0, abs=1e-4)  # from `none` to 0.3


def test_classes_are_named(systems):
    left, right = plot_per_class(systems[2], REFINED).axes
    names = {label.get_text() for label in left.get_yticklabels()}
    assert names == {"bell", "dog", "glass", "rain", "siren", "tram"}
    assert right.get_xlabel() == "recall of the classifier"


def test_reliability_is_a_dot_per_probability_with_the_error_in_the_legend(systems):
    # probabilities are 0.8 where a class is active and 0.1 elsewhere, three of six classes each
    (panel,) = plot_reliability(systems[2:]).axes
    dots = panel.collections[0].get_offsets().tolist()
    assert dots == [pytest.approx([0.1, 0.0]), pytest.approx([0.8, 1.0])]
    assert "error 15.0 %" in panel.get_legend().get_texts()[0].get_text()


def test_the_expected_snri_is_a_straight_line_per_refinement_below_the_oracle(systems):
    (panel,) = plot_expected_snri(systems[2]).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert {"raw query", "δ = 0.3"} <= set(lines)
    assert "gate at 0.3" not in lines  # nothing to choose
    for label, ends in (("raw query", (0.0, -6.0)), ("δ = 0.3", (-0.25, -1.75))):
        assert lines[label].get_xdata()[[0, -1]].tolist() == [0.0, 1.0]
        assert lines[label].get_ydata()[[0, -1]].tolist() == pytest.approx(ends, abs=1e-4)
    assert "dB" in panel.get_ylabel()
    assert "(1:3)" in panel.get_xlabel()


@pytest.fixture
def soft_system(make_run):
    falls = {"none": 2.0, "soft:0.2-0.6": 0.25, 0.5: 1.0, 0.3: 0.5, "oracle": 0.0}
    return group_systems([TestedRun(make_run("p", falls=falls))])[0]


def test_soft_thresholds_are_plotted_beside_hard_ones(soft_system):
    (panel,) = plot_refinements([soft_system]).axes
    labels = [line.get_label() for line in panel.get_lines()]
    assert labels == ["raw query", "δ = 0.3", "δ = 0.5", "δ = 0.2 to 0.6", "oracle"]
    (panel,) = plot_expected_snri(soft_system).axes
    assert "δ = 0.2 to 0.6" in [line.get_label() for line in panel.get_lines()]
    (panel,) = plot_snri_by_inactive([soft_system], SOFT).axes
    assert "Proposed, δ = 0.2 to 0.6" in [line.get_label() for line in panel.get_lines()]
    left, _ = plot_per_class(soft_system, SOFT).axes
    assert "refined, δ = 0.2 to 0.6" in [line.get_label() for line in left.get_lines()]


def test_the_line_of_the_trade_off_joins_hard_thresholds_only(soft_system):
    (panel,) = plot_trade_off([soft_system]).axes
    points = [line.get_xydata() for line in panel.get_lines() if line.get_marker() == "o"]
    assert [len(line) for line in points] == [2, 1]
    assert points[1][0].tolist() == pytest.approx([-0.25, 6.0 - 0.75 - 0.25], abs=1e-4)
    assert {text.get_text() for text in panel.texts} == {"δ = 0.3", "δ = 0.5", "δ = 0.2 to 0.6", "oracle"}


def swept(option: object, seed: int, value: float) -> SweptRun:
    return SweptRun(f"{option} {seed}", {"option": option, "seed_everything": seed}, {"val/map": value})


def test_swept_runs_are_dots_and_their_means_a_line():
    runs = [swept(100.0, 0, 0.5), swept(100.0, 1, 0.7), swept(1.0, 0, 0.1), swept(1.0, 1, 0.3)]
    panel = plot_swept(runs, "option", {"mAP": {"mean": "val/map"}, "again": {"mean": "val/map"}}).axes[0]
    line, *dots = panel.get_lines()
    assert line.get_label() == "mean"
    assert line.get_xdata().tolist() == [1.0, 100.0]
    assert line.get_ydata().tolist() == pytest.approx([0.2, 0.6])
    points = [tuple(point) for one in dots for point in one.get_xydata()]
    assert sorted(points) == [(1.0, 0.1), (1.0, 0.3), (100.0, 0.5), (100.0, 0.7)]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("option", "mAP")


@pytest.mark.parametrize(
    ("options", "scale"),
    [([1.0, 100.0], "log"), ([0.0, 1.0, 100.0], "symlog"), ([0.1, 0.3], "linear"), (["adam", "sgd"], "linear")],
)
def test_the_scale_suits_the_values_of_the_option(options, scale):
    runs = [swept(option, 0, 0.5) for option in options]
    figure = plot_swept(
        runs, "option", {"mAP": {"mean": "val/map"}, "again": {"mean": "val/map"}, "mean": {"m": "val/map"}}
    )
    assert figure.axes[0].get_xscale() == scale
    assert [panel.get_visible() for panel in figure.axes] == [True, True, True, False]
