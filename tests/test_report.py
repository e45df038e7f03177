from pathlib import Path

import pytest

from tse_refine.errors import InputError
from tse_refine.report import draw_snri_by_inactive, write_report
from tse_refine.results import SUMMARY_COLUMNS, write_table


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
def runs(tmp_path: Path) -> list[Path]:
    for number, name in enumerate(("first", "second")):
        write_table(tmp_path / name / "test" / "summary.csv", SUMMARY_COLUMNS, summary(number))
    return [tmp_path / "first", tmp_path / "second"]


def test_lines_are_the_summarys_numbers_in_order_of_inactive_classes():
    as_text = [{key: str(value) for key, value in row.items()} for row in summary(0.0)]
    (panel,) = draw_snri_by_inactive({"run": as_text}).axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert set(lines) == {"none", "0.5", "oracle"}
    assert lines["none"].get_xdata().tolist() == [0, 1, 3]
    assert lines["none"].get_ydata().tolist() == [10.0, 8.0, 4.0]
    assert lines["oracle"].get_ydata().tolist() == [10.0, 10.0, 10.0]
    assert "dB" in panel.get_ylabel()
    assert "inactive classes" in panel.get_xlabel()


def test_several_runs_share_a_figure_and_a_table(runs, tmp_path):
    paths = write_report(runs, tmp_path / "report")
    assert [path.name for path in paths] == ["summary.txt", "snri_vs_inactive.png", "snri_vs_inactive.pdf"]
    assert all(path.stat().st_size for path in paths)
    text = paths[0].read_text()
    assert "first" in text
    assert "second" in text
    assert "10.00" in text
    assert "11.00" in text


def test_a_run_that_was_not_tested_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"test/summary\.csv does not exist"):
        write_report([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_empty_summary_is_refused(tmp_path):
    write_table(tmp_path / "test" / "summary.csv", SUMMARY_COLUMNS, [])
    with pytest.raises(InputError, match="holds no row"):
        write_report([tmp_path], tmp_path / "report")
