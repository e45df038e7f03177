"""Two machines, as two torchruns on this one: the training of one process, and how it stops."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tse_refine.cli.main import main

pytestmark = pytest.mark.long
LAUNCHERS = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
SECONDS = 200


@pytest.fixture
def start(tiny_config_file, tmp_path):
    """Start a training on two machines with a process each; returns their torchruns, whose logs are 0.log and 1.log."""
    started = []

    def start(*words: str) -> list[subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = f"localhost:{free.getsockname()[1]}"
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", meeting, "--rdzv-id", "test", "-m", "tse_refine"]
        options = ["fit", "-c", str(tiny_config_file), "--trainer.num_nodes", "2", "--trainer.devices", "1"]
        environment = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
        for node in range(2):
            with open(tmp_path / f"{node}.log", "w") as log:
                started.append(
                    subprocess.Popen(
                        [*launcher, *options, "--data.batch_size", "2", *words],
                        stdout=log,
                        stderr=log,
                        env=environment | {"OMP_NUM_THREADS": "1"},
                        start_new_session=True,
                    )
                )
        return started

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def losses(folder: Path) -> list[float]:
    rows = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_two_machines_train_as_one_process_with_twice_the_batch(start, tiny_config_file, tmp_path):
    both, alone = tmp_path / "run", tmp_path / "alone"
    assert [process.wait(SECONDS) for process in start()] == [0, 0]
    main(["fit", "-c", str(tiny_config_file), "--trainer.default_root_dir", str(alone)])
    assert sorted(path.name for path in both.rglob("*")) == sorted(path.name for path in alone.rglob("*"))
    assert losses(both) == pytest.approx(losses(alone), rel=1e-4)
    assert (both / "trained.json").read_text() == (alone / "trained.json").read_text()
    assert len((both / "validation.csv").read_text().splitlines()) == len(
        (alone / "validation.csv").read_text().splitlines()
    )
    expected = weights(alone)
    for name, value in weights(both).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-3, msg=name)


def test_a_signal_to_one_launcher_saves_and_stops_all_processes(start, tmp_path):
    run = tmp_path / "run"
    processes = start("--trainer.max_epochs", "2000")
    deadline = time.monotonic() + SECONDS
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    processes[0].send_signal(signal.SIGTERM)
    assert all(process.wait(60) for process in processes)
    printed = "".join((tmp_path / f"{node}.log").read_text() for node in (0, 1))
    assert f"Resume with --ckpt_path {run / 'checkpoints' / 'last.ckpt'}" in printed
    assert not (run / "trained.json").exists()
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step > 0
