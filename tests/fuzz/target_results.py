"""The result files of a run: one of them is damaged, and all are read as a report and a sweep read them."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import yaml

from tests.fixtures.runs import CLASSES, make_results
from tests.fuzz.mutating import damaged_csv
from tests.fuzz.targets import read_all, scratch
from tse_refine.analysis.sweeps import read_sweep_folder
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.evaluation.metrics import HEADLINES
from tse_refine.evaluation.results import append_validation, earlier_results, summary_rows, write_test_results
from tse_refine.model.cost import Cost

INPUTS = 0.05
METRICS = "epoch,step,val/snri_db/1a3i/refined,val/loss\n0,4,1.5,-3\n1,8,2.5,-4\n"


@lru_cache
def _valid() -> Path:
    folder = scratch("results") / "valid" / "run"
    results = make_results(3, np.random.default_rng(0), refinements=("none", 0.3, "gate"))
    write_test_results(folder / "test", results, CLASSES, Cost(5, 1, 0.07, 0.01))
    append_validation(folder / "validation.csv", summary_rows(results), HEADLINES, 0)
    config = {
        "model": {"network": {"classifier": {"num_layers": 2}}, "loss_weight": 1.0},
        "data": {"seed": 0, "queries": {"inactive_sample_rate": 0.0}},
        "evaluation": {"threshold": 0.3},
    }
    for path in (folder / "config.yaml", folder / "test" / "config.yaml"):
        path.write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(METRICS)
    (folder.parent / "sweep.csv").write_text("run,model.loss_weight,val/loss\nrun,1.0,-4\n")
    return folder


def seeds() -> list[bytes]:
    parent = _valid().parent
    return [f"{path.relative_to(parent)}\n".encode() + path.read_bytes() for path in sorted(parent.rglob("*.csv"))]


def mutate(data: bytes, rng: Random) -> bytes:
    """Damage the table below the line with its name."""
    name, _, table = data.partition(b"\n")
    return name + b"\n" + damaged_csv(table, rng)


def check(data: bytes) -> None:
    name, _, table = data.partition(b"\n")
    names = {seed.partition(b"\n")[0] for seed in seeds()}
    if name not in names:
        return
    parent = scratch("results") / "damaged"
    if not parent.exists():
        shutil.copytree(_valid().parent, parent)
    (parent / name.decode()).write_bytes(table)
    try:
        tested = TestedRun(parent / "run")
        read_all(
            lambda: tested.grid,
            lambda: tested.classifier and tested.classifier.mean_average_precision,
            lambda: tested.cost,
            lambda: read_sweep_folder(parent),
            lambda: append_validation(parent / "run" / "validation.csv", [], HEADLINES, 5),
            lambda: earlier_results(parent / "run" / "test"),
        )
    finally:  # also what reading rewrites
        for path in (name.decode(), "run/validation.csv"):
            (parent / path).write_bytes((_valid().parent / path).read_bytes())
