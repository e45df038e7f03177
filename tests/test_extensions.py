"""New ideas from outside the package reach training, results and report by their names alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fixtures.tables import rows_of
from tse_refine.model.checkpoint import load_network

RUN_ALL = """
import sys
from tse_refine.cli.main import main

config, run = sys.argv[1:]
main(["fit", "-c", config])
main(["test", "-c", f"{run}/config.yaml"])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, cache_dir):
    """The folder of a run that uses a corpus, a rule and a measure of tests/fixtures/extensions.py, and its report."""
    from tests.fixtures.tiny import write_tiny_config

    folder = tmp_path_factory.mktemp("extensions")
    path = write_tiny_config(folder, cache_dir)
    config = yaml.safe_load(path.read_text())
    config["plugins"] = ["tests.fixtures.extensions"]
    config["data"]["foregrounds"] = {"class_path": "tests.fixtures.extensions.Beeps", "init_args": {"instances": 3}}
    config["data"] |= {"mixture": {"duration_seconds": 1.0, "event_seconds": [0.5, 0.8], "num_events": [1, 2]}}
    config["data"]["queries"] = {"target_counts": [1]}
    config["evaluation"] = {
        "threshold": "power:2",
        "conditions": [[1, 0], [1, 1], [1, 3], [0, 1]],
        "thresholds": ["none", 0.3, "oracle"],
        "validation_conditions": [[1, 0], [1, 1]],
        "validation_thresholds": ["none", 0.1, "power:0.5"],
    }
    path.write_text(yaml.safe_dump(config))
    # processes of their own: what is added to the package's tables must not reach other tests
    root = Path(__file__).parents[1]
    words = [str(path), str(folder / "run")]
    subprocess.run([sys.executable, "-c", RUN_ALL, *words], check=True, cwd=root)
    report = ["report", str(folder / "run"), "--output", str(folder / "report"), "--threshold", "power:2"]
    subprocess.run([sys.executable, "-m", "tse_refine", *report], check=True, cwd=root)
    return folder / "run"


def test_a_rule_and_a_measure_of_ones_own_are_in_every_result_file(run):
    results = rows_of(run / "test" / "results.csv")
    recommended = str(load_network(run / "checkpoints" / "best.ckpt").recommended_threshold)
    assert {row["threshold"] for row in results} == {"none", "0.3", "oracle", "power:2", recommended}
    for row in results:
        assert (row["peak_error"] == "") == (row["active"] == "0")
    cell = ("1", "3", "power:2")
    errors = [float(r["peak_error"]) for r in results if (r["active"], r["inactive"], r["threshold"]) == cell]
    summary = {(row["active"], row["inactive"], row["threshold"]): row for row in rows_of(run / "test" / "summary.csv")}
    assert float(summary[cell]["peak_error"]) == pytest.approx(sum(errors) / len(errors), abs=1e-4)
    assert "power:2" in {row["threshold"] for row in rows_of(run / "test" / "classification.csv")}
    assert {row["threshold"] for row in rows_of(run / "validation.csv")} == {"none", "0.1", "power:0.5", "power:2"}


def test_a_corpus_of_ones_own_gives_the_classes(run):
    classes = {row["class"] for row in rows_of(run / "test" / "per_class.csv")}
    assert classes == {f"{100 * pitch} Hz" for pitch in range(2, 8)}


def test_the_report_shows_both(run):
    report = run.parent / "report"
    table = rows_of(report / "table1.csv")
    assert "power:2" in {row["refinement"] for row in table}
    assert "peak_error_1a3i" in table[0]
    page = (report / "index.html").read_text()
    assert "largest error" in page
    assert "power:2" in page
