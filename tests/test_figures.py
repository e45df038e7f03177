import pytest

from tse_refine.comparison import group_systems
from tse_refine.figures import (
    draw_attenuation,
    draw_per_class,
    draw_snri_by_inactive,
    draw_thresholds,
    draw_trade_off,
)
from tse_refine.measured_run import MeasuredRun
from tse_refine.results import SUMMARY_COLUMNS


def summary(offset: float) -> list[dict[str, object]]:
    """SNRi falls by 2 dB an inactive class without refinement, by 1 dB at 0.5, and not at all with the oracle."""
    slope = {"none": 2.0, "0.5": 1.0, "oracle": 0.0}
    rows = []
    for threshold, fall in slope.items():
        for inactive in (3, 0, 1):  # the order of rows must not matter
            value = 10.0 + offset - fall * inactive
            measures = {"snri_db": value, "snri_db_low": value - 0.5, "snri_db_high": value + 0.5}
            row = {"active": 1, "inactive": inactive, "threshold": threshold, "n": 9} | measures
            rows.append({column: row.get(column, "") for column in SUMMARY_COLUMNS})
    return rows


@pytest.fixture
def systems(make_run):
    runs = [make_run("b1", refines=False), make_run("b2", refines=False, inactive_sample_rate=0.1), make_run("p")]
    return group_systems([MeasuredRun(run) for run in runs])


def test_lines_are_the_summarys_numbers_in_order_of_inactive_classes():
    as_text = [{key: str(value) for key, value in row.items()} for row in summary(0.0)]
    (panel,) = draw_thresholds({"run": as_text}).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert set(lines) == {"none", "0.5", "oracle"}
    assert lines["none"].get_xdata().tolist() == [0, 1, 3]
    assert lines["none"].get_ydata().tolist() == [10.0, 8.0, 4.0]
    assert lines["oracle"].get_ydata().tolist() == [10.0, 10.0, 10.0]
    assert "dB" in panel.get_ylabel()
    assert "inactive classes" in panel.get_xlabel()


def test_methods_are_lines_with_their_means(systems):
    (panel,) = draw_snri_by_inactive(systems, "0.3").axes
    lines = {line.get_label(): line.get_ydata() for line in panel.get_lines()}
    assert list(lines) == [
        "Baseline 1",
        "Baseline 2",
        "Proposed, raw query",
        "Proposed, refined at 0.3",
        "Proposed, oracle",
        "Proposed, gate",
    ]
    raw = lines["Proposed, raw query"]
    assert (raw[0] - raw).tolist() == pytest.approx([0.0, 2.0, 6.0], abs=1e-4)
    refined = lines["Proposed, refined at 0.3"]
    assert (refined[0] - refined).tolist() == pytest.approx([0.0, 0.5, 1.5], abs=1e-4)
    assert panel.get_ylabel() == "SNRi (dB)"


def test_the_trade_off_is_a_point_a_threshold(systems):
    (panel,) = draw_trade_off(systems).axes
    point = next(line for line in panel.get_lines() if len(line.get_xdata()) == 1)
    assert point.get_xdata()[0] == pytest.approx(-0.25, abs=1e-4)
    assert point.get_ydata()[0] == pytest.approx(6.0 - 1.5 - 0.25, abs=1e-4)
    assert "dB" in panel.get_xlabel()
    assert "dB" in panel.get_ylabel()


def test_attenuation_has_a_bar_a_method(systems):
    (panel,) = draw_attenuation(systems, "0.3").axes
    assert [label.get_text() for label in panel.get_yticklabels()][:3] == [
        "Baseline 1",
        "Baseline 2",
        "Proposed, raw query",
    ]
    widths = [bar.get_width() for bar in panel.patches]
    assert widths[3] - widths[2] == pytest.approx(5.0, abs=1e-4)  # from `none` to 0.3


def test_classes_are_named(systems):
    left, right = draw_per_class(systems[2], "0.3").axes
    names = {label.get_text() for label in left.get_yticklabels()}
    assert names == {"bell", "dog", "glass", "rain", "siren", "tram"}
    assert right.get_xlabel() == "recall of the classifier"
