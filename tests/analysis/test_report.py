import base64
import io
import re

import numpy as np
import pytest
import soundfile

from tse_refine.analysis.example import WorkedExample
from tse_refine.analysis.report import write_report
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import PARTIAL
from tse_refine.evaluation.metrics import HEADLINES
from tse_refine.evaluation.results import summary_columns
from tse_refine.files.tables import read_csv, write_csv
from tse_refine.refinement import SoftThreshold, Threshold


def test_runs_of_all_systems_make_tables_figures_and_a_page(make_run, tmp_path):
    runs = [make_run("b1", refines=False), make_run("p0"), make_run("p1", seed=1, offset=1.0)]
    paths = write_report(runs, tmp_path / "report")
    figures = ("snri_by_inactive", "trade_off", "attenuation", "per_class", "thresholds", "reliability")
    expected = {"summary.txt", "table1.md", "table1.tex", "table1.csv", "index.html"}
    expected |= {
        "differences.md",
        "differences.csv",
        "decisions.md",
        "decisions.csv",
        "refined_queries.csv",
        "per_class.csv",
        "events.md",
        "events.csv",
        "class_aware.md",
        "class_aware.csv",
    }
    assert {path.name for path in paths} == expected | {f"{name}.{kind}" for name in figures for kind in ("png", "pdf")}
    assert {path.name for path in (tmp_path / "report").iterdir()} == {path.name for path in paths}
    assert all(path.stat().st_size for path in paths)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 6
    assert "<h1>Query refinement: evaluation report</h1>" in page
    assert "Proposed, 2 seeds" in page
    assert page.index("CA-SDRi") < page.index('id="figures"')  # right below Table 1
    assert (tmp_path / "report" / "summary.txt").read_text().count("0.3           6.00            100.0%") == 2
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


@pytest.mark.parametrize("threshold", ["soft:0.2-0.6", SoftThreshold(0.2, 0.6)])
def test_a_soft_threshold_is_in_every_table_and_can_be_shown(make_run, tmp_path, threshold):
    falls = {"none": 2.0, 0.3: 0.5, "soft:0.2-0.6": 0.25, "oracle": 0.0, "gate": 2.0}
    write_report([make_run("p", falls=falls)], tmp_path / "report", threshold=threshold)
    for name in ("table1.md", "differences.md", "decisions.md", "index.html"):
        assert "δ = 0.2 to 0.6" in (tmp_path / "report" / name).read_text(), name
    for name in ("table1.csv", "decisions.csv", "refined_queries.csv", "per_class.csv", "summary.txt"):
        assert "soft:0.2-0.6" in (tmp_path / "report" / name).read_text(), name


def test_the_scores_of_events_are_on_the_page(make_run, tmp_path):
    run = make_run("p", mixtures=40)  # three active classes each, whose events are all right
    write_report([run], tmp_path / "report")
    (row,) = read_csv(tmp_path / "report" / "events.csv", (), "")
    assert (row["event_f1"], row["events_true"], row["events_right"]) == ("1.00000", "120.00000", "120.00000")
    assert "macro F1 of events" in (tmp_path / "report" / "index.html").read_text()
    (run / "test" / "events.csv").unlink()  # as a version left it that did not measure them
    assert not {"events.md", "events.csv"} & {path.name for path in write_report([run], tmp_path / "report")}
    assert not (tmp_path / "report" / "events.csv").exists()


def test_measures_are_on_the_page_and_in_table_1(make_run, tmp_path):
    write_report([make_run("p")], tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "SI-SDRi (dB) (1:3)" in page
    assert "SI-SDRi (1:0)" in page
    assert "si_sdri_db_1a3i_low" in (tmp_path / "report" / "table1.csv").read_text()


def example_of(signals, name="dog"):
    """A worked example of the four signals, with a class of some name."""
    query = (name, "siren")
    head = (7, PARTIAL, Threshold(0.3), 8000, (name,), query, (name,), {name: 0.9, "siren": 0.1})
    return WorkedExample(*head, *signals, raw_db=1.0, refined_db=8.0, run="p")


@pytest.fixture
def page_with(make_run, tmp_path, monkeypatch):
    """Return the page of a run with a given example."""

    def write(example, run_name="p"):
        monkeypatch.setattr("tse_refine.analysis.report.extract_example", lambda *_: example)
        write_report([make_run(run_name)], tmp_path / "report")
        return (tmp_path / "report" / "index.html").read_text()

    return write


def sounds(page):
    contents = re.findall(r"data:audio/wav;base64,([^\"]+)", page)
    return [soundfile.read(io.BytesIO(base64.b64decode(content)))[0] for content in contents]


def test_players_share_one_gain_and_hold_all_samples(page_with):
    rng = np.random.default_rng(0)
    loud, soft = 3.0 * rng.uniform(-1, 1, 8000).astype(np.float32), np.full(8000, 0.003, np.float32)
    loud[10] = 3.0
    mixture, target, _, _ = sounds(page_with(example_of([loud, soft, soft, soft])))
    assert np.abs(mixture).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)  # does not clip
    assert target[0] / mixture[10] == pytest.approx(0.001, rel=0.05)  # near-silence stays near-silent
    assert len(mixture) == len(target) == 8000


def test_silence_can_be_played(page_with):
    silence, *_ = sounds(page_with(example_of([np.zeros(8000, np.float32)] * 4)))
    assert not silence.any()


def test_class_names_cannot_break_the_page(page_with):
    page = page_with(example_of([np.zeros(8000, np.float32)] * 4, name="<script>alert(1)</script>"))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4  # in the mixture, the query, the probabilities, the refined query


def test_a_run_that_was_not_tested_is_rejected_by_name(tmp_path):
    with pytest.raises(InputError, match=r"test/summary\.csv does not exist"):
        write_report([tmp_path], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_empty_summary_is_rejected(tmp_path):
    write_csv(tmp_path / "test" / "summary.csv", summary_columns(HEADLINES), [])
    with pytest.raises(InputError, match="holds no row"):
        write_report([tmp_path], tmp_path / "report")


def thin_out(run, keep):
    """Leave only some cells in the results of a run."""
    for name in ("results.csv", "summary.csv"):
        path = run / "test" / name
        rows = read_csv(path, ())
        write_csv(path, list(rows[0]), [row for row in rows if keep(row)])


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
    for name in ("per_class.csv", "events.csv", "probabilities.csv"):
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
