"""Every number in the result files of a fake network whose answers are known, against values worked out by hand."""

import csv
import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.fixtures.runs import make_results
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED, Condition
from tse_refine.evaluation.grid import Grid, evaluate_batch
from tse_refine.evaluation.printed import false_alarm_text, label_table, summary_table
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS, earlier_results, summary_columns, write_test_results
from tse_refine.model.cost import Cost
from tse_refine.model.network import Features
from tse_refine.refinement import Threshold, parse_refinements

# Three unit pulses: source k is 1 at sample k, so that energies and errors can be counted.
CLASSES = ["a", "b", "c", "d"]
CONDITIONS = (MATCHED, Condition(1, 1), UNMATCHED)
REFINEMENTS = ["none", 0.5, "oracle", "gate"]
GRID = Grid(CONDITIONS, parse_refinements(REFINEMENTS, "refinements", gate_threshold=0.5), class_aware=True)
HALF = 10 * np.log10(2)  # 3.0103 dB


class PulseNetwork(nn.Module):
    """Answers with half of each queried class's pulse at its sample; nothing leaks otherwise."""

    def extract(self, features: Features, query: torch.Tensor) -> torch.Tensor:
        return 0.5 * query


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, list[dict[str, str]]]:
    eye = torch.eye(4)
    batch = {
        # mixture 0 holds a and b, mixture 1 holds c and b; sources come in the order they are asked for
        "mixture": torch.stack([eye[0] + eye[1], eye[2] + eye[1]]),
        "sources": torch.stack([torch.stack([eye[0], eye[1]]), torch.stack([eye[2], eye[1]])]),
        "source_classes": torch.tensor([[0, 1], [2, 1]]),
        "query_order": torch.tensor([[0, 1, 2, 3], [2, 1, 3, 0]]),
        "activity": torch.stack([eye[0] + eye[1], eye[2] + eye[1]]),
        "index": torch.tensor([0, 1]),
    }
    # mixture 0: a is kept, inactive c too; mixture 1: c is missed, inactive d is removed
    probability = torch.tensor([[0.9, 0.8, 0.6, 0.1], [0.2, 0.7, 0.4, 0.3]])
    features = Features(torch.zeros(2, 1, 1), torch.zeros(2, 1, 1), None, 4)
    results = evaluate_batch(PulseNetwork(), features, probability, batch, GRID, 3)
    write_test_results(tmp_path, results, CLASSES, Cost(10, 2, 1.5, 0.25))
    names = ("results", "summary", "probabilities", "classification", "class_aware", "per_class", "cost")
    return {name: read(tmp_path / f"{name}.csv") for name in names}


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def by_cell(rows: list[dict[str, str]], *keys: str) -> dict[tuple[str, ...], dict[str, str]]:
    return {tuple(row[key] for key in keys): row for row in rows}


def test_results_hold_the_values_worked_out_by_hand(tables):
    rows = by_cell(tables["results"], "mixture", "active", "inactive", "threshold")
    assert len(rows) == len(tables["results"]) == 2 * 3 * 4
    # target a (energy 1), estimate a/2: error 1/4, SNR 6.02 dB; the mixture's error is b: SNR 0 dB
    good = 2 * HALF
    # with an inactive class the estimate also has half a pulse of it: error 1/4 + 1/4, SNR 3.01 dB
    leaky = HALF
    expected = {
        ("0", "1", "0"): {"none": good, "0.5": good, "oracle": good, "gate": good},
        ("1", "1", "0"): {"none": good, "0.5": 0.0, "oracle": good, "gate": 0.0},  # c is missed: silence
        ("0", "1", "1"): {"none": leaky, "0.5": leaky, "oracle": good, "gate": leaky},  # c is let through
        ("1", "1", "1"): {"none": leaky, "0.5": 0.0, "oracle": good, "gate": 0.0},
    }
    for cell, by_threshold in expected.items():
        for threshold, snri in by_threshold.items():
            row = rows[(*cell, threshold)]
            assert float(row["snri_db"]) == pytest.approx(snri, abs=1e-5)
            assert float(row["input_snr_db"]) == pytest.approx(0.0, abs=1e-5)
            assert row["attenuation_db"] == ""
    # half a pulse of a mixture of energy 2: 10 log10(2 / 0.25) = 9.03 dB; nothing: 120 dB
    attenuation = {
        "0": {"none": 3 * HALF, "0.5": 3 * HALF, "oracle": 120.0, "gate": 3 * HALF},
        "1": {"none": 3 * HALF, "0.5": 120.0, "oracle": 120.0, "gate": 120.0},
    }
    for mixture, by_threshold in attenuation.items():
        for threshold, value in by_threshold.items():
            row = rows[(mixture, "0", "1", threshold)]
            assert float(row["attenuation_db"]) == pytest.approx(value, abs=1e-5)
            assert row["snri_db"] == row["input_snr_db"] == ""


def test_results_name_the_queries_and_count_what_was_kept(tables):
    rows = by_cell(tables["results"], "mixture", "active", "inactive", "threshold")
    first = rows["0", "1", "1", "0.5"]
    assert (first["query_active"], first["query_inactive"], first["num_active"]) == ("a", "c", "2")
    assert (first["n_kept_active"], first["n_kept_inactive"]) == ("1", "1")
    second = rows["1", "1", "1", "0.5"]
    assert (second["query_active"], second["query_inactive"]) == ("c", "d")
    assert (second["n_kept_active"], second["n_kept_inactive"]) == ("0", "0")
    assert rows["1", "0", "1", "none"]["query_active"] == ""
    assert (rows["1", "1", "1", "oracle"]["n_kept_active"], rows["1", "1", "1", "oracle"]["n_kept_inactive"]) == (
        "1",
        "0",
    )


def test_summary_averages_and_bounds(tables):
    rows = by_cell(tables["summary"], "active", "inactive", "threshold")
    assert list(tables["summary"][0]) == list(summary_columns(GRID.measures))
    missed = rows["1", "0", "0.5"]
    assert missed["n"] == "2"
    assert float(missed["snri_db"]) == pytest.approx(HALF, abs=1e-5)  # mean of 6.02 and 0
    # of resamples of two mixtures a quarter holds only the first and a quarter only the second
    assert float(missed["snri_db_low"]) == pytest.approx(0.0, abs=1e-5)
    assert float(missed["snri_db_high"]) == pytest.approx(2 * HALF, abs=1e-5)
    unmatched = rows["0", "1", "0.5"]
    assert float(unmatched["attenuation_db"]) == pytest.approx((3 * HALF + 120.0) / 2, abs=1e-5)
    assert unmatched["snri_db"] == unmatched["snri_db_silence"] == ""
    # this network is silent for a zero query, so that exact silence changes nothing
    for row in tables["summary"]:
        assert row["snri_db_silence"] == row["snri_db"]
        assert row["attenuation_db_silence"] == row["attenuation_db"]


def test_silence_columns_replace_the_response_to_a_zero_query(tmp_path):
    class Leaky(nn.Module):
        def extract(self, features, query):
            return 0.5 * query + 0.1 * torch.tensor([[0.0, 0.0, 0.0, 1.0]])  # leaks a tenth at the last sample

    eye = torch.eye(4)
    batch = {
        "mixture": eye[:1] + eye[1:2],
        "sources": torch.stack([eye[0], eye[1]])[None],
        "source_classes": torch.tensor([[0, 1]]),
        "query_order": torch.tensor([[0, 1, 2, 3]]),
        "activity": eye[:1] + eye[1:2],
        "index": torch.tensor([0]),
    }
    features = Features(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), None, 4)
    results = evaluate_batch(Leaky(), features, torch.zeros(1, 4), batch, Grid(CONDITIONS, (Threshold(0.5),)), 3)
    write_test_results(tmp_path, results, CLASSES, Cost(1, 0, 1.0, 0.0))
    rows = by_cell(read(tmp_path / "summary.csv"), "active", "inactive")
    # leak of energy 0.01 beside a target of energy 1 that is missed: error 1.01
    assert float(rows["1", "0"]["snri_db"]) == pytest.approx(-10 * np.log10(1.01), abs=1e-5)
    assert float(rows["1", "0"]["snri_db_silence"]) == pytest.approx(0.0, abs=1e-5)
    assert float(rows["0", "1"]["attenuation_db"]) == pytest.approx(10 * np.log10(2 / 0.01), abs=1e-5)
    assert float(rows["0", "1"]["attenuation_db_silence"]) == 120.0


def test_classifier_tables_hold_the_values_worked_out_by_hand(tables):
    probabilities = by_cell(tables["probabilities"], "mixture", "class")
    assert float(probabilities["1", "c"]["probability"]) == pytest.approx(0.4)
    assert (probabilities["1", "c"]["active"], probabilities["0", "c"]["active"]) == ("1", "0")
    # at 0.5: a: tp 1; b: tp 2; c: fp 1, fn 1; d never active, never decided
    (row,) = tables["classification"]
    assert row["threshold"] == "0.5"
    assert float(row["macro_f1"]) == pytest.approx((1 + 1 + 0) / 3, abs=1e-5)
    assert float(row["micro_f1"]) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1), abs=1e-5)
    assert float(row["macro_precision"]) == pytest.approx((1 + 1 + 0) / 3, abs=1e-5)
    assert float(row["macro_recall"]) == pytest.approx((1 + 1 + 0) / 3, abs=1e-5)
    # average precision: a 1, b 1, c: its active mixture has rank 2 of 2, so 1/2
    assert float(row["map"]) == pytest.approx(2.5 / 3, abs=1e-5)


def test_mixtures_without_an_active_class_count_where_they_are_queried_and_as_false_alarms(tmp_path):
    eye = torch.eye(4)
    batch = {
        # mixture 0 holds a and b; of the others, background alone, the first class in their order is a too
        "mixture": torch.stack([eye[0] + eye[1], eye[3], eye[3]]),
        "sources": torch.stack([torch.stack([eye[0], eye[1]]), *torch.zeros(2, 2, 4)]),
        "query_order": torch.tensor([[0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 1, 3]]),
        "activity": torch.stack([eye[0] + eye[1], torch.zeros(4), torch.zeros(4)]),
        "index": torch.arange(3),
    }
    probability = torch.tensor([[0.9, 0.8, 0.6, 0.1], [0.1, 0.1, 0.1, 0.6], [0.1, 0.2, 0.3, 0.4]])
    features = Features(torch.zeros(3, 1, 1), torch.zeros(3, 1, 1), None, 4)
    # (3:0) is beyond every mixture of the batch
    rules = parse_refinements(["none", 0.5, 0.7], "refinements")
    grid = Grid((MATCHED, PARTIAL, UNMATCHED, Condition(3, 0)), rules, class_aware=True)
    results = evaluate_batch(PulseNetwork(), features, probability, batch, grid, 3)
    write_test_results(tmp_path, results, CLASSES, Cost(10, 2, 1.5, 0.25))
    rows = by_cell(read(tmp_path / "results.csv"), "mixture", "active", "inactive", "threshold")
    assert {key[1:3] for key in rows if key[0] != "0"} == {("0", "1")}
    # half a pulse of a mixture of energy 1; the refined query is empty
    assert float(rows["1", "0", "1", "none"]["attenuation_db"]) == pytest.approx(2 * HALF, abs=1e-5)
    assert (rows["1", "0", "1", "none"]["query_inactive"], rows["1", "0", "1", "0.5"]["n_kept_inactive"]) == ("a", "0")
    summary = by_cell(read(tmp_path / "summary.csv"), "active", "inactive", "threshold")
    numbers = {key[:2]: row["n"] for key, row in summary.items()}
    assert numbers == {("1", "0"): "1", ("1", "3"): "1", ("0", "1"): "3", ("3", "0"): "0"}
    scores = by_cell(read(tmp_path / "classification.csv"), "threshold")
    assert {name: float(row["false_alarm_rate"]) for (name,), row in scores.items()} == {"0.5": 0.5, "0.7": 0.0}
    # no label, true or estimated, is a correct silence: right as a label set, and in no mean of the CA-SDRi
    aware = by_cell(read(tmp_path / "class_aware.csv"), "mixture", "threshold")
    assert [aware[m, "0.5"]["ca_sdri_db"] for m in ("1", "2")] == ["0.00000", ""]
    assert float(scores["0.5",]["ca_sdri_db"]) == pytest.approx((4 * HALF / 3 + 0.0) / 2, abs=1e-5)
    assert float(scores["0.7",]["ca_sdri_db"]) == pytest.approx(2 * HALF, abs=1e-5)
    accuracies = [float(scores[name,]["mixture_accuracy"]) for name in ("0.5", "0.7")]
    assert accuracies == pytest.approx([1 / 3, 1.0], abs=1e-5)
    assert float(by_cell(read(tmp_path / "per_class.csv"), "class", "threshold")["a", "0.5"]["snri_db_none"]) == (
        pytest.approx(float(rows["0", "1", "3", "none"]["snri_db"]), abs=1e-5)
    )
    assert false_alarm_text(results) == (
        "False alarms in the 2 mixtures without an active class: 0.5 50.0 %, 0.7 0.0 %"
    )


def test_without_such_mixtures_there_is_no_word_of_false_alarms(tables):
    assert "false_alarm_rate" not in tables["classification"][0]
    assert false_alarm_text(make_results(3, np.random.default_rng(0))) == ""


def test_labels_and_what_is_extracted_alone_have_the_values_worked_out_by_hand(tables):
    rows = by_cell(tables["class_aware"], "mixture", "threshold")
    assert set(rows) == {("0", "0.5"), ("1", "0.5")}  # the raw query, oracle and gate decide nothing class by class
    # half a pulse alone has 6.02 dB, as above; mixture 0: a and b gain that, c is false; mixture 1: b does, c is missed
    for mixture, gained, union, counts in (("0", 4 * HALF, 3, ("2", "0", "1")), ("1", 2 * HALF, 2, ("1", "1", "0"))):
        row = rows[mixture, "0.5"]
        assert float(row["ca_sdri_db"]) == pytest.approx(gained / union, abs=1e-5)
        assert (row["n_correct"], row["n_missed"], row["n_false"]) == counts
    (row,) = tables["classification"]
    assert float(row["ca_sdri_db"]) == pytest.approx((4 / 3 + 1) / 2 * HALF, abs=1e-5)
    # of resamples of two mixtures a quarter holds only the first and a quarter only the second
    assert float(row["ca_sdri_db_low"]) == pytest.approx(HALF, abs=1e-5)
    assert float(row["ca_sdri_db_high"]) == pytest.approx(4 / 3 * HALF, abs=1e-5)
    assert float(row["mixture_accuracy"]) == 0.0
    assert float(row["source_accuracy"]) == pytest.approx(3 / 5)


def test_per_class_table(tables):
    rows = by_cell(tables["per_class"], "class")
    assert {name: row["support"] for (name,), row in rows.items()} == {"a": "1", "b": "2", "c": "1", "d": "0"}
    assert float(rows["b",]["recall"]) == 1.0
    assert float(rows["c",]["f1"]) == 0.0
    assert rows["a",]["snri_db_none"] == ""  # (1:3) was not measured


def test_cost_table(tables):
    (row,) = tables["cost"]
    assert {name: float(value) for name, value in row.items()} == {
        "parameters": 10,
        "parameters_classifier": 2,
        "gmac_per_second": 1.5,
        "gmac_per_second_classifier": 0.25,
    }


def arguments(mixtures: int, seed: int, refines: bool = True) -> tuple:
    """Return what ``write_test_results`` takes after the folder; other numbers for another seed."""
    refinements = REFINEMENTS if refines else ["none", "oracle"]
    results = make_results(
        mixtures, np.random.default_rng(seed), CONDITIONS, refinements, num_classes=4, num_active=2,
        has_classifier=refines,
    )  # fmt: skip
    return results, CLASSES, Cost(10, 2 if refines else 0, 1.5, 0.0), f"seed: {seed}\n"


# writes results, but kills itself at the 700th row of a table
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from tests.evaluation import test_results
from tse_refine.evaluation import results

folder, rows_of = Path(sys.argv[1]), sys.argv[2]
rows = getattr(results, rows_of)

def killing(*given):
    for number, row in enumerate(rows(*given)):
        if number == 700:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row

setattr(results, rows_of, killing)
results.write_test_results(folder, *test_results.arguments(mixtures=200, seed=1))
"""


def test_a_killed_test_leaves_the_results_before_it_and_the_next_one_cleans_up(tmp_path):
    # the first dies in results.csv; the second when results.csv is complete, and must not have replaced it either
    dies_in = {"result_rows": ".results.csv", "_probability_rows": ".probabilities.csv"}
    killed = {}
    for rows_of in dies_in:
        folder = tmp_path / rows_of
        write_test_results(folder, *arguments(mixtures=100, seed=0))
        words = [sys.executable, "-c", KILLED_WRITER, str(folder), rows_of]
        killed[rows_of] = subprocess.Popen(words, cwd=Path(__file__).parents[2])
    before = {path.name: path.read_bytes() for path in (tmp_path / "result_rows").iterdir()}
    assert sorted(before) == [
        "class_aware.csv",
        "classification.csv",
        "config.yaml",
        "cost.csv",
        "events.csv",
        "per_class.csv",
        "probabilities.csv",
        "results.csv",
        "summary.csv",
    ]
    for rows_of, process in killed.items():
        process.wait(timeout=120)
        assert process.returncode == -signal.SIGKILL
        folder = tmp_path / rows_of
        (partial,) = folder.glob(f"*{dies_in[rows_of]}.*.{process.pid}.part")
        assert partial.stat().st_size > 0  # it died in the middle
        found = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
        assert found == before

        live = folder / f".results.csv.{os.getppid()}.part"
        live.touch()
        write_test_results(folder, *arguments(mixtures=200, seed=1))
        assert {path.name for path in folder.iterdir()} == {*before, live.name}
        assert len(read(folder / "results.csv")) == 200 * len(CONDITIONS) * len(REFINEMENTS)
        assert (folder / "config.yaml").read_text() == "seed: 1\n"


def test_what_only_an_earlier_test_has_goes(tmp_path):
    write_test_results(tmp_path, *arguments(mixtures=3, seed=0))
    (tmp_path / "notes.txt").write_text("mine")
    *rest, _ = arguments(mixtures=3, seed=1, refines=False)
    write_test_results(tmp_path, *rest)  # a network without a classifier, a test without a configuration
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["cost.csv", "notes.txt", "results.csv", "summary.csv"]


def test_without_class_aware_measures_all_other_files_are_the_same(tmp_path):
    for name, class_aware in (("with", True), ("without", True), ("without", False)):  # the last over the second
        results = make_results(
            5, np.random.default_rng(0), CONDITIONS, REFINEMENTS, num_classes=4, num_active=2, class_aware=class_aware
        )
        write_test_results(tmp_path / name, results, CLASSES, Cost(10, 2, 1.5, 0.0))
    folders = tmp_path / "with", tmp_path / "without"
    more, fewer = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert set(more) - set(fewer) == {"class_aware.csv"}
    assert {name for name in fewer if fewer[name] != more[name]} == {"classification.csv"}
    (all_columns,), (columns,) = (read(folder / "classification.csv") for folder in folders)
    assert tuple(columns) == CLASSIFICATION_COLUMNS
    assert columns == {name: all_columns[name] for name in columns}


def test_earlier_results_are_described_in_one_line(tmp_path):
    assert earlier_results(tmp_path) is None
    assert earlier_results(tmp_path / "missing") is None
    write_test_results(tmp_path, *arguments(mixtures=7, seed=0))
    moment = datetime(2026, 11, 24, 10, 12).timestamp()
    os.utime(tmp_path / "summary.csv", (moment, moment))
    assert earlier_results(tmp_path) == "the results of 7 mixtures measured on 2026-11-24 10:12"
    for damaged in (b"", b"n\n", b"\xff\x00"):
        (tmp_path / "summary.csv").write_bytes(damaged)
        assert re.fullmatch(r"results that cannot be read, measured on [-\d: ]{16}", earlier_results(tmp_path))
    (tmp_path / "summary.csv").unlink()
    assert re.match("results that cannot be read", earlier_results(tmp_path))


SUMMARY_TABLE = """\
SNRi in dB by condition (active:inactive); att: attenuation in dB
threshold  (1:0)  (1:3)  (0:1) att
----------------------------------
none       10.12  -1.50       3.46
0.3         9.90   8.00     120.00
oracle     10.12  10.12          -
----------------------------------
mixtures      12     12          9"""
SUMMARY_VALUES = {
    "none": (10.123, -1.5, 3.456),
    "0.3": (9.9, 8.0, 120.0),
    "oracle": (10.123, 10.123, ""),
}
SUMMARY_CONDITIONS = ((1, 0, 12), (1, 3, 12), (0, 1, 9))


def summary_row(active, inactive, threshold, n, value, other=""):
    snri, attenuation = (value, other) if active else (other, value)
    head = {"active": active, "inactive": inactive, "threshold": threshold, "n": n}
    return {**head, "snri_db": snri, "attenuation_db": attenuation, "snri_db_low": -99.0, "attenuation_db_low": -99.0}


@pytest.fixture
def summary():
    return [
        summary_row(*condition[:2], threshold, condition[2], values[column])
        for column, condition in enumerate(SUMMARY_CONDITIONS)
        for threshold, values in SUMMARY_VALUES.items()
    ]


def test_the_layout_of_a_summary(summary):
    assert summary_table(summary) == SUMMARY_TABLE


def test_numbers_and_text_give_the_same_table(summary):
    assert summary_table([{name: str(value) for name, value in row.items()} for row in summary]) == SUMMARY_TABLE


def test_a_cell_that_is_not_a_number_is_empty_too(summary):
    # in memory a cell without a value is NaN, in summary.csv it is ""; the console and the report must agree
    missing = [{name: float("nan") if value == "" else value for name, value in row.items()} for row in summary]
    assert summary_table(missing) == SUMMARY_TABLE


def test_columns_and_rows_come_in_the_order_of_the_summary(summary):
    lines = summary_table(summary[::-1]).splitlines()
    assert lines[1].split() == ["threshold", "(0:1)", "att", "(1:3)", "(1:0)"]
    assert [line.split()[0] for line in lines[3:-2]] == ["oracle", "0.3", "none"]


def test_all_lines_below_the_title_are_equally_long(summary):
    summary += [
        summary_row(10, 0, name, 12345678, value) for name, value in (("none", -120.0), ("0.3", 0.0), ("oracle", 1e3))
    ]
    assert len({len(line) for line in summary_table(summary).splitlines()[1:]}) == 1


LABEL_TABLE = """\
The classes that are kept, each extracted alone; CA-SDRi in dB
threshold  CA-SDRi  mixture accuracy  source accuracy
-----------------------------------------------------
0.3           4.56             57.1%            67.1%
0.5              -              0.0%                -"""


def test_the_layout_of_the_measures_of_labels():
    rows = [
        {"threshold": "0.3", "ca_sdri_db": 4.5649, "mixture_accuracy": 0.57143, "source_accuracy": 0.67147},
        {"threshold": "0.5", "ca_sdri_db": float("nan"), "mixture_accuracy": 0.0, "source_accuracy": ""},
    ]
    assert label_table(rows) == LABEL_TABLE
    assert label_table([{name: str(value) for name, value in row.items()} for row in rows]) == LABEL_TABLE
