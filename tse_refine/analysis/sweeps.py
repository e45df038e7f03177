"""The runs of a sweep, read back in one shape from its folder or from Weights & Biases."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tse_refine.analysis.measurements import read_events
from tse_refine.errors import InputError, did_you_mean
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.events import EVENT_SCORES
from tse_refine.evaluation.logged import REFINED
from tse_refine.evaluation.metrics import HEADLINES, MEASURES
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS, FALSE_ALARMS, LABEL_MEASURES, REMEDY, summary_columns
from tse_refine.evaluation.run_config import operating_refinement, read_config
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.tables import content_of, read_csv
from tse_refine.refinement import parse_refinement

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
    folders = [run for path in sorted(folder.iterdir()) if path.is_dir() and _is_run(run := RunFolder(path))]
    if not folders:
        raise InputError(
            f"{folder} holds no run: a folder with config.yaml for each is expected. `tse-refine sweep "
            "sweeps/loss_weight` makes them."
        )
    runs = []
    for run in folders:
        options, metrics = flat_options(_read_config(run)), _validation_metrics(run) | _test_metrics(run)
        if not metrics:
            raise InputError(
                f"{run.path}: neither metrics.csv with a validation nor test/summary.csv is there, so the run has not "
                "finished. Run the sweep again, which continues where it stopped; or remove this folder."
            )
        runs.append(SweptRun(run.path.name, options, metrics, run.path))
    table = folder / "sweep.csv"  # is there once a sweep has ended, not for runs of several sweeps
    swept = next(iter(read_csv(table, ())), {}) if table.exists() else {}
    return _in_order(runs, swept)


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
    swept = list(sweep_config.get("parameters", {}))
    runs, left_out = [], []
    for name, config, summary in fetched:
        metrics = {
            key: float(value)
            for key, value in summary.items()
            if key.startswith(SPLITS) and isinstance(value, int | float) and not isinstance(value, bool)
        }
        if metrics:
            options = flat_options(config)
            # a module's hyper-parameters are logged beside the options that set them, under names of their own
            options = {option: options[option] for option in swept or options if option in options}
            runs.append(SweptRun(name, options, metrics))
        else:
            left_out.append(name)
    if not runs:
        raise InputError(f"{path}: none of its {len(fetched)} runs has logged a validation or a test yet.")
    if left_out:
        warnings.warn(f"{path}: left out, without a validation or test: {', '.join(left_out)}", stacklevel=2)
    return _in_order(runs, swept)


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
    config = read_config(path)
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
            with content_of(run.metrics, "The file is cut off or changed; make it again."):
                return {name: float(cell) for name, cell in cells.items()}
    return {}


def _test_metrics(run: RunFolder) -> dict[str, float]:
    """Return what a test logged, from its result files; nothing where there was none."""
    summary, classification = run.test / "summary.csv", run.test / "classification.csv"
    if not summary.exists():
        return {}
    path = run.test / "config.yaml"
    config = read_config(path)
    if config is None:
        raise InputError(f"{path} does not exist; `tse-refine test` writes it beside summary.csv.")
    operating = operating_refinement(path, config)
    cells: dict[str, str] = {}
    rows = read_csv(summary, summary_columns(HEADLINES), REMEDY)
    with content_of(summary, "Run `tse-refine test` again."):
        for row in rows:
            condition = Condition(int(row["active"]), int(row["inactive"]))
            refinement = parse_refinement(row["threshold"], "threshold")
            keys = [refinement.key, *([REFINED] if refinement.name == operating.name else [])]
            for measure in (measure for measure in MEASURES.values() if condition.kind in measure.kinds):
                cells |= {f"test/{measure.name}/{condition.key}/{key}": row.get(measure.name, "") for key in keys}
    rows = read_csv(classification, CLASSIFICATION_COLUMNS, REMEDY) if classification.exists() else []
    with content_of(classification, "Run `tse-refine test` again."):
        for row in rows:  # none without a classifier
            key = parse_refinement(row["threshold"], "threshold").key
            cells |= {f"test/macro_f1/{key}": row["macro_f1"], "test/map": row["map"]}
            cells[f"test/{FALSE_ALARMS}/{key}"] = row.get(FALSE_ALARMS, "")
            cells |= {f"test/{name}/{key}": row.get(name, "") for name in LABEL_MEASURES}
    events = read_events(run.test / "events.csv")
    scores = {} if events is None else {f"test/{name}": events.macro(name) for name in EVENT_SCORES}
    with content_of(run.test, "The file is cut off or changed; make it again."):
        return {name: float(cell) for name, cell in cells.items() if cell} | scores


def _in_order(runs: Sequence[SweptRun], swept: Iterable[str]) -> list[SweptRun]:
    """Keep of all options, in ``settings``, what was swept, then what else differs; sort the runs by them."""
    values = {name: [run.settings.get(name) for run in runs] for run in runs for name in run.settings}
    different = [
        name
        for name, of_runs in values.items()
        if not name.startswith(_BOOKKEEPING) and any(value != of_runs[0] for value in of_runs)
    ]
    chosen = dict.fromkeys([*(name for name in swept if name in values), *different])
    runs = [replace(run, settings={name: run.settings.get(name) for name in chosen}) for run in runs]
    return sorted(runs, key=lambda run: (*map(_sortable, run.settings.values()), run.name))


def flat_options(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested options by their dotted names; lists as text, so that runs can be grouped by them.

    >>> flat_options({"model": {"loss_weight": 10.0}, "data": {"queries": {"target_counts": [1, 2]}}})
    {'model.loss_weight': 10.0, 'data.queries.target_counts': '[1, 2]'}
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flat_options(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value) if isinstance(value, list) else value
    return flat


def _sortable(value: Any) -> tuple[bool, float, str]:
    """Return a key that sorts numbers by size, before everything else."""
    number = isinstance(value, int | float)
    return (not number, float(value) if number else 0.0, str(value))
