"""Which runs may stand side by side, and which are of one system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import GATE, condition_name
from tse_refine.version import PACKAGE

# options of the data that change how mixtures are served, not what they are
_NOT_DIGESTED = ("digest", "cache_dir", "num_workers", "batch_size", "num_train", "num_val", "num_test")
_NOT_DIGESTED += ("download", "predict_indices")

_NOT_MIXTURES = ("digest", "cache_dir", "num_workers", "num_test", "download", "predict_indices")
# options of the trainer that say where a training ran and what was shown of it, not how it went
_NOT_TRAINING = ("default_root_dir", "logger", "callbacks", "log_every_n_steps", "profiler", "accelerator", "barebones")
_NOT_TRAINING += ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams")
_NOT_TRAINING += ("num_sanity_val_steps", "model_registry")


def recipe(config: dict[str, Any]) -> str:
    """Return what the systems of two runs must have in common: the module, the data, the training.

    Args:
        config: of a training, as saved.
    """
    trainer = {key: value for key, value in config.get("trainer", {}).items() if key not in _NOT_TRAINING}
    data = {key: value for key, value in config["data"].items() if key not in _NOT_MIXTURES}
    return json.dumps([config["model"], data, trainer], sort_keys=True, default=str)


def check_comparable(runs: Sequence[MeasuredRun]) -> None:
    """Refuse runs whose figures must not stand side by side or be pooled.

    Args:
        runs: at least one.

    Raises:
        InputError: runs were not asked the same about the same mixtures, were tested by different versions or on other
            recordings, are of one system but cannot be pooled, or are one and the same.
    """
    for first, second in combinations(runs, 2):
        _check_origin(first, second)
    for run in runs[1:]:
        _check_questions(runs[0], run)


def _check_origin(first: MeasuredRun, second: MeasuredRun) -> None:
    """Refuse runs of another version or other recordings, and what cannot be pooled of one system."""
    where = f"{first.folder.path} and {second.folder.path}"
    if first.folder.path.resolve() == second.folder.path.resolve():
        raise InputError(f"{where} are the same run, which would count as two seeds; name it once.")
    versions = [run.version for run in (first, second) if run.version is not None]
    if len({tuple(version.split(".")[:2]) for version in versions}) > 1:
        raise InputError(
            f"{where} were tested by {PACKAGE} {' and '.join(versions)}, which need not measure the same; expected is "
            "one version, up to its last number. Run `tse-refine test` again with one version for both."
        )
    pairs = {"trained": (first.config, second.config), "tested": (first.test_config, second.test_config)}
    for what, configs in pairs.items():
        data = [config.get("data", {}) for config in configs]
        digests = [one["digest"] for one in data if one.get("digest") is not None]
        # what training asks is in the digest too: only of the same options the same one is expected
        if len(set(digests)) > 1 and _digested(data[0]) == _digested(data[1]):
            raise InputError(
                f"{where} were {what} with the same options on different recordings: their data.digest is "
                f"{' and '.join(map(str, digests))}. Train and test both on the same recordings."
            )
    if recipe(first.config) == recipe(second.config):
        thresholds = [run.grid.thresholds for run in (first, second)]
        if set(thresholds[0]) != set(thresholds[1]):
            raise InputError(
                f"{where} are of one system, but were tested at different thresholds: "
                f"{' and '.join(', '.join(one) for one in thresholds)}. Test both with the same "
                "evaluation.thresholds and evaluation.threshold."
            )
        gates = [run.test_config.get("evaluation", {}).get("threshold") for run in (first, second)]
        if GATE in thresholds[0] and None not in gates and gates[0] != gates[1]:
            raise InputError(
                f"{where} are of one system, but their gates close at different thresholds: {gates[0]} and "
                f"{gates[1]}. Test both with the same evaluation.threshold."
            )


def _check_questions(first: MeasuredRun, second: MeasuredRun) -> None:
    """Refuse runs that were not asked the same about the same mixtures."""
    ours, theirs = first.grid, second.grid
    where = f"{first.folder.path} and {second.folder.path}"
    if ours.conditions != theirs.conditions:
        found = " and ".join(", ".join(map(condition_name, grid.conditions)) for grid in (ours, theirs))
        raise InputError(
            f"{where} were tested in different conditions or another order of them: {found}. Test both with the same "
            "evaluation.conditions."
        )
    same_mixtures = np.array_equal(ours.mixtures, theirs.mixtures)
    if not same_mixtures or ours.questions != theirs.questions:
        found = f"there are {len(ours.mixtures)} and {len(theirs.mixtures)} mixtures"
        if same_mixtures:
            differ = [one != other for one, other in zip(ours.questions, theirs.questions, strict=True)]
            found = f"mixture {ours.mixtures[differ.index(True)]} is the first of {sum(differ)} that differ"
        raise InputError(
            f"{where} were tested on different mixtures, classes or queries, so that their figures cannot stand "
            f"side by side: {found}. Test both on the same data (data.seed, corpora, data.mixture, data.num_test)."
        )
    if not np.allclose(ours.input_snr_db, theirs.input_snr_db, atol=0.05, equal_nan=True):
        difference = np.nanmax(np.abs(ours.input_snr_db - theirs.input_snr_db))
        raise InputError(
            f"{where} heard different mixtures: their own SNRs differ by up to {difference:.2f} dB. Test both on the "
            "same recordings and data.mixture."
        )


def _digested(data: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the data that its digest is made of."""
    return {key: value for key, value in data.items() if key not in _NOT_DIGESTED}
