"""The runs of a sweep, read back in one shape from its folder or from Weights & Biases."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tse_refine.analysis.tested_run import operating_refinement, read_config
from tse_refine.errors import InputError, did_you_mean
from tse_refine.evaluation.callback import REFINED
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.metrics import HEADLINES, MEASURES
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS, REMEDY, summary_columns
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.tables import read_csv
from tse_refine.refinement import Refinement, parse_refinement

SPLITS = ("val/", "test/")
# where a run writes and what it shows: different in every run, but not a setting
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
        name: name of its folder, or as W&B shows it.
        settings: options that differ between the runs or were swept, by their dotted names, such as
            ``{"model.loss_weight": 10.0, "seed_everything": 1}``; None where a run has no such option.
        metrics: values by logged names, such as ``val/snri_db/1a3i/refined`` and ``test/macro_f1/delta_0p3``; those of
            the validation are of the last epoch.
        folder: folder of the run; None for a run of W&B.
    """

    name: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    folder: Path | None = None


def read_sweep_folder(folder: str | Path) -> list[SweptRun]:
    """Read the runs of a folder, such as ``tse-refine sweep`` makes: one subfolder per run.

    ``refined`` is the operating refinement of each run's own test.

    Args:
        folder: folder of all runs.

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
            "configs/sweeps/loss_weight.yaml` makes them."
        )
    configs = [_flat(_read_config(run)) for run in runs]
    metrics = [_validation_metrics(run) | _test_metrics(run) for run in runs]
    for run, measured in zip(runs, metrics, strict=True):
        if not measured:
            raise InputError(
                f"{run.path}: neither metrics.csv with a validation nor test/summary.csv is there, so the run has not "
                "finished. Run the sweep again, which continues where it stopped; or remove this folder."
            )
    settings = _settings(configs, _swept(folder / "sweep.csv"))
    swept = [
        SweptRun(run.path.name, own, values, run.path) for run, own, values in zip(runs, settings, metrics, strict=True)
    ]
    return sorted(swept, key=_by_settings)


def read_wandb_sweep(path: str, api: Any = None) -> list[SweptRun]:
    """Read the runs of a sweep from Weights & Biases.

    Runs without a validation or test, such as crashed ones, are left out with a warning.

    Args:
        path: path as W&B writes it, ``entity/project/sweep_id``.
        api: a ``wandb.Api``; by default one for the account that is logged in.

    Returns:
        The runs, in the order of their settings.

    Raises:
        InputError: the sweep is unknown or has measured nothing, or W&B cannot be reached.
    """
    import wandb  # takes a second, and only this function needs it
    from wandb.apis.normalize import normalize_exceptions

    @normalize_exceptions  # requests, timeouts, rejected queries and unknown sweeps: all become wandb.Error
    def fetch() -> tuple[dict[str, Any], list[tuple[str, dict[str, Any], dict[str, Any]]]]:
        sweep = (wandb.Api() if api is None else api).sweep(path)
        return sweep.config, [(run.name, dict(run.config), dict(run.summary.items())) for run in sweep.runs]

    if path.count("/") < 2:
        raise InputError(f"{path}: is not a sweep of W&B. {_ONLINE_HELP}")
    try:
        sweep_config, fetched = fetch()
    except wandb.Error as error:
        unknown = isinstance(getattr(error, "exc", None), ValueError)
        what = "W&B has no such sweep" if unknown else "W&B cannot be read"
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
        left_out = [name for name, *_ in fetched if name not in {run_name for run_name, *_ in measured}]
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
        runs: runs of one sweep.
        parameter: dotted name of an option, such as ``model.loss_weight``.
        metric: name of the logged metric.

    Returns:
        ``[runs]`` for each value: repeats that differ in something else, usually in their seed.

    Raises:
        InputError: the parameter was not swept, or a run lacks the metric.
    """
    swept = sorted({name for run in runs for name in run.settings})
    if parameter not in swept:
        raise InputError(f"{parameter}: is the same in all runs, or is not an option; {did_you_mean(parameter, swept)}")
    values: dict[Any, list[float]] = {}
    for run in sorted(runs, key=lambda run: _sortable(run.settings[parameter])):
        if metric not in run.metrics:
            hint = did_you_mean(metric, sorted(run.metrics))
            raise InputError(f"{run.folder or run.name}: {metric} was not measured; {hint}")
        values.setdefault(run.settings[parameter], []).append(run.metrics[metric])
    return {value: np.array(members) for value, members in values.items()}


def _is_run(run: RunFolder) -> bool:
    return run.holds_training() or run.metrics.exists() or run.test.is_dir()


def _read_config(run: RunFolder) -> dict[str, Any]:
    """Return the configuration of a training, or of the test where another run's checkpoint was tested."""
    path = run.config if run.config.exists() or not run.test.is_dir() else run.test / "config.yaml"
    config, _ = read_config(path)
    if config is None:
        raise InputError(
            f"{path} does not exist, but {run.path} looks like a run. Run the sweep again, or remove this folder."
        )
    return config


def _validation_metrics(run: RunFolder) -> dict[str, float]:
    """Return the last validation of a training; nothing where there was none."""
    for row in reversed(read_csv(run.metrics, ()) if run.metrics.exists() else []):
        cells = {name: cell for name, cell in row.items() if cell and name.startswith(SPLITS[0])}
        if cells:
            return _numbers(run.metrics, cells.items())
    return {}


def _test_metrics(run: RunFolder) -> dict[str, float]:
    """Return what a test logged, from its result files; nothing where there was none."""
    summary, classification = run.test / "summary.csv", run.test / "classification.csv"
    if not summary.exists():
        return {}
    operating = _operating(run)
    cells = []
    for row in read_csv(summary, summary_columns(HEADLINES), REMEDY):
        condition, refinement = _cell(summary, row)
        for measure in (measure for measure in MEASURES.values() if condition.kind in measure.kinds):
            keys = [refinement.key, *([REFINED] if refinement.name == operating.name else [])]
            cells += [(f"test/{measure.name}/{condition.key}/{key}", row.get(measure.name, "")) for key in keys]
    if classification.exists():  # a network without a classifier has none
        for row in read_csv(classification, CLASSIFICATION_COLUMNS, REMEDY):
            cells.append((f"test/macro_f1/{_cell(classification, row)[1].key}", row["macro_f1"]))
            cells.append(("test/map", row["map"]))
    return _numbers(run.test, ((name, cell) for name, cell in cells if cell))


def _operating(run: RunFolder) -> Refinement:
    """Return the refinement that the metrics of a test call ``refined``."""
    path = run.test / "config.yaml"
    config, _ = read_config(path)
    if config is None:
        raise InputError(f"{path} does not exist; `tse-refine test` writes it beside summary.csv.")
    return operating_refinement(path, config)


def _cell(path: Path, row: Mapping[str, str]) -> tuple[Condition, Refinement]:
    try:
        condition = Condition(int(row.get("active", 0)), int(row.get("inactive", 0)))  # classification.csv has none
        return condition, parse_refinement(row["threshold"], "threshold")
    except ValueError as error:  # InputError is one
        raise InputError(f"{path}: {str(error).rstrip('.')}. Run `tse-refine test` again.") from error


def _numbers(path: Path, cells: Iterable[tuple[str, str]]) -> dict[str, float]:
    try:
        return {name: float(cell) for name, cell in cells}
    except (TypeError, ValueError) as error:  # half a line
        raise InputError(f"{path}: {error}. The file is cut off or changed; make it again.") from error


def _swept(path: Path) -> list[str]:
    """Return the columns of ``sweep.csv``; nothing while a sweep has not ended, or for runs of several sweeps."""
    return list(next(iter(read_csv(path, ())), {})) if path.exists() else []


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
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return flat


def _by_settings(run: SweptRun) -> tuple[Any, ...]:
    return (*(_sortable(value) for value in run.settings.values()), run.name)


def _sortable(value: Any) -> tuple[bool, float, str]:
    """Return a key that sorts numbers by size, before everything else."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))
