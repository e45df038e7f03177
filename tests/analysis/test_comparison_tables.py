import re

import pytest

from tse_refine.analysis.comparison_tables import (
    condition_table,
    decision_table,
    difference_rows,
    difference_table,
    label_table,
    measure_table,
    result_rows,
    result_table,
)
from tse_refine.analysis.comparisons import (
    compare_systems,
    condition_differences,
    decision_rows,
    label_rows,
    method_differences,
    query_rows,
)
from tse_refine.analysis.systems import System, group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.evaluation.conditions import MATCHED, PARTIAL
from tse_refine.refinement import Threshold

REFINED = Threshold(0.3)


@pytest.fixture
def systems(make_run):
    runs = [
        make_run("b1", refines=False),
        make_run("b2", refines=False, inactive_sample_rate=0.1, offset=-1.0),
        make_run("p0", offset=1.0),
        make_run("p1", seed=1, offset=1.0),
    ]
    return group_systems([TestedRun(run) for run in runs])


def test_the_three_formats_of_table_1_agree(systems):
    results = compare_systems(systems)
    table, (columns, rows) = result_table(results), result_rows(results)
    mean = results[2].values[MATCHED, "snri_db"].mean[0]
    assert f"| {mean:.2f} [" in table.markdown()
    assert f"& {mean:.2f} {{" in table.latex()
    assert table.latex().count(r"\midrule") == 3  # below the head, between systems
    assert table.latex().count("&") == 11 * (len(results) + 1)
    assert "Proposed, 2 seeds" in table.html()
    assert columns[:6] == ["system", "refinement", "seeds", "inactive_samples", "snri_db_1a0i", "snri_db_1a0i_low"]
    assert rows[2]["snri_db_1a0i"] == pytest.approx(mean)
    assert rows[1]["inactive_samples"] == 0.1
    assert all(set(row) == set(columns) for row in rows)


def test_table_1_says_what_silence_scores(systems):
    grid = systems[0].runs[0].grid
    matched, partial = (-grid.input_snr_db[:, grid.conditions.index(c)].mean() for c in (MATCHED, PARTIAL))
    note = result_table(compare_systems(systems)).note
    assert f"Exact silence has an SNRi of {matched:.2f} dB at (1:0), " in note
    assert f"{partial:.2f} dB at (1:3)." in note
    assert "(0:1)" not in note


def test_table_1_has_the_scale_invariant_measure(systems):
    table = result_table(compare_systems(systems))
    assert [name for name in table.head if name.startswith("SI-SDRi")] == ["SI-SDRi (1:0)", "SI-SDRi (1:3)"]
    columns, _ = result_rows(compare_systems(systems))
    assert {f"si_sdri_db_{key}" for key in ("1a0i", "1a1i", "1a3i")} < set(columns)


def test_the_table_of_measures_has_a_column_per_measure_and_condition(systems):
    table = measure_table(compare_systems(systems), REFINED)
    conditions = ("(1:0)", "(1:1)", "(1:3)")
    assert list(table.head[2:]) == [
        *(f"SNRi (dB) {name}" for name in conditions),
        *(f"SI-SDRi (dB) {name}" for name in conditions),
        "attenuation (dB) (0:1)",
    ]
    assert [row[:2] for row in table.rows] == [
        ["Baseline 1", "raw query"],
        ["Baseline 2", "raw query"],
        ["Proposed, 2 seeds", "raw query"],
        ["Proposed, 2 seeds", "δ = 0.3"],
        ["Proposed, 2 seeds", "oracle"],
    ]


def test_differences_have_a_line_per_comparison_and_the_csv_a_row_per_difference(systems):
    shown = [systems[0], systems[2]]
    methods, conditions = method_differences(shown, REFINED), condition_differences(shown, REFINED)
    assert "| Proposed, δ = 0.3 | Proposed, raw query | -0.25 [-0.25, -0.25] |" in difference_table(methods).markdown()
    assert "| Baseline 1 | -2.00 [-2.00, -2.00] | -6.00 [-6.00, -6.00] |" in condition_table(conditions).markdown()
    rows = difference_rows(methods, conditions)
    assert len(rows) == 5 * 4 + 5 * 2
    assert rows[3]["measure"] == "attenuation_db"
    assert rows[-1]["condition"] == "(1:3) − (1:0)"


def test_decisions_have_a_line_per_refinement_with_counts_and_shares():
    row = dict.fromkeys(("macro_precision", "macro_recall", "macro_false_negative_rate", "macro_f1", "map"), 0.5) | {
        "system": "Proposed",
        "threshold": "soft:0.2-0.6",
        "seeds": 2,
    }
    row |= {"active_classes": 30.0, "active_removed": 0.5, "inactive_classes": 30.0, "inactive_kept": 1.0}
    query = {
        "system": "Proposed",
        "threshold": "soft:0.2-0.6",
        "active": 1,
        "inactive": 3,
        "emptied": 0.125,
        "silent": 0.25,
    }
    table = decision_table([row], [query | {"inactive_kept": 0.5}]).markdown()
    assert "| Proposed, 2 seeds | δ = 0.2 to 0.6 | 0.500 |" in table
    assert "| 0.5 of 30 (1.7 %) | 1 of 30 (3.3 %) | 12.5 % | 25.0 % | 0.50 |" in table
    assert "(1:3): emptied" in table
    assert "(1:0)" not in table


def test_decisions_of_tested_runs_are_printed(systems):
    table = decision_table(decision_rows(systems), query_rows(systems))
    assert [row[1] for row in table.rows] == ["δ = 0.3"]
    assert {"(1:0): emptied", "(1:3): emptied", "(1:3): inactive kept"} < set(table.head)


def test_false_alarms_are_a_column_where_there_are_any(make_run):
    for number, there in ((0, False), (3, True)):
        (system,) = group_systems([TestedRun(make_run(f"p{number}", background_alone=number))])
        table = decision_table(decision_rows([system]), query_rows([system]))
        assert ("false alarms" in table.head) == ("False alarms" in table.note) == there
    assert dict(zip(table.head, table.rows[0], strict=True))["false alarms"] == "66.7 %"


def test_the_measures_of_labels_are_printed_with_their_intervals(systems):
    table = label_table(label_rows(systems))
    assert list(table.head[2:]) == ["CA-SDRi (dB)", "mixture accuracy", "source accuracy"]
    ((system, refinement, ca_sdri, *accuracies),) = table.rows
    assert (system, refinement) == ("Proposed, 2 seeds", "δ = 0.3")
    assert re.fullmatch(r"6\.00 \[4\.\d\d, 7\.\d\d\]", ca_sdri)
    assert accuracies == ["100.0 % [100.0 %, 100.0 %]", "100.0 %"]


def test_signs_of_latex_and_markdown_in_a_name_stay_signs(systems):
    named = [System(r"a|b_#$^\{", systems[2].runs)]
    table = result_table(compare_systems(named))
    assert table.markdown().splitlines()[2].startswith(r"| a\|b_#$^\{, 2 seeds | raw query |")
    assert r"b\_\#\$\textasciicircum{}\textbackslash{}\{, 2 seeds & raw query &" in table.latex()
