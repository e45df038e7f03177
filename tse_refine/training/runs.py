"""Trainings and tests, each in a process of its own, that go on where they stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tse_refine.errors import InputError
from tse_refine.evaluation.run_folder import RunFolder

FOLDER = "--trainer.default_root_dir"
Runner = Callable[[Sequence[str]], None]


def run_command(words: Sequence[str]) -> None:
    """Run a command line in a process of its own, without W&B.

    Args:
        words: command line; ``tse-refine`` stands for this installation.

    Raises:
        InputError: the command failed.
    """
    print(" ".join(words), file=sys.stderr, flush=True)
    program = [sys.executable, "-m", "tse_refine"] if words[0] == "tse-refine" else [words[0]]
    ended = subprocess.run([*program, *words[1:]], check=False, env=os.environ | {"WANDB_MODE": "disabled"})
    if ended.returncode:
        raise InputError(
            f"the run failed with exit status {ended.returncode}: {' '.join(words)}. Start the command again: finished "
            "runs are kept."
        )


def finish_run(words: Sequence[str], folder: Path, run: Runner = run_command) -> None:
    """Run a command with a folder of its own, and test what it trained, unless both are done.

    An interrupted training is resumed.

    Args:
        words: command line of ``fit`` or ``test``, without the folder.
        folder: folder of the run.
        run: function that runs a command line.

    Raises:
        InputError: a command failed.
    """
    finished = folder / "finished"
    if finished.exists():
        return
    place = f"{FOLDER}={folder}"
    if words[1] == "fit":
        training = RunFolder(folder)
        last = training.checkpoints / "last.ckpt"
        if not training.trained.exists():
            run([*words, place, f"--ckpt_path={last}" if last.exists() else "--overwrite"])
        run([words[0], "test", "-c", str(training.config), place])
    else:
        run([*words, place])
    finished.touch()


def train_systems(
    experiments: Sequence[str], options: Sequence[str], seeds: Sequence[int], output: Path, run: Runner = run_command
) -> list[Path]:
    """Train and test several systems alike, each with several seeds.

    Args:
        experiments: names of configs such as ``experiment/proposed``.
        options: further options of every training.
        seeds: values of ``seed_everything``.
        output: folder of all runs.
        run: function that runs a command line.

    Returns:
        The runs' folders, ``output/proposed-seed0`` and so on.

    Raises:
        InputError: a command failed.
    """
    folders = []
    for seed in seeds:
        for experiment in experiments:
            folder = output / f"{experiment.rsplit('/', 1)[-1]}-seed{seed}"
            finish_run(["tse-refine", "fit", "-c", experiment, *options, f"--seed_everything={seed}"], folder, run)
            folders.append(folder)
    return folders
