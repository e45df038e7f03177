"""W&B's sweep files, run here without W&B: one folder per run, resumable.

A sweep file is W&B's own (``program``, ``command``, ``method``, ``metric``, ``parameters``); its ``command`` is run
with ``${args}`` replaced by ``--name=value`` for every parameter, and the other macros as W&B's agent does. Each run
gets a folder of its own below ``trainer.default_root_dir`` of the command, named after its parameters.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tse_refine.errors import InputError
from tse_refine.evaluation.results import REMEDY
from tse_refine.evaluation.run_config import operating_refinement, read_config
from tse_refine.files.documents import MOST_YAML_BYTES, Fields, checked_name, parse_yaml, read_text, shown
from tse_refine.files.tables import content_of, read_csv, write_csv
from tse_refine.refinement import parse_key
from tse_refine.training.runs import FOLDER, Runner, finish_run, run_command

ARGS, ARGS_NO_HYPHENS, PROGRAM = "${args}", "${args_no_hyphens}", "${program}"
# what W&B's agent has for them on this machine: nothing for ${env}, which looks the program up as a process does anyway
_FIXED_MACROS = {"${env}": (), "${interpreter}": (sys.executable,)}
MACROS = (*_FIXED_MACROS, PROGRAM, ARGS, ARGS_NO_HYPHENS)
DISTRIBUTIONS = ("int_uniform", "uniform", "log_uniform_values")
MOST_RUNS = 10_000
_LONGEST_WORD = 2000  # characters
_LARGEST_LIMIT = 10**15  # of a distribution
_HINT = "Expected is a sweep file as W&B describes it, such as sweeps/loss_weight."
_LONGEST_NAME = 200  # bytes, of a run's folder; file systems allow 255
_DIGEST_BYTES = 5


@dataclass(frozen=True)
class Sweep:
    """A sweep file.

    Attributes:
        command: words of the command, ``${args}`` or ``${args_no_hyphens}`` among them, without the folder and with
            the other macros replaced.
        folder: folder of all runs, from the command.
        method: ``grid`` or ``random``.
        metric: name of the metric to compare runs by.
        maximize: whether larger is better.
        parameters: parameters by name, as W&B writes them: ``value``, ``values``, or ``min``, ``max`` and a
            ``distribution``.
        run_cap: largest number of runs; None for all of a grid.
    """

    command: tuple[str, ...]
    folder: Path
    method: str
    metric: str
    maximize: bool
    parameters: Mapping[str, Mapping[str, Any]]
    run_cap: int | None

    def settings(self, seed: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the parameters of each run: all combinations, or draws that a seed decides."""
        if self.method == "grid":
            choices = [spec.get("values", [spec.get("value")]) for spec in self.parameters.values()]
            combinations = itertools.product(*choices)
            for values in itertools.islice(combinations, self.run_cap):
                yield dict(zip(self.parameters, values, strict=True))
            return
        rng = np.random.default_rng(seed)
        for _ in range(self.run_cap or 0):
            yield {name: _draw(rng, spec) for name, spec in self.parameters.items()}

    def words(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the command line of a run, as W&B's agent makes it, without the folder.

        The agent writes values as Python does, such as ``None``; here they are YAML, as the command reads them.
        """
        parameters = [f"{name}={_word(value)}" for name, value in settings.items()]
        macros = {ARGS: [f"--{parameter}" for parameter in parameters], ARGS_NO_HYPHENS: parameters}
        return [part for word in self.command for part in macros.get(word, [word])]


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Args:
        path: sweep file as W&B describes it.

    Raises:
        InputError: the file is missing or not a sweep file, needs W&B's server (Bayesian search), nests parameters
            (whose names would reach the command as one word), or runs a grid over a distribution.
    """
    try:
        with content_of(path, _HINT):
            content = Fields(parse_yaml(read_text(path, MOST_YAML_BYTES)), "the file")
            words = [checked_name(word, "a word of command", _LONGEST_WORD) for word in content.items("command", 1000)]
            program = content.text("program", _LONGEST_WORD) if PROGRAM in words else ""
            method, metric = content.text("method"), content.fields("metric")
            metric_name, goal = metric.text("name"), metric.get("goal", "minimize")
            if goal not in ("minimize", "maximize"):
                raise ValueError(f"goal is {shown(goal)}; minimize or maximize is expected")
            parameters = content.fields("parameters")
            for name in parameters.values:
                checked_name(name, "a parameter")
                _check_parameter(method, name, parameters.fields(name))
            run_cap = content.whole("run_cap", 1, MOST_RUNS) if content.get("run_cap", None) is not None else None
            sizes = [len(spec.get("values", [0])) for spec in parameters.values.values()]
            if method == "grid" and run_cap is None and math.prod(sizes) > MOST_RUNS:
                raise ValueError(
                    f"the grid has {math.prod(sizes)} runs; at most {MOST_RUNS} are expected, or a run_cap"
                )
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}). {_HINT}") from error
    folders = [word.removeprefix(f"{FOLDER}=") for word in words if word.startswith(f"{FOLDER}=")]
    reasons = [
        (method not in ("grid", "random"), f"the method {method} needs W&B's server; use grid or random"),
        (method == "random" and not run_cap, "a random search needs run_cap, how many runs to make"),
        (not {ARGS, ARGS_NO_HYPHENS} & {*words}, "the command lacks ${args}, where the parameters go"),
        (not folders, f"the command lacks {FOLDER}=FOLDER"),
        (
            any("${" in word and word not in MACROS for word in words),
            f"of W&B's macros only {', '.join(MACROS)} are supported here, each as a word of its own",
        ),
    ]
    for applies, reason in reasons:
        if applies:
            raise InputError(f"{path}: {reason}.")
    replaced = {**_FIXED_MACROS, PROGRAM: (program,)}
    words = [part for word in words for part in replaced.get(word, (word,))]
    command = tuple(word for word in words if not word.startswith(f"{FOLDER}="))
    return Sweep(command, Path(folders[0]), method, metric_name, goal == "maximize", parameters.values, run_cap)


def run_sweep(path: Path, seed: int = 0, run: Runner = run_command) -> Path:
    """Run the unfinished runs of a sweep, one after the other, and write ``sweep.csv`` into its folder.

    Trainings are tested when they have ended, so that ``report`` can read them.

    Args:
        path: sweep file.
        seed: seed of a random search.
        run: function that runs a command line; by default in a process of its own.

    Returns:
        Path of ``sweep.csv``: one row per run, with its parameters and the metric. Settings that a random search draws
        twice are one run.

    Raises:
        InputError: the file cannot be used, or a run failed.
    """
    sweep = read_sweep(path)
    rows = []
    for name, settings in {folder_name(settings): settings for settings in sweep.settings(seed)}.items():
        folder = sweep.folder / name
        finish_run(sweep.words(settings), folder, run)
        values = {parameter: _text(value) for parameter, value in settings.items()}  # with all their digits
        rows.append({"run": str(folder), **values, sweep.metric: str(_metric(folder, sweep))})
    table = sweep.folder / "sweep.csv"
    write_csv(table, list(rows[0]), rows)
    return table


def agent_run() -> str | None:
    """Return the id of the run that W&B's agent has started this process for; None without an agent."""
    return os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None


def agent_settings() -> dict[str, Any]:
    """Return the parameters of that run by name; none without an agent."""
    path = Path(os.environ.get("WANDB_SWEEP_PARAM_PATH", ""))
    if agent_run() is None or not path.is_file():
        return {}
    with content_of(path, "W&B's agent writes it for each run."):
        content = Fields(parse_yaml(read_text(path, MOST_YAML_BYTES)), "the file").values
    return {name: entry["value"] for name, entry in content.items() if isinstance(entry, Mapping) and "value" in entry}


def _check_parameter(method: str, name: str, spec: Fields) -> None:
    """Raise ValueError where a parameter has no values that a command line can be given."""
    if "parameters" in spec:
        part = next(iter(spec.fields("parameters").values), "part")
        raise ValueError(
            f"the parameter {name} is nested; W&B would pass it as one word that no option understands; write its "
            f"parts with dots, such as {name}.{shown(part)[1:-1]}"
        )
    if "values" in spec and not spec.items("values", MOST_RUNS):
        raise ValueError(f"the parameter {name} has no value")
    for value in spec.get("values", [spec.get("value", None)]):
        if len(_word(value)) > _LONGEST_WORD or not _word(value).isprintable():
            raise ValueError(f"a value of {name} is {shown(value)}; a line that can be printed is expected")
    if "values" in spec or "value" in spec:
        return
    if not {"min", "max"} <= spec.values.keys():
        raise ValueError(f"the parameter {name} has no value, values, or min and max")
    if method == "grid":
        raise ValueError(f"a grid cannot run over the distribution of {name}; give values, or use random")
    low = spec.number("min", -_LARGEST_LIMIT, _LARGEST_LIMIT)
    spec.number("max", low, _LARGEST_LIMIT)
    distribution = spec.get("distribution", "uniform")
    if distribution not in DISTRIBUTIONS:
        raise ValueError(
            f"the distribution {shown(distribution)} is not supported here; use {', '.join(DISTRIBUTIONS)}"
        )
    if distribution == "log_uniform_values" and low <= 0:
        raise ValueError(f"min of {name} is {low:g}; a positive number is expected for {distribution}")
    if distribution == "int_uniform":
        spec.whole("min", -_LARGEST_LIMIT, _LARGEST_LIMIT)
        spec.whole("max", -_LARGEST_LIMIT, _LARGEST_LIMIT)


def _draw(rng: np.random.Generator, spec: Mapping[str, Any]) -> Any:
    if "value" in spec:
        return spec["value"]
    if "values" in spec:
        return spec["values"][rng.integers(len(spec["values"]))]
    low, high = spec["min"], spec["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    distribution = spec.get("distribution", "int_uniform" if whole else "uniform")
    if distribution == "int_uniform":
        return int(rng.integers(int(low), int(high) + 1))
    if distribution == "uniform":
        return float(rng.uniform(low, high))
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")


def _word(value: Any) -> str:
    """Return a value as the command line has it: text as it is, everything else as YAML.

    >>> [_word(value) for value in (10.0, None, True, [1, None], "soft:0.2-0.6")]
    ['10.0', 'null', 'true', '[1, null]', 'soft:0.2-0.6']
    """
    if isinstance(value, str):
        return value
    line: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf)
    return line.removesuffix("\n").removesuffix("\n...")


def _text(value: Any) -> str:
    """Return a value as tables and names of folders have it."""
    return str(value) if isinstance(value, bool | int | float) else _word(value)


def folder_name(settings: Mapping[str, Any]) -> str:
    """Return the name of a run's folder, another for other settings, also where the file system ignores case.

    A digest of the settings ends a name that does not show them exactly: of values with other characters than names may
    have or with capitals, and of more parameters than fit.

    >>> folder_name({"model.loss_weight": 10.0, "seed_everything": 1})
    'loss_weight=10.0,seed_everything=1'
    >>> folder_name({"evaluation.threshold": "soft:0.2-0.6"})
    'threshold=soft_0.2-0.6-5e9b6f8e16'
    """
    texts = [(name.rsplit(".", 1)[-1], _text(value)) for name, value in settings.items()]
    cleaned = [tuple(re.sub(r"[^A-Za-z0-9.+-]", "_", text) for text in pair) for pair in texts]
    name = ",".join(f"{option}={text}" for option, text in cleaned)
    has_capitals = any(isinstance(value, str) and value != value.lower() for value in settings.values())
    if cleaned == texts and not has_capitals and len(name) <= _LONGEST_NAME:
        return name
    words = [f"{option}={_word(value)}" for option, value in settings.items()]
    digest = hashlib.blake2b("\0".join(words).encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{name[: _LONGEST_NAME - len(digest) - 1]}-{digest}"


def _metric(folder: Path, sweep: Sweep) -> float | str:
    """Return the metric of a run: a training's best over its epochs, a test's own; empty where it was not measured."""
    split, *rest = sweep.metric.split("/")
    if split == "test":
        return _test_metric(folder, *rest)
    path = folder / "metrics.csv"
    rows = read_csv(path, ())
    with content_of(path, "The file is cut off or changed; make it again."):
        values = [float(row[sweep.metric]) for row in rows if row.get(sweep.metric)]
    return (max if sweep.maximize else min)(values) if values else ""


def _test_metric(folder: Path, measure: str, condition: str = "", threshold: str = "") -> float | str:
    path = folder / "test" / "config.yaml"
    config = read_config(path)
    if config is None:
        raise InputError(f"{path} does not exist; `tse-refine test` writes it beside summary.csv.")
    refined = threshold == "refined"
    wanted = (operating_refinement(path, config) if refined else parse_key(threshold)).name
    path = folder / "test" / "summary.csv"
    rows = read_csv(path, ("active", "inactive", "threshold", measure), REMEDY)
    with content_of(path, REMEDY):
        for row in rows:
            if f"{row['active']}a{row['inactive']}i" == condition and row["threshold"] == wanted:
                return float(row[measure])
    return ""
