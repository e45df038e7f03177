"""Configs of users, stacked with ``-c``, as every command parses them."""

from __future__ import annotations

import contextlib
import io
import os
from functools import lru_cache

import yaml

from tests.fuzz.mutating import damaged_yaml as mutate  # noqa: F401
from tests.fuzz.targets import scratch
from tse_refine.cli.trainer_options import command_parser, share_root
from tse_refine.errors import InputError
from tse_refine.evaluation.run_config import build_data, check_groups

INPUTS = 0.0005


def seeds() -> list[bytes]:
    corpora = {
        name: {"class_path": f"tse_refine.data.corpora.Synthetic{kind}", "init_args": {"train_instances": 2}}
        for name, kind in (("foregrounds", "Sounds"), ("backgrounds", "Backgrounds"))
    }
    config = {
        "name": "Proposed",
        "budget": "x",
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "logger": False},
        "model": {"network": {"num_filters": 8, "classifier": {"num_layers": 1}}, "loss_weight": 1.0},
        "data": {**corpora, "sample_rate": 4000, "mixture": {"event_seconds": [0.5, 0.8]}, "num_test": 8},
        "evaluation": {"threshold": 0.3, "thresholds": ["none", 0.3], "conditions": [[1, 0], [1, 3]]},
        "checkpoint": {"save_top_k": 1, "train_time_interval": "00:10:00"},
    }
    return [yaml.safe_dump(config).encode()]


@lru_cache
def _parser():
    return command_parser("fit")


def check(data: bytes) -> None:
    path = scratch("options") / "mine.yaml"
    path.write_bytes(data)
    folder, said = os.getcwd(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            config = _parser().parse_args(["-c", str(path)])
            check_groups(_parser(), config)
            share_root(config)
            build_data(config.as_dict())
    except SystemExit as stop:  # the parser has written its one paragraph
        if stop.code != 2 or "Traceback" in said.getvalue():
            raise AssertionError(said.getvalue()) from stop
        raise InputError(said.getvalue().strip()) from stop
    finally:
        os.chdir(folder)
