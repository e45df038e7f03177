"""The runs of a sweep, read back in one shape from its folder or from Weights & Biases."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tse_refine.errors import InputError, did_you_mean
from tse_refine.evaluation.conditions import WORDS, condition_key, threshold_key, threshold_name
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS, SUMMARY_COLUMNS, read_table
from tse_refine.evaluation.run_folder import RunFolder

SPLITS = ("val/", "test/")
# where a run writes and what it shows: different in every run, and nothing that was tried out
_BOOKKEEPING = (
    "trainer.default_root_dir",
    "trainer.logger",
    "trainer.callbacks",
    "checkpoint.dirpath",
    "data.cache_dir",
    "data.digest",
)
_ONLINE_HELP = (
    "Give entity/project/sweep_id as in the sweep's address, log in with `wandb login`, and check the connection; runs "
    "on this machine are read from their folder, without W&B."
)


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep.

    Attributes:
        name: of its folder, or as W&B shows it.
        settings: the options that differ between the runs or were swept, by their dotted names, such as
            ``{"model.loss_weight": 10.0, "seed_everything": 1}``; None where a run has no such option.
        metrics: by the logged names, such as ``val/snri_db/1a3i/refined`` and ``test/macro_f1/delta_0p3``: SNRi and
            attenuation in dB, the others in [0, 1]. Validation's are those of the last epoch.
        folder: the run's; None for a run of W&B's.
    """

    name: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    folder: Path | None = None


def read_sweep_folder(folder: str | Path) -> list[SweptRun]:
    """Read the runs of a folder, such as ``tse-refine sweep`` makes: one sub folder a run.

    ``refined`` is the operating threshold of each run's own configuration.

    Args:
        folder: the folder of all runs.

    Returns:
        The runs, in the order of their settings.

    Raises:
        InputError: the folder is missing or holds no run, or a run's file is missing or damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the folder of a sweep that `tse-refine sweep` made.")
    if _is_run(RunFolder(folder)):
        raise InputError(f"{folder} is a run; give the folder above, which holds the runs to compare.")
    runs = [run for path in sorted(folder.iterdir()) if path.is_dir() and _is_run(run := RunFolder(path))]
    if not runs:
        raise InputError(
            f"{folder} holds no run: a folder with config.yaml for each is expected. `tse-refine sweep "
            "sweeps/loss_weight` makes them."
        )
    configs = [_flat(_read_config(run)) for run in runs]
    metrics = [_validation_metrics(run) | _test_metrics(run) for run in runs]
    for run, measured in zip(runs, metrics, strict=True):
        if not measured:
            raise InputError(
                f"{run.path}: neither metrics.csv with a validation nor test/summary.csv is there, so the run has not "
                "come to an end. Run the sweep again, it goes on where it stopped; or take this folder away."
            )
    settings = _settings(configs, _swept(folder / "sweep.csv"))
    found = [SweptRun(run.path.name, *parts, run.path) for run, *parts in zip(runs, settings, metrics, strict=True)]
    return sorted(found, key=_by_settings)


def read_wandb_sweep(path: str, api: Any = None) -> list[SweptRun]:
    """Read the runs of a sweep from Weights & Biases.

    Runs without a validation or test, such as crashed ones, are left out with a warning.

    Args:
        path: ``entity/project/sweep_id``.
        api: a ``wandb.Api``; by default one for the account that is logged in.

    Returns:
        The runs, in the order of their settings.

    Raises:
        InputError: the sweep is unknown or has measured nothing, or W&B cannot be reached.
    """
    import wandb  # takes a second, and only this needs it
    from wandb.apis.normalize import normalize_exceptions

    @normalize_exceptions  # requests, timeouts, refused queries and unknown sweeps: all become wandb.Error
    def fetch() -> tuple[dict[str, Any], list[tuple[str, dict[str, Any], dict[str, Any]]]]:
        sweep = (wandb.Api() if api is None else api).sweep(path)
        return sweep.config, [(run.name, dict(run.config), dict(run.summary.items())) for run in sweep.runs]

    if path.count("/") < 2:
        raise InputError(f"{path}: is no sweep of W&B's. {_ONLINE_HELP}")
    try:
        sweep_config, fetched = fetch()
    except wandb.Error as error:
        unknown = isinstance(getattr(error, "exc", None), ValueError)
        what = "W&B knows no such sweep" if unknown else "W&B cannot be read"
        raise InputError(f"{path}: {what} ({' '.join(str(error).split())}). {_ONLINE_HELP}") from error
    measured = []
    for name, config, summary in fetched:
        metrics = {
            key: float(value)
            for key, value in summary.items()
            if key.startswith(SPLITS) and isinstance(value, int | float) and not isinstance(value, bool)
        }
        if metrics:
            measured.append((name, _flat(config), metrics))
    if not measured:
        raise InputError(f"{path}: none of its {len(fetched)} runs has logged a validation or a test yet.")
    if len(measured) < len(fetched):
        left_out = [name for name, *_ in fetched if name not in {one[0] for one in measured}]
        warnings.warn(f"{path}: left out, without a validation or test: {', '.join(left_out)}", stacklevel=2)
    swept = list(sweep_config.get("parameters", {}))
    # a module's hyper-parameters are logged beside the options that set them, under names of their own
    configs = [{name: config[name] for name in swept or config if name in config} for _, config, _ in measured]
    settings = _settings(configs, swept)
    runs = [SweptRun(name, own, metrics) for (name, _, metrics), own in zip(measured, settings, strict=True)]
    return sorted(runs, key=_by_settings)


def by_value(runs: Sequence[SweptRun], parameter: str, metric: str) -> dict[Any, np.ndarray]:
    """Gather a metric by the value of a parameter, in the order of the values.

    Args:
        runs: of one sweep.
        parameter: dotted name of an option, such as ``model.loss_weight``.
        metric: as logged.

    Returns:
        ``[runs]`` for each value: repeats that differ in something else, as a rule in their seed.

    Raises:
        InputError: the parameter was not swept, or a run lacks the metric.
    """
    swept = sorted({name for run in runs for name in run.settings})
    if parameter not in swept:
        raise InputError(f"{parameter}: is the same in all runs or no option; {did_you_mean(parameter, swept)}")
    values: dict[Any, list[float]] = {}
    for run in sorted(runs, key=lambda run: _sortable(run.settings[parameter])):
        if metric not in run.metrics:
            hint = did_you_mean(metric, sorted(run.metrics))
            raise InputError(f"{run.folder or run.name}: has not measured {metric}; {hint}")
        values.setdefault(run.settings[parameter], []).append(run.metrics[metric])
    return {value: np.array(members) for value, members in values.items()}


def operating_threshold(run: RunFolder) -> str:
    """Return the threshold that a run's test calls ``refined``, as result files write it.

    Raises:
        InputError: the test's configuration is missing or names none.
    """
    path = run.test / "config.yaml"
    try:
        return threshold_name(yaml.safe_load(path.read_text(encoding="utf-8"))["evaluation"]["threshold"])
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; `tse-refine test` writes it beside summary.csv.") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: names no evaluation.threshold ({type(error).__name__}: {error}).") from error


def _is_run(run: RunFolder) -> bool:
    return run.holds_training() or run.metrics.exists() or run.test.is_dir()


def _read_config(run: RunFolder) -> dict[str, Any]:
    """Return the configuration of a training, or of the test where another run's checkpoint was tested."""
    path = run.config if run.config.exists() or not run.test.is_dir() else run.test / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path} does not exist, but {run.path} looks like a run. Run the sweep again, or take this folder away."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not the configuration of a run ({type(error).__name__}).") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: is not the configuration of a run; a mapping of options is expected.")
    return config


def _validation_metrics(run: RunFolder) -> dict[str, float]:
    """Return the last validation of a training; nothing where there was none."""
    if not run.metrics.exists():
        return {}
    for row in reversed(read_table(run.metrics, ())):
        found = {name: value for name, value in row.items() if value and str(name).startswith("val/")}
        if found:
            return _numbers(run.metrics, found.items())
    return {}


def _test_metrics(run: RunFolder) -> dict[str, float]:
    """Return what a test logged, from its result files; nothing where there was none."""
    summary, classification = run.test / "summary.csv", run.test / "classification.csv"
    if not summary.exists():
        return {}
    operating = operating_threshold(run)
    found = {}
    for row in read_table(summary, SUMMARY_COLUMNS):
        measure = "attenuation_db" if row["active"] == "0" else "snri_db"
        name = f"test/{measure}/{condition_key((row['active'], row['inactive']))}"
        found[f"{name}/{_key(summary, row['threshold'])}"] = row[measure]
        if row["threshold"] == operating:
            found[f"{name}/refined"] = row[measure]
    if classification.exists():  # a network without a classifier has none
        for row in read_table(classification, CLASSIFICATION_COLUMNS):
            found[f"test/macro_f1/{_key(classification, row['threshold'])}"] = row["macro_f1"]
            found["test/map"] = row["map"]
    return _numbers(run.test, ((name, value) for name, value in found.items() if value))


def _key(path: Path, threshold: str) -> str:
    try:
        return threshold_key(threshold if threshold in WORDS else float(threshold))
    except ValueError as error:
        raise InputError(f"{path}: {threshold!r} is no threshold; run `tse-refine test` again.") from error


def _numbers(path: Path, found: Iterable[tuple[str, str]]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in found}
    except (TypeError, ValueError) as error:  # half a line
        raise InputError(f"{path}: {error}. The file is cut off or changed; make it again.") from error


def _swept(path: Path) -> list[str]:
    """Return the columns of ``sweep.csv``; nothing while a sweep has not ended, or where runs were put together."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _settings(configs: Sequence[Mapping[str, Any]], swept: Sequence[str]) -> list[dict[str, Any]]:
    """Return of flat configurations what was swept, then what else differs between them."""
    names = list(dict.fromkeys(name for config in configs for name in config))
    different = [
        name
        for name in names
        if not name.startswith(_BOOKKEEPING) and any(config.get(name) != configs[0].get(name) for config in configs)
    ]
    chosen = dict.fromkeys([*(name for name in swept if name in names), *different])
    return [{name: config.get(name) for name in chosen} for config in configs]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by their dotted names; lists as text, so that runs can be grouped by them.

    >>> _flat({"model": {"loss_weight": 10.0}, "data": {"queries": {"target_counts": [1, 2]}}})
    {'model.loss_weight': 10.0, 'data.queries.target_counts': '[1, 2]'}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return found


def _by_settings(run: SweptRun) -> tuple[Any, ...]:
    return (*(_sortable(value) for value in run.settings.values()), run.name)


def _sortable(value: Any) -> tuple[bool, float, str]:
    """Return a key that sorts numbers by size, before everything else."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))
