"""W&B's sweep files, run here without W&B: one folder a run, resumable.

A sweep file is W&B's own (``program``, ``command``, ``method``, ``metric``, ``parameters``); its ``command`` is run
with ``${args}`` replaced by ``--name=value`` for every parameter, as W&B's agent does. Each run gets a folder of its
own below ``trainer.default_root_dir`` of the command, named after its parameters.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tse_refine.errors import InputError
from tse_refine.evaluation.results import REMEDY
from tse_refine.files.tables import read_csv, write_csv
from tse_refine.refinement import parse_key, parse_refinement

ARGS, FOLDER = "${args}", "--trainer.default_root_dir"


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        command: words of the command, ``${args}`` among them.
        method: ``grid`` or ``random``.
        metric: name of the metric to compare runs by.
        maximize: whether larger is better.
        parameters: by name, as W&B writes them: ``value``, ``values``, or ``min``, ``max`` and a ``distribution``.
        run_cap: most runs; None for all of a grid.
    """

    command: tuple[str, ...]
    method: str
    metric: str
    maximize: bool
    parameters: Mapping[str, Mapping[str, Any]]
    run_cap: int | None

    @property
    def folder(self) -> Path:
        """The folder of all runs, from the command."""
        return Path(next(word for word in self.command if word.startswith(f"{FOLDER}=")).split("=", 1)[1])

    def settings(self, seed: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each run: all combinations, or draws that a seed decides."""
        if self.method == "grid":
            choices = [one.get("values", [one.get("value")]) for one in self.parameters.values()]
            combinations = itertools.product(*choices)
            for values in itertools.islice(combinations, self.run_cap):
                yield dict(zip(self.parameters, values, strict=True))
            return
        rng = np.random.default_rng(seed)
        for _ in range(self.run_cap or 0):
            yield {name: _draw(rng, one) for name, one in self.parameters.items()}

    def words(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the command line of a run, as W&B's agent makes it."""
        flags = [f"--{name}={value}" for name, value in settings.items()]
        return [part for word in self.command for part in (flags if word == ARGS else [word])]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        InputError: it is missing or no sweep file, asks for what only W&B's server can do (Bayesian search), nests
            parameters (whose names would reach the command as one word), or lets a grid run over a distribution.
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        command = tuple(str(word) for word in given["command"])
        sweep = Sweep(
            command,
            given["method"],
            given["metric"]["name"],
            given["metric"].get("goal", "minimize") == "maximize",
            given["parameters"],
            given.get("run_cap"),
        )
        for name, one in sweep.parameters.items():
            _check_parameter(path, sweep.method, name, one)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}). Give a file such as configs/sweeps/loss_weight.yaml."
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: is no sweep file ({type(error).__name__}: {error}); command, method, metric and parameters are "
            "expected, as W&B describes them."
        ) from error
    reasons = [
        (sweep.method not in ("grid", "random"), f"the method {sweep.method} needs W&B's server; use grid or random"),
        (sweep.method == "random" and not sweep.run_cap, "a random search needs run_cap, how many runs to make"),
        (ARGS not in command, "the command lacks ${args}, where the parameters go"),
        (not any(word.startswith(f"{FOLDER}=") for word in command), f"the command lacks {FOLDER}=FOLDER"),
        (bool({w for w in command if w.startswith("${")} - {ARGS}), f"of W&B's macros only {ARGS} is understood here"),
    ]
    for applies, reason in reasons:
        if applies:
            raise InputError(f"{path}: {reason}.")
    return sweep


def run_sweep(path: Path, seed: int = 0, run: Callable[[Sequence[str]], None] | None = None) -> Path:
    """Run what is missing of a sweep, one run after the other, and write ``sweep.csv`` into its folder.

    Trainings are tested when they have ended, so that ``report`` can read them.

    Args:
        path: the sweep file.
        seed: of a random search.
        run: runs a command line; by default in a process of its own.

    Returns:
        ``sweep.csv``: a row a run, with its parameters and the metric.

    Raises:
        InputError: the file cannot be used, or a run failed.
    """
    sweep = read_sweep(path)
    run = run or _run
    rows = []
    for settings in sweep.settings(seed):
        folder = sweep.folder / _folder_name(settings)
        words = [f"{FOLDER}={folder}" if word.startswith(f"{FOLDER}=") else word for word in sweep.words(settings)]
        finished = folder / "finished"
        if not finished.exists():
            trains = words[1] == "fit"
            last = folder / "checkpoints" / "last.ckpt"
            run([*words, *([f"--ckpt_path={last}"] if trains and last.exists() else ["--overwrite"] if trains else [])])
            if trains:
                run([words[0], "test", "-c", str(folder / "config.yaml"), f"{FOLDER}={folder}"])
            finished.touch()
        row = {"run": folder, **settings, sweep.metric: _metric(folder, sweep)}
        rows.append({name: str(value) for name, value in row.items()})  # settings with all their digits
    table = sweep.folder / "sweep.csv"
    write_csv(table, list(rows[0]), rows)
    return table


def _check_parameter(path: Path, method: str, name: str, one: Mapping[str, Any]) -> None:
    if "parameters" in one:
        raise InputError(
            f"{path}: the parameter {name} is nested; W&B would pass it as one word that no option understands. Write "
            f"its parts with dots, such as {name}.{next(iter(one['parameters']))}."
        )
    choices = "values" in one or "value" in one
    if not choices and not {"min", "max"} <= set(one):
        raise InputError(f"{path}: the parameter {name} has no value, values, or min and max.")
    if not choices and method == "grid":
        raise InputError(f"{path}: a grid cannot run over the distribution of {name}; give values, or use random.")


def _draw(rng: np.random.Generator, one: Mapping[str, Any]) -> Any:
    if "value" in one:
        return one["value"]
    if "values" in one:
        return one["values"][rng.integers(len(one["values"]))]
    low, high = one["min"], one["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = one.get("distribution", "int_uniform" if whole else "uniform")
    if distribution == "int_uniform":
        return int(rng.integers(low, high + 1))
    if distribution == "uniform":
        return float(rng.uniform(low, high))
    if distribution == "log_uniform_values":
        return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")
    raise InputError(
        f"the distribution {distribution} is not known here; use int_uniform, uniform or log_uniform_values."
    )


def _folder_name(settings: Mapping[str, Any]) -> str:
    """Return a name that says what is special about a run.

    >>> _folder_name({"model.loss_weight": 10.0, "seed_everything": 1})
    'loss_weight=10.0,seed_everything=1'
    """
    return ",".join(
        f"{name.rsplit('.', 1)[-1]}={re.sub(r'[^A-Za-z0-9.+-]', '_', str(value))}" for name, value in settings.items()
    )


def _run(words: Sequence[str]) -> None:
    print(" ".join(words), file=sys.stderr, flush=True)
    program = [sys.executable, "-m", "tse_refine"] if words[0] == "tse-refine" else [words[0]]
    ended = subprocess.run([*program, *words[1:]], check=False, env=os.environ | {"WANDB_MODE": "disabled"})
    if ended.returncode:
        raise InputError(
            f"the run failed with exit status {ended.returncode}: {' '.join(words)}. Run the sweep again: what is "
            "finished is kept."
        )


def _metric(folder: Path, sweep: Sweep) -> float | str:
    """Return the metric of a run: a training's best over its epochs, a test's own; empty where it was not measured."""
    split, *rest = sweep.metric.split("/")
    if split == "test":
        return _test_metric(folder, *rest)
    rows = read_csv(folder / "metrics.csv", ())
    values = [float(row[sweep.metric]) for row in rows if row.get(sweep.metric)]
    return (max if sweep.maximize else min)(values) if values else ""


def _test_metric(folder: Path, measure: str, condition: str = "", threshold: str = "") -> float | str:
    config = yaml.safe_load((folder / "test" / "config.yaml").read_text(encoding="utf-8"))
    operating = config["evaluation"]["threshold"]
    wanted = (parse_refinement(operating, "threshold") if threshold == "refined" else parse_key(threshold)).name
    for row in read_csv(folder / "test" / "summary.csv", ("active", "inactive", "threshold", measure), REMEDY):
        if f"{row['active']}a{row['inactive']}i" == condition and row["threshold"] == wanted:
            return float(row[measure])
    return ""
