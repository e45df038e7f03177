import pytest

from tse_refine.analysis.report import write_report
from tse_refine.errors import InputError
from tse_refine.evaluation.results import RESULT_COLUMNS, SUMMARY_COLUMNS
from tse_refine.files.tables import read_csv, write_csv


def test_runs_of_all_systems_make_tables_figures_and_a_page(make_run, tmp_path):
    runs = [make_run("b1", refines=False), make_run("p0"), make_run("p1", seed=1, offset=1.0)]
    paths = write_report(runs, tmp_path / "report")
    figures = ("snri_by_inactive", "trade_off", "attenuation", "per_class", "thresholds")
    expected = {"summary.txt", "table1.md", "table1.tex", "table1.csv", "index.html"}
    expected |= {
        "differences.md",
        "differences.csv",
        "decisions.md",
        "decisions.csv",
        "refined_queries.csv",
        "per_class.csv",
    }
    assert {path.name for path in paths} == expected | {f"{name}.{kind}" for name in figures for kind in ("png", "pdf")}
    assert {path.name for path in (tmp_path / "report").iterdir()} == {path.name for path in paths}
    assert all(path.stat().st_size for path in paths)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "Proposed, 2 seeds" in page
    assert "http" not in page.replace("http-equiv", "")  # nothing comes from elsewhere


def test_without_a_classifier_there_is_nothing_to_trade(make_run, tmp_path):
    paths = write_report([make_run("b1", refines=False)], tmp_path / "report")
    assert {path.stem for path in paths if path.suffix == ".png"} == {"snri_by_inactive", "attenuation", "thresholds"}


def test_nothing_of_an_earlier_report_stays_beside_a_new_one(make_run, tmp_path):
    write_report([make_run("p")], tmp_path / "report")
    (tmp_path / "report" / "example.png").touch()
    (tmp_path / "report" / "mine.png").touch()
    paths = write_report([make_run("b1", refines=False)], tmp_path / "report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"mine.png", *(path.name for path in paths)}


def test_the_threshold_of_the_figures_can_be_chosen_among_those_measured(make_run, tmp_path):
    with pytest.raises(InputError, match=r"--threshold: .* was not tested at 0\.4\. Give --threshold, one of 0\.3,"):
        write_report([make_run("p")], tmp_path / "report", threshold=0.4)


def test_a_run_that_was_not_tested_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"test/summary\.csv does not exist"):
        write_report([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_empty_summary_is_refused(tmp_path):
    write_csv(tmp_path / "test" / "summary.csv", SUMMARY_COLUMNS, [])
    with pytest.raises(InputError, match="holds no row"):
        write_report([tmp_path], tmp_path / "report")


def thin_out(run, keep):
    """Leave only some cells in the results of a run."""
    for name, columns in (("results.csv", RESULT_COLUMNS), ("summary.csv", SUMMARY_COLUMNS)):
        path = run / "test" / name
        rows = [row for row in read_csv(path, columns) if keep(row)]
        write_csv(path, columns, rows)


@pytest.mark.parametrize(
    "keep",
    [
        lambda row: (row["active"], row["inactive"]) != ("1", "3"),
        lambda row: (row["active"], row["inactive"]) != ("1", "0"),
        lambda row: row["active"] == "0",
        lambda row: row["threshold"] != "none",
        lambda row: row["threshold"] != "oracle",
        lambda row: row["threshold"] != "gate",
        lambda row: (row["active"], row["inactive"]) == ("1", "0"),
    ],
    ids=["no (1:3)", "no (1:0)", "only (0:1)", "no none", "no oracle", "no gate", "only (1:0)"],
)
def test_grids_that_lack_a_part_are_reported_without_it(make_run, tmp_path, keep):
    run = make_run("p")
    thin_out(run, keep)
    paths = write_report([run], tmp_path / "report")
    assert "index.html" in {path.name for path in paths}


def test_class_names_may_hold_signs_that_mean_something_elsewhere(make_run, tmp_path):
    run = make_run("p")
    for name in ("per_class.csv", "probabilities.csv"):
        path = run / "test" / name
        path.write_text(path.read_text().replace("glass", "$^$").replace("bell", "<b>&"))
    write_report([run], tmp_path / "report")
    assert "<b>&" not in (tmp_path / "report" / "index.html").read_text()


def test_the_report_goes_into_a_folder_of_its_own(make_run, tmp_path):
    run = make_run("p")
    (tmp_path / "afile").touch()
    with pytest.raises(InputError, match=r"--output: .*afile is a file"):
        write_report([run], tmp_path / "afile")
    before = (run / "test" / "per_class.csv").read_bytes()
    with pytest.raises(InputError, match=r"--output: .* holds the results that are read"):
        write_report([run], run / "test")
    assert (run / "test" / "per_class.csv").read_bytes() == before
