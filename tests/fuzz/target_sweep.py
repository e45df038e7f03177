"""Sweep files."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import yaml

from tests.fuzz.mutating import damaged_yaml as mutate  # noqa: F401
from tests.fuzz.targets import scratch
from tse_refine.training.sweep import folder_name, read_sweep

INPUTS = 0.2

SHIPPED = Path(__file__).parents[2] / "configs" / "sweeps"


def seeds() -> list[bytes]:
    random = yaml.safe_load((SHIPPED / "loss_weight.yaml").read_text())
    random |= {"method": "random", "run_cap": 4}
    random["parameters"] = {
        "model.loss_weight": {"min": 0.1, "max": 100.0, "distribution": "log_uniform_values"},
        "seed_everything": {"min": 0, "max": 9},
        "model.learning_rate": {"min": 0.1, "max": 1, "distribution": "uniform"},
        "evaluation.threshold": {"value": "soft:0.2-0.6"},
    }
    return [*(path.read_bytes() for path in sorted(SHIPPED.glob("*.yaml"))), yaml.safe_dump(random).encode()]


def check(data: bytes) -> None:
    path = scratch("sweep") / "sweep.yaml"
    path.write_bytes(data)
    sweep = read_sweep(path)
    for settings in islice(sweep.settings(), 20):
        assert all(isinstance(word, str) for word in sweep.words(settings))
        assert len(folder_name(settings).encode()) <= 200
