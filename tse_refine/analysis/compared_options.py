"""Options of saved configurations as they are compared: with defaults where an earlier version had no such option."""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from tse_refine.data import corpora
from tse_refine.data.corpora.base import BACKGROUNDS, FOREGROUNDS, IMPULSE_RESPONSES, INTERFERERS
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import MixtureConfig
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import NetworkConfig

_ROLES = {option.removeprefix("data."): option for option in (FOREGROUNDS, BACKGROUNDS, INTERFERERS, IMPULSE_RESPONSES)}
# of ExtractionModule, whose room must not be imported here
MODULE_DEFAULTS: dict[str, Any] = {
    "loss_weight": 10.0,
    "frame_loss_weight": 0.0,
    "spectrum_augmentation": False,
    "extraction": True,
    "classifier_from": None,
    "init_from": None,
    "freeze": [],
    "query_refinement": None,
    "query_refinement_start": 0.5,
    "snr_max_db": 30.0,
    "learning_rate": 5e-4,
    "warmup_fraction": 0.1,
    "compile_stacks": False,
    "checkpoint_activations": False,
}


def option_defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of a class's options, as YAML holds them.

    Args:
        kind: class that a configuration describes.

    >>> option_defaults(QueryConfig)["target_counts"]
    [1, 2, 3]
    """
    parameters = inspect.signature(kind.__init__).parameters.values()  # type: ignore[misc]
    defaults = {option.name: option.default for option in parameters if option.default is not option.empty}
    plain: dict[str, Any] = json.loads(json.dumps(defaults, default=asdict))
    return plain


def complete_model(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the model with the defaults of those that are missing.

    Args:
        options: ``model`` of a saved configuration.
    """
    network = {**option_defaults(NetworkConfig), "classifier": option_defaults(ClassifierConfig)}
    return _filled({**MODULE_DEFAULTS, "network": network}, options)


def complete_data(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the data with the defaults of those that are missing, without those that have no effect.

    Args:
        options: ``data`` of a saved configuration.
    """
    data = _filled(option_defaults(MixtureDataModule), options)
    for role in _ROLES:
        data[role] = _complete_corpus(data.get(role))
    if isinstance(mixture := data["mixture"], dict):
        present = [option for role, option in _ROLES.items() if data[role] is not None]
        data["mixture"] = _effective(mixture, MixtureConfig(), MixtureConfig().settings(present))
    if isinstance(queries := data["queries"], dict):
        config = QueryConfig(partial_sample_rate=float(bool(queries["partial_sample_rate"])))
        data["queries"] = _effective(queries, config, config.settings())
    return data


def _complete_corpus(corpus: Any) -> Any:
    """Return the description of a corpus with the defaults of its class, where that is of this package."""
    name = str(corpus.get("class_path")).removeprefix(f"{corpora.__name__}.") if isinstance(corpus, dict) else ""
    if name not in corpora.__all__:
        return corpus
    return _filled({"init_args": option_defaults(getattr(corpora, name))}, corpus)


def _effective(
    options: dict[str, Any], config: MixtureConfig | QueryConfig, settings: Collection[str]
) -> dict[str, Any]:
    """Return options without those that the settings leave out."""
    return {name: value for name, value in options.items() if name in settings or name not in vars(config)}


def _filled(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, and those inside them, with defaults for what is missing."""
    filled = {**defaults, **options}
    for name in defaults.keys() & options.keys():
        if isinstance(defaults[name], dict) and isinstance(options[name], dict):
            filled[name] = _filled(defaults[name], options[name])
    return filled
