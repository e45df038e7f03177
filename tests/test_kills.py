"""Kills at random moments: whatever was running, nothing is lost, and the same command ends as if never killed."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml

from tests.fixtures.tables import rows_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
RANDOM = random.Random(0)
OTHER_FILE_SYSTEM = Path("/dev/shm")


def start(*words: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "tse_refine", *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def run(*words: object, **environment: str) -> float:
    """Run a command to its end; return its seconds."""
    begun = time.monotonic()
    process = start(*words, **environment)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - begun


def kill(when: Callable[[float], bool], *words: object, **environment: str) -> bool:
    """Kill a command and all its processes at a moment; return whether it was still running.

    Args:
        when: whether to kill now, given the seconds since the start.
        words: the command.
        environment: changes of the environment.
    """
    process, begun = start(*words, **environment), time.monotonic()
    while process.poll() is None:
        if when(time.monotonic() - begun):
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return False


def after(seconds: float) -> Callable[[float], bool]:
    return lambda passed: passed > seconds


def after_writes(path: Path, number: int, seconds: float) -> Callable[[float], bool]:
    """Return whether a file has been written a number of times and some seconds have passed since."""
    times, reached = {path.stat().st_mtime_ns if path.exists() else None}, []

    def when(passed: float) -> bool:
        with suppress(FileNotFoundError):
            times.add(path.stat().st_mtime_ns)
        if len(times) > number:
            reached.append(passed)
        return bool(reached) and passed - reached[0] > seconds

    return when


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["", "temporary files elsewhere"])
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bits(tiny_config_file, tmp_path, elsewhere):
    words = ["fit", "-c", tiny_config_file, "--trainer.max_epochs=12", "--data.num_train=32", "--data.num_workers=1"]
    words += ["--checkpoint.train_time_interval=00:00:00"]  # after every step, so that many kills hit a checkpoint
    temporary = OTHER_FILE_SYSTEM / f"tse-refine-{os.getpid()}" if elsewhere else tmp_path / "temporary"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary)}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(*words, f"--trainer.default_root_dir={whole}", **environment)
    kills, last = 0, cut / "checkpoints" / "last.ckpt"
    for _ in range(8):
        resume = [f"--ckpt_path={last}"] if last.exists() else ["--overwrite"]
        moment = after_writes(last, RANDOM.randint(1, 8), RANDOM.uniform(0.0, 0.1))
        kills += kill(moment, *words, f"--trainer.default_root_dir={cut}", *resume, **environment)
        assert weights(cut)  # never torn
    run(*words, f"--trainer.default_root_dir={cut}", "--ckpt_path=last", **environment)
    assert kills >= 4
    for name, value in weights(whole).items():
        assert torch.equal(weights(cut)[name], value), name
    for table in ("metrics.csv", "validation.csv"):
        assert rows_of(cut / table) == rows_of(whole / table)
    # no checkpoints; a killed loader leaves the empty folder of its sockets, which is Python's
    assert not [path for path in temporary.rglob("*") if path.is_file()]
    assert not list(cut.rglob("*.part"))
    shutil.rmtree(temporary)


def test_a_bank_that_is_killed_while_it_is_built_is_built_anew(tiny_config_file, tmp_path):
    def prepare(cache: str) -> list[object]:
        return ["prepare", "-c", tiny_config_file, f"--data.cache_dir={tmp_path / cache}"]

    seconds = run(*prepare("whole"))
    kills = sum(kill(after(seconds * RANDOM.uniform(0.3, 0.9)), *prepare("cut")) for _ in range(6))
    run(*prepare("cut"))
    assert kills >= 1
    for name in ("samples.i16", "hops.f32"):  # the table beside them knows when they were written
        whole, cut = (sorted((tmp_path / folder).glob(f"bank-*/{name}")) for folder in ("whole", "cut"))
        assert [path.parent.name for path in whole] == [path.parent.name for path in cut]
        assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in cut]
    run(*prepare("cut"), "--verify")


def test_a_test_that_is_killed_leaves_the_results_before_it(tiny_config_file, tmp_path):
    folder = tmp_path / "run"
    run("fit", "-c", tiny_config_file)
    seconds = run("test", "-c", folder / "config.yaml")
    before = {path.name: path.read_bytes() for path in (folder / "test").iterdir()}
    kills = 0
    for _ in range(6):
        kills += kill(
            after(seconds * RANDOM.uniform(0.3, 1.0)),
            "test",
            "-c",
            folder / "config.yaml",
            "--evaluation.threshold=0.3",
        )
        now = {path.name: path.read_bytes() for path in (folder / "test").iterdir() if path.suffix != ".part"}
        if now != before:  # it had ended
            assert yaml.safe_load(now["config.yaml"])["evaluation"]["threshold"] == 0.3
            run("test", "-c", folder / "config.yaml")
    assert kills >= 1


def test_a_sweep_that_is_killed_goes_on_to_the_same_results(tiny_config_file, tmp_path):
    def sweep(name: str) -> list[object]:
        description = {
            "command": [
                "tse-refine", "fit", "-c", str(tiny_config_file), f"--trainer.default_root_dir={tmp_path / name}",
                "${args}",
            ],
            "method": "grid",
            "metric": {"name": "val/snri_db/1a3i/refined", "goal": "maximize"},
            "parameters": {"model.loss_weight": {"values": [1.0, 100.0]}},
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(description))
        return ["sweep", tmp_path / f"{name}.yaml"]

    seconds = run(*sweep("whole"))
    kills = sum(kill(after(seconds * RANDOM.uniform(0.1, 0.6)), *sweep("cut")) for _ in range(4))
    run(*sweep("cut"))
    assert kills >= 1
    whole, cut = (rows_of(tmp_path / name / "sweep.csv") for name in ("whole", "cut"))
    assert [row | {"run": Path(row["run"]).name} for row in cut] == [
        row | {"run": Path(row["run"]).name} for row in whole
    ]
    for setting in (tmp_path / "whole").glob("*/test/results.csv"):
        assert (tmp_path / "cut" / setting.relative_to(tmp_path / "whole")).read_bytes() == setting.read_bytes()
