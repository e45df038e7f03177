import numpy as np
import pytest
import yaml

from tse_refine.analysis.comparison_table import csv_table, latex_table, markdown_table
from tse_refine.analysis.systems import group_systems, table_rows
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.errors import InputError


@pytest.fixture
def systems(make_run):
    runs = [
        make_run("b1", refines=False),
        make_run("b2", refines=False, inactive_sample_rate=0.1, offset=-1.0),
        make_run("p0"),
        make_run("p1", seed=1, offset=2.0),
    ]
    return group_systems([MeasuredRun(run) for run in runs])


def test_runs_that_differ_in_their_seed_only_are_one_system(systems):
    assert [(system.name, len(system.runs)) for system in systems] == [
        ("Baseline 1", 1),
        ("Baseline 2", 1),
        ("Proposed", 2),
    ]
    assert [system.has_classifier for system in systems] == [False, False, True]


def test_systems_that_differ_in_the_loss_weight_say_it(make_run):
    runs = [make_run("a", loss_weight=1.0), make_run("b", loss_weight=100.0), make_run("c", loss_weight=1.0, seed=1)]
    systems = group_systems([MeasuredRun(run) for run in runs])
    assert [(system.name, len(system.runs)) for system in systems] == [
        ("Proposed (λ = 1)", 2),
        ("Proposed (λ = 100)", 1),
    ]


def test_differences_are_paired(systems):
    baseline1, baseline2, proposed = systems
    for interval, expected in (
        (baseline1.difference(baseline2, (1, 0), "none", "none"), 1.0),
        (proposed.difference(proposed, (1, 3), "0.3", "none"), 4.25),
    ):
        # 3 dB of hardness a mixture are in both and leave no trace
        assert interval.mean[0] == pytest.approx(expected, abs=1e-4)
        assert interval.low[0] == pytest.approx(expected, abs=1e-3)
        assert interval.high[0] == pytest.approx(expected, abs=1e-3)
    assert proposed.difference(baseline1, (1, 0), "none", "none").mean[0] == pytest.approx(1.0, abs=1e-4)


def test_rows_are_those_of_the_papers_table(systems):
    rows = table_rows(systems)
    assert [(row["system"], row["refinement"]) for row in rows] == [
        ("Baseline 1", "none"),
        ("Baseline 2", "none"),
        *(("Proposed", threshold) for threshold in ("none", "0.3", "oracle", "gate")),
    ]
    by_name = {(row["system"], row["refinement"]): row for row in rows}
    raw, oracle = by_name["Proposed", "none"], by_name["Proposed", "oracle"]
    assert raw[1, 0].mean[0] == pytest.approx(oracle[1, 3].mean[0])
    assert raw[1, 0].mean[0] - raw[1, 3].mean[0] == pytest.approx(6.0, abs=1e-4)
    assert by_name["Proposed", "0.3"]["macro_f1"] == pytest.approx(1.0)
    assert by_name["Baseline 2", "none"]["inactive_samples"] == 0.1
    assert by_name["Baseline 1", "none"]["macro_f1"] is None


def test_the_three_formats_say_the_same(systems):
    rows = table_rows(systems)
    markdown, latex, comma = markdown_table(rows), latex_table(rows), csv_table(rows)
    value = f"{rows[2][1, 0].mean[0]:.2f}"
    assert f"| {value} [" in markdown
    assert f"& {value} {{" in latex
    assert latex.count(r"\midrule") == 3  # below the head, between systems
    assert latex.count("&") == 9 * (len(rows) + 1)
    lines = comma.splitlines()
    assert lines[0].startswith("system,refinement,seeds,inactive_samples,snri_db_1a0i,snri_db_1a0i_low,")
    assert float(lines[3].split(",")[4]) == pytest.approx(rows[2][1, 0].mean[0], abs=1e-4)


@pytest.mark.parametrize("changes", [{"mixtures": 30}, {"data_seed": 1}])
def test_runs_on_other_mixtures_are_not_put_side_by_side(make_run, changes):
    runs = [MeasuredRun(make_run("a")), MeasuredRun(make_run("b", **changes))]
    with pytest.raises(InputError, match=r"/a and .*/b were tested on different mixtures, classes or queries"):
        group_systems(runs)


def test_runs_in_other_conditions_are_not_put_side_by_side(make_run):
    runs = [make_run("a"), make_run("b")]
    for name, cell in (("results.csv", ",1,3,"), ("summary.csv", "\n1,3,")):
        path = runs[1] / "test" / name
        path.write_text("".join(line for line in path.read_text().splitlines(True) if cell not in f"\n{line}"))
    with pytest.raises(InputError, match=r"in different conditions.*\(1:1\), \(1:3\), \(0:1\) and .*\(1:1\), \(0:1\)"):
        group_systems([MeasuredRun(run) for run in runs])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", r"results\.csv: the columns mixture.* it is empty"),
        (lambda text: text.splitlines()[0] + "\n", r"results\.csv holds no row"),
        (lambda text: text[:-20], r"results\.csv: .*cut off or changed"),
        (lambda text: text.replace("snri_db", "sdri_db"), r"results\.csv: the columns snri_db are missing"),
        (lambda text: text.replace("\n0,1,0,", "\nzero,1,0,"), r"results\.csv: .*cut off or changed"),
    ],
)
def test_damaged_results_are_refused_by_file(make_run, change, said):
    run = make_run("a")
    path = run / "test" / "results.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=said):
        _ = MeasuredRun(run).grid


def test_a_foreign_configuration_is_refused(make_run):
    run = make_run("a")
    (run / "config.yaml").write_text(yaml.safe_dump({"model": {}}))
    with pytest.raises(InputError, match=r"config\.yaml: is not the configuration of a run"):
        _ = MeasuredRun(run).config
    (run / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"config\.yaml does not exist"):
        _ = MeasuredRun(run).config


def test_what_is_written_is_read_back(make_run):
    grid = MeasuredRun(make_run("a")).grid
    assert grid.mixtures.tolist() == list(range(40))
    assert grid.conditions == [(1, 0), (1, 1), (1, 3), (0, 1)]
    assert grid.thresholds == ["none", "0.3", "oracle", "gate"]
    fall = grid.cell("snri_db", (1, 0), "none") - grid.cell("snri_db", (1, 3), "none")
    np.testing.assert_allclose(fall, 6.0, atol=1e-4)
    assert np.isnan(grid.cell("snri_db", (0, 1), "none")).all()
    assert len(set(grid.questions)) > 1


def test_systems_that_nothing_else_tells_apart_are_named_after_their_folders(make_run):
    paths = [make_run(f"{folder}/p") for folder in ("x", "y")]
    for path, steps in zip(paths, (10, 20), strict=True):
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["trainer"]["max_steps"] = steps
        (path / "config.yaml").write_text(yaml.safe_dump(config))
    systems = group_systems([MeasuredRun(path) for path in paths])
    assert [system.name for system in systems] == ["Proposed (x/p)", "Proposed (y/p)"]


@pytest.mark.parametrize(
    ("part", "option", "value", "systems"),
    [
        ("trainer", "limit_train_batches", 0.5, 2),
        ("trainer", "accumulate_grad_batches", 8, 2),
        ("trainer", "precision", "16-mixed", 2),
        ("trainer", "enable_progress_bar", False, 1),
        ("data", "download", True, 1),
        ("data", "batch_size", 16, 2),
    ],
)
def test_only_what_differs_in_its_seed_is_pooled(make_run, part, option, value, systems):
    paths = [make_run("p0"), make_run("p1", seed=1)]
    config = yaml.safe_load((paths[1] / "config.yaml").read_text())
    config[part][option] = value
    (paths[1] / "config.yaml").write_text(yaml.safe_dump(config))
    assert len(group_systems([MeasuredRun(path) for path in paths])) == systems


def test_signs_of_latex_and_markdown_in_a_name_stay_signs(make_run):
    rows = table_rows(group_systems([MeasuredRun(make_run("p"))]))
    for row in rows:
        row["system"] = r"a|b_#$^\{"
    line = markdown_table(rows).splitlines()[2]
    assert line.startswith(r"| a\|b_#$^\{ | – |")
    assert r"a|b\_\#\$\textasciicircum{}\textbackslash{}\{ & -- &" in latex_table(rows)
