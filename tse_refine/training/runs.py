"""Trainings and tests, each in a process of its own, that go on where they stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

from tse_refine.errors import STOP_SIGNALS, InputError, StoppedError
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import write_text

FOLDER = "--trainer.default_root_dir"
_COMMANDS = ("fit", "validate", "calibrate", "test", "predict")
Runner = Callable[[Sequence[str]], None]


def run_command(words: Sequence[str]) -> None:
    """Run a command line in a process of its own, without W&B.

    Args:
        words: command line; ``tse-refine`` stands for this installation.

    Raises:
        InputError: the command failed.
        StoppedError: a signal has stopped it, or this process, which passes it on and lets the command save.
    """
    print(" ".join(words), file=sys.stderr, flush=True)
    program = [sys.executable, "-m", "tse_refine"] if words[0] == "tse-refine" else [words[0]]
    with (
        subprocess.Popen([*program, *words[1:]], env=os.environ | {"WANDB_MODE": "disabled"}) as process,
        _passed_on(process) as received,
    ):
        status = process.wait()
    again = "Start the command again: finished runs are kept"
    stopped = [*received, *(number for number in STOP_SIGNALS if status in (-number, 128 + number))]
    if stopped:
        print(f"tse-refine: stopped by {signal.Signals(stopped[0]).name}. {again}.", file=sys.stderr, flush=True)
        raise StoppedError(stopped[0])
    if status:
        raise InputError(f"the run failed with exit status {status}: {' '.join(words)}. {again}.")


@contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass stop signals on to a process within the block, and yield the list of those that came."""
    received: list[int] = []

    def receive(number: int, _: Any) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, receive) for number in STOP_SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finish_run(words: Sequence[str], folder: Path, run: Runner = run_command) -> None:
    """Run a command with a folder of its own, and test what it trained, unless both are done.

    An interrupted training is resumed. ``finished`` in the folder has the seconds that it took, where it was not.

    Args:
        words: command line of ``fit`` or ``test``, without the folder; the program may be several words, such as
            ``python -m tse_refine``.
        folder: folder of the run.
        run: function that runs a command line.

    Raises:
        InputError: a command failed.
    """
    finished = folder / "finished"
    if finished.exists():
        return
    place, start, continued = f"{FOLDER}={folder}", perf_counter(), False
    first = next((number for number, word in enumerate(words) if word in _COMMANDS), 0)
    if words[first] == "fit":
        training = RunFolder(folder)
        last = training.checkpoints / "last.ckpt"
        continued = training.trained.exists() or last.exists()
        if not training.trained.exists():
            run([*words, place, f"--ckpt_path={last}" if last.exists() else "--overwrite"])
        run([*words[:first], "test", "-c", str(training.config), place])
    else:
        run([*words, place])
    write_text(finished, "" if continued else f"{perf_counter() - start:.0f}\n")


def train_systems(
    experiments: Sequence[str], options: Sequence[str], seeds: Sequence[int], output: Path, run: Runner = run_command
) -> list[Path]:
    """Train and test several systems alike, each with several seeds.

    Args:
        experiments: names or paths of configs, such as ``experiment/proposed``.
        options: further options of every training.
        seeds: values of ``seed_everything``.
        output: folder of all runs.
        run: function that runs a command line.

    Returns:
        The runs' folders, ``output/proposed-seed0`` and so on.

    Raises:
        InputError: a command failed.
    """
    pairs = list(product(seeds, experiments))
    folders = [output / f"{Path(experiment).stem}-seed{seed}" for seed, experiment in pairs]
    for (seed, experiment), folder in zip(pairs, folders, strict=True):
        if not (folder / "finished").exists():
            print(f"tse-refine: {remaining_text(folders)}", file=sys.stderr, flush=True)
        finish_run(["tse-refine", "fit", "-c", experiment, *options, f"--seed_everything={seed}"], folder, run)
    return folders


def remaining_text(folders: Sequence[Path]) -> str:
    """Return how many runs are left, and how long they take if each takes as long as those that are finished.

    Args:
        folders: folders of all runs (:func:`finish_run`).
    """
    seconds, left = [], 0
    for folder in folders:
        try:
            seconds.append(float((folder / "finished").read_text(encoding="utf-8")))
        except OSError:
            left += 1
        except ValueError:  # empty: continued after a stop, or of an earlier version
            pass
    text = f"{left} of {len(folders)} runs are left to train and test, one after the other"
    if not seconds:
        return f"{text}; how long they take is known when the first has finished."
    mean = sum(seconds) / len(seconds)
    return f"{text}: about {_duration(left * mean)}, if each takes the {_duration(mean)} of those that have finished."


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(1.0, seconds / 60):.0f} min"
