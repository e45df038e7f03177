"""One process or two: `tse-refine test` gives the same results, whatever the samplers of two have to repeat."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from tse_refine.cli.main import main
from tse_refine.evaluation.metrics import MEASURES

MIXTURES = 13  # batches of 4 on two ranks: each has 7 mixtures, so that one mixture is repeated, and a short last batch
MEASURE_COLUMNS = ("input_snr_db", *MEASURES)


def run_or_kill(words: list[str], seconds: float) -> str:
    """Run a command with its own processes and return what it says to stderr; end them all when it takes too long."""
    lightning = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in lightning}
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, errors
    return errors


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def numbers(rows: list[dict[str, str]], column: str) -> np.ndarray:
    return np.array([float(row[column] or "nan") for row in rows])


def cell(row: dict[str, str]) -> tuple[str, str, str]:
    return row["active"], row["inactive"], row["threshold"]


def test_two_processes_give_the_results_of_one(tiny_config_file, tmp_path, capsys):
    alone, both = tmp_path / "alone", tmp_path / "run" / "test"
    main(["fit", "-c", str(tiny_config_file)])
    words = ["test", "-c", str(tiny_config_file), "--data.num_test", str(MIXTURES)]
    main(words)
    assert "replacing" not in capsys.readouterr().err
    shutil.copytree(both, alone)

    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    errors = run_or_kill([sys.executable, "-m", "tse_refine", *words, *two], seconds=240)
    assert "Starting with 2 processes" in errors  # Lightning's words: without them nothing below means anything
    assert f"{both}: replacing the results of {MIXTURES} mixtures measured on 20" in errors
    assert errors.count("replacing") == 1  # the first process alone says it

    assert sorted(path.name for path in both.iterdir()) == sorted(path.name for path in alone.iterdir())
    expected, found = read(alone / "results.csv"), read(both / "results.csv")
    same = [column for column in expected[0] if column not in MEASURE_COLUMNS]
    assert {"mixture", "query_active", "query_inactive", "n_kept_active", "n_kept_inactive"} <= set(same)
    assert [[row[column] for column in same] for row in found] == [[row[column] for column in same] for row in expected]
    asked_once = [row["mixture"] for row in found if cell(row) == ("1", "0", "none")]
    assert asked_once == [str(mixture) for mixture in range(MIXTURES)]  # every mixture, in order
    kept = {row["n_kept_inactive"] for row in found if cell(row) == ("1", "3", "0.5")}
    assert len(kept) > 1  # refinement decides something
    for column in MEASURE_COLUMNS:
        np.testing.assert_allclose(numbers(found, column), numbers(expected, column), rtol=0, atol=1e-3)
    expected, found = read(alone / "probabilities.csv"), read(both / "probabilities.csv")
    assert [(row["mixture"], row["class"]) for row in found] == [(row["mixture"], row["class"]) for row in expected]
    # the files round to five decimals
    np.testing.assert_allclose(numbers(found, "probability"), numbers(expected, "probability"), rtol=0, atol=1.01e-5)
    for name in ("summary.csv", "classification.csv", "class_aware.csv", "per_class.csv", "cost.csv"):
        for one, other in zip(read(alone / name), read(both / name), strict=True):
            exact = {"threshold", "class", "active", "inactive", "n", "support", "weights"} & set(one)
            assert {column: one[column] for column in exact} == {column: other[column] for column in exact}, name
            for column in set(one) - exact:
                assert abs(float(one[column] or "0") - float(other[column] or "0")) <= 1e-3, (name, column)
