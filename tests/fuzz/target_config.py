"""Saved configurations of runs, as reports and notebooks read them."""

from __future__ import annotations

from functools import partial

import yaml

from tests.fuzz.mutating import damaged_yaml as mutate  # noqa: F401
from tests.fuzz.targets import read_all, scratch
from tse_refine.analysis.sweeps import flat_options
from tse_refine.analysis.tested_run import TestedRun

INPUTS = 0.2


def seeds() -> list[bytes]:
    config = {
        "seed_everything": 0,
        "trainer": {"max_epochs": 3, "default_root_dir": "runs/x", "logger": {"class_path": "tse_refine.RunCSVLogger"}},
        "model": {"network": {"num_filters": 8, "classifier": {"num_layers": 2}}, "loss_weight": 10.0},
        "data": {"seed": 0, "queries": {"inactive_sample_rate": 0.0, "target_counts": [1, 2]}, "digest": "0123"},
        "evaluation": {"threshold": 0.3, "thresholds": ["none", 0.3, "soft:0.2-0.6"]},
        "plugins": [],
    }
    return [b"# tse-refine==0.2.0\n" + yaml.safe_dump(config).encode()]


def check(data: bytes) -> None:
    folder = scratch("config") / "run"
    (folder / "test").mkdir(parents=True, exist_ok=True)
    for path in (folder / "config.yaml", folder / "test" / "config.yaml"):
        path.write_bytes(data)
    run = TestedRun(folder)
    assert run.config
    parts = ("test_config", "version", "training_fingerprint", "operating", "recommended", "has_classifier")
    read_all(*(partial(getattr, run, part) for part in parts), lambda: flat_options(run.config))
