import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.fixtures.commands import Runner
from tse_refine.errors import InputError, StoppedError
from tse_refine.training import runs
from tse_refine.training.runs import finish_run, remaining_text, run_command, train_systems

EXPERIMENTS = ("experiment/baseline1", "experiment/proposed")


def test_a_training_is_tested_when_it_has_ended(tmp_path):
    runner = Runner()
    finish_run(["tse-refine", "fit", "-c", "x"], tmp_path, runner)
    folder = f"--trainer.default_root_dir={tmp_path}"
    assert runner.commands == [
        ["tse-refine", "fit", "-c", "x", folder, "--overwrite"],
        ["tse-refine", "test", "-c", str(tmp_path / "config.yaml"), folder],
    ]


def test_a_test_is_run_alone_and_once(tmp_path):
    runner = Runner()
    for _ in range(2):
        finish_run(["tse-refine", "test", "-c", "x"], tmp_path, runner)
    assert runner.commands == [["tse-refine", "test", "-c", "x", f"--trainer.default_root_dir={tmp_path}"]]


def test_a_training_that_has_ended_is_only_tested(tmp_path):
    (tmp_path / "trained.json").write_text('{"steps": 2}')
    runner = Runner()
    finish_run(["tse-refine", "fit"], tmp_path, runner)
    assert [words[1] for words in runner.commands] == ["test"]


@pytest.mark.parametrize("fails_at", [0, 1])
def test_an_interrupted_training_is_resumed(tmp_path, fails_at):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    with pytest.raises(InputError):
        finish_run(["tse-refine", "fit"], tmp_path, Runner(fails_at))
    runner = Runner()
    finish_run(["tse-refine", "fit"], tmp_path, runner)
    assert [words[1] for words in runner.commands] == ["fit", "test"]
    assert f"--ckpt_path={last}" in runner.commands[0]
    assert "--overwrite" not in runner.commands[0]


def test_systems_are_trained_alike_with_every_seed(tmp_path):
    runner = Runner()

    def run(words):
        runner(words)
        folder = next(word for word in words if "root_dir=" in word).split("=")[1]
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)

    folders = train_systems(EXPERIMENTS, ["-c", "data/synthetic"], [0, 5], tmp_path, run)
    assert [folder.name for folder in folders] == [
        "baseline1-seed0",
        "proposed-seed0",
        "baseline1-seed5",
        "proposed-seed5",
    ]
    trainings = runner.commands[::2]
    assert trainings[3][:7] == [
        "tse-refine",
        "fit",
        "-c",
        "experiment/proposed",
        "-c",
        "data/synthetic",
        "--seed_everything=5",
    ]


def test_what_is_left_is_estimated_from_the_runs_that_have_finished(tmp_path, capsys, monkeypatch):
    clock = iter([0.0, 120.0, 0.0, 240.0, 0.0, 60.0, 0.0, 60.0])
    monkeypatch.setattr(runs, "perf_counter", lambda: next(clock))

    def run(words):
        folder = Path(next(word for word in words if "root_dir=" in word).split("=")[1])
        folder.mkdir(parents=True, exist_ok=True)

    train_systems(EXPERIMENTS, [], [0, 5], tmp_path, run)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("4 of 4 runs are left to train and test, one after the other; how long they take is known "
                             "when the first has finished.")  # fmt: skip
    assert "3 of 4 runs are left" in lines[1]
    assert lines[1].endswith("about 6 min, if each takes the 2 min of those that have finished.")
    assert lines[2].endswith("about 6 min, if each takes the 3 min of those that have finished.")
    train_systems(EXPERIMENTS, [], [0, 5], tmp_path, run)
    assert capsys.readouterr().err == ""


def test_a_run_that_was_continued_or_is_of_an_earlier_version_estimates_nothing(tmp_path):
    folders = [tmp_path / name for name in ("continued", "long", "left")]
    for folder, content in zip(folders, ("", "7200\n"), strict=False):
        folder.mkdir()
        (folder / "finished").write_text(content)
    assert remaining_text(folders[::2]).endswith("when the first has finished.")
    assert "1 of 3 runs are left" in remaining_text(folders)
    assert "about 2.0 h, if each takes the 2.0 h" in remaining_text(folders)
    last = tmp_path / "left" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    finish_run(["tse-refine", "fit"], tmp_path / "left", Runner())
    assert (tmp_path / "left" / "finished").read_text() == ""


def test_a_command_runs_in_a_process_of_its_own(capfd):
    run_command(["tse-refine", "--version"])
    printed = capfd.readouterr()
    assert printed.out.startswith("tse-refine ")
    assert printed.err == "tse-refine --version\n"


TRAINING = """
import signal, sys, time
from pathlib import Path
def save(number, _):
    time.sleep(0.5)
    Path("saved").touch()
    sys.exit(128 + number)
signal.signal(int(sys.argv[1]), save)
Path("started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_stop_signal_reaches_the_training_which_saves(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    number = getattr(signal, name)
    handler = signal.getsignal(number)

    def stop():
        while not Path("started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop).start()
    with pytest.raises(StoppedError) as stopped:
        run_command([sys.executable, "-c", TRAINING, str(int(number))])
    assert stopped.value.code == 128 + number
    assert Path("saved").exists()
    assert signal.getsignal(number) == handler


def test_a_training_that_was_stopped_alone_stops_the_others(capfd):
    with pytest.raises(StoppedError) as stopped:
        run_command([sys.executable, "-c", "raise SystemExit(143)"])
    assert stopped.value.code == 143
    assert "finished runs are kept" in capfd.readouterr().err


def test_a_command_that_fails_is_named(capfd):
    with pytest.raises(InputError, match=r"exit status 3: .*raise SystemExit.*finished runs are kept"):
        run_command([sys.executable, "-c", "raise SystemExit(3)"])
