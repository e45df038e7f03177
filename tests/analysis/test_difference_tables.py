import pytest

from tse_refine.analysis.difference_tables import (
    condition_rows,
    difference_rows,
    markdown_conditions,
    markdown_differences,
    tidy_differences,
)
from tse_refine.analysis.systems import group_systems
from tse_refine.analysis.tested_run import MeasuredRun


@pytest.fixture
def systems(make_run):
    runs = [make_run("b1", refines=False), make_run("p0", offset=-1.0), make_run("p1", seed=1, offset=-1.0)]
    return group_systems([MeasuredRun(run) for run in runs])


def test_every_method_is_compared_with_what_it_changes(systems):
    rows = difference_rows(systems, "0.3")
    assert [(row["first"], row["second"]) for row in rows] == [
        ("Proposed, raw query", "Baseline 1"),
        ("Proposed, δ = 0.3", "Proposed, raw query"),
        ("Proposed, oracle", "Proposed, raw query"),
        ("Proposed, gate at 0.3", "Proposed, raw query"),
        ("Proposed, δ = 0.3", "Baseline 1"),
    ]
    assert [row[1, 3].mean[0] for row in rows] == pytest.approx([-1.0, 4.25, 6.0, 0.0, 3.25], abs=1e-4)
    assert [row[1, 0].mean[0] for row in rows] == pytest.approx([-1.0, -0.25, 0.0, 0.0, -1.25], abs=1e-4)
    refined = rows[1][1, 3]  # the same in every mixture, however hard it is
    assert (refined.low[0], refined.high[0]) == pytest.approx((4.25, 4.25), abs=1e-3)


def test_what_inactive_classes_cost_is_paired_too(systems):
    rows = {row["method"]: row for row in condition_rows(systems, "0.3")}
    assert list(rows) == [
        "Baseline 1",
        "Proposed, raw query",
        "Proposed, refined at 0.3",
        "Proposed, oracle",
        "Proposed, gate at 0.3",
    ]
    assert rows["Baseline 1"][1, 3].mean[0] == pytest.approx(-6.0, abs=1e-4)
    assert rows["Proposed, refined at 0.3"][1, 1].low[0] == pytest.approx(-0.5, abs=1e-3)


def test_tables_have_a_line_a_comparison_and_the_csv_a_row_a_difference(systems):
    differences, costs = difference_rows(systems, "0.3"), condition_rows(systems, "0.3")
    assert "| Proposed, δ = 0.3 | Proposed, raw query | -0.25 [-0.25, -0.25] |" in markdown_differences(differences)
    assert "| Baseline 1 | -2.00 [-2.00, -2.00] | -6.00 [-6.00, -6.00] |" in markdown_conditions(costs)
    tidy = tidy_differences(differences, costs)
    assert len(tidy) == 5 * 4 + 5 * 2
    assert tidy[3]["measure"] == "attenuation_db"
    assert tidy[-1]["condition"] == "(1:3) − (1:0)"


def test_one_run_without_classifier_has_only_its_conditions(make_run):
    systems = group_systems([MeasuredRun(make_run("b1", refines=False))])
    assert difference_rows(systems, None) == []
    assert len(condition_rows(systems, None)) == 1
