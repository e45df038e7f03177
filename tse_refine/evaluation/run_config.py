"""The configuration of a run: names of earlier versions updated, its plugins imported, its data built again."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tse_refine.errors import InputError
from tse_refine.files.documents import MOST_YAML_BYTES, Fields, checked_name, one_line, parse_yaml, read_text, shown
from tse_refine.refinement import Refinement, parse_refinement

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from tse_refine.data.corpora.base import Corpus
    from tse_refine.data.datamodule import MixtureDataModule

# class paths in configurations that earlier versions saved
RENAMED_CLASSES = {
    "tse_refine.csv_logger.RunCSVLogger": "tse_refine.RunCSVLogger",
    "tse_refine.data.corpora.EmbeddedSounds": "tse_refine.data.corpora.SyntheticSounds",
    "tse_refine.data.corpora.EmbeddedBackgrounds": "tse_refine.data.corpora.SyntheticBackgrounds",
}
# options of the checkpoint in configurations that earlier versions saved, with the values that are now fixed
FORMER_CHECKPOINT_OPTIONS: dict[str, Any] = {
    "filename": "best",
    "verbose": False,
    "save_last": True,
    "save_on_exception": False,
    "save_weights_only": False,
    "auto_insert_metric_name": True,
    "every_n_train_steps": None,
    "every_n_epochs": None,
    "save_on_train_epoch_end": None,
    "enable_version_counter": False,
}
_START_FOLDER = os.getcwd()
hinted: set[str] = set()  # old names for which a hint has been printed


def update_config(config: Any) -> Any:
    """Return a configuration with the present names of renamed classes, and print a hint on stderr once per name.

    Args:
        config: options as YAML holds them, nested to any depth.

    >>> update_config({"trainer": {"logger": {"class_path": "tse_refine.RunCSVLogger"}}})
    {'trainer': {'logger': {'class_path': 'tse_refine.RunCSVLogger'}}}
    """
    if isinstance(config, Mapping):
        updated = {key: update_config(value) for key, value in config.items()}
        if isinstance(checkpoint := updated.get("checkpoint"), dict):
            former = FORMER_CHECKPOINT_OPTIONS
            updated["checkpoint"] = {
                key: value for key, value in checkpoint.items() if key not in former or value != former[key]
            }
        return updated
    if isinstance(config, list):
        return [update_config(value) for value in config]
    if not isinstance(config, str) or config not in RENAMED_CLASSES:
        return config
    if config not in hinted:
        hinted.add(config)
        print(f"tse-refine: {config} is now called {RENAMED_CLASSES[config]}.", file=sys.stderr)
    return RENAMED_CLASSES[config]


def import_plugin(name: str) -> str:
    """Import a module whose corpora, refinement rules or measures options may name, and return its name.

    Modules in the current folder are found too, also by the console script, for which Python does not look there, and
    beside the config that names them.

    Args:
        name: dotted name of the module.

    Raises:
        InputError: the module does not exist, or a module that it imports does not.
    """
    # while a config is read, jsonargparse makes its folder the current one
    sys.path += [folder for folder in (_START_FOLDER, os.getcwd()) if folder not in sys.path]
    try:
        if not all(part.isidentifier() for part in checked_name(name, "the module").split(".")):
            raise ValueError("it is not a dotted name")
        import_module(name)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"plugins: the module {shown(name)} cannot be imported ({error}). Give the dotted name of a module that is "
            "installed or lies in the current folder."
        ) from error
    return name


def import_plugins(config: Mapping[str, Any]) -> None:
    """Import the modules that a configuration names under ``plugins``.

    Args:
        config: options of a run, as parsed or saved.

    Raises:
        InputError: a module cannot be imported.
    """
    plugins = config.get("plugins") or ()
    if not isinstance(plugins, list | tuple):
        raise InputError(f"plugins: {shown(plugins)} is not a list of modules.")
    for name in plugins:
        import_plugin(name)


def read_config(path: Path) -> dict[str, Any] | None:
    """Return a saved configuration; None where it is missing.

    Its plugins are imported, and classes of earlier versions have their present names.

    Args:
        path: ``config.yaml`` of a training or test.

    Raises:
        InputError: it is not the configuration of a run, or a plugin is missing.
    """
    try:
        config = parse_yaml(read_text(path, MOST_YAML_BYTES))
        if not isinstance(config, dict) or not all(isinstance(config.get(k), dict) for k in ("data", "evaluation")):
            raise ValueError("it has no options of data and evaluation")
        _check_names(config)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise not_a_config(path, error) from error
    updated: dict[str, Any] = update_config(config)
    import_plugins(updated)
    return updated


def _check_names(value: Any) -> None:
    """Raise ValueError where the names of options are something else than text."""
    for part in (
        Fields(value).values.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    ):
        _check_names(part)


def operating_refinement(path: Path, config: Mapping[str, Any]) -> Refinement:
    """Return the operating refinement of the configuration in a file; InputError where it has none that is valid."""
    try:
        return parse_refinement(config["evaluation"]["threshold"], "evaluation.threshold")
    except (KeyError, InputError) as error:
        raise not_a_config(path, error) from error


def not_a_config(path: Path, error: Exception) -> InputError:
    """Return the error of a file that is not the configuration of a run, as another error shows."""
    return InputError(
        f"{path}: is not the configuration of a run ({type(error).__name__}: {one_line(error)}). Restore it, or train "
        "and test again."
    )


def check_groups(parser: ArgumentParser, config: Namespace) -> None:
    """Reject a single value in the place of a group of options, such as ``data.mixture: 6``, which jsonargparse takes.

    Args:
        parser: parser of the options.
        config: what it parsed.

    Raises:
        InputError: names the group.
    """
    from jsonargparse import Namespace

    for group, default in parser.get_defaults(skip_validation=True).items(branches=True):
        if not isinstance(default, Namespace) or "class_path" in default:
            continue
        if not isinstance(value := config.get(group, default), Namespace | Mapping):
            option = next(iter(default.keys()))
            raise InputError(f"{group} is {shown(value)}; its options are expected, such as {group}.{option}.")


def build_data(config: Mapping[str, Any], **changes: Any) -> MixtureDataModule:
    """Build the data module of a configuration, and nothing else of it; no recording is read yet, only tables.

    Args:
        config: options of ``fit``, as parsed or saved.
        changes: options of the data that replace those of the configuration.

    Raises:
        InputError: the data options cannot be used, a corpus is not there, or a plugin cannot be imported.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from tse_refine.data.datamodule import MixtureDataModule

    import_plugins(config)
    options = {**update_config(config)["data"], **changes}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MixtureDataModule, "data")
    try:
        parsed = parser.parse_object({"data": options})
        check_groups(parser, parsed)
        data: MixtureDataModule = parser.instantiate_classes(parsed).data
    except ArgumentError as error:
        raise InputError(f"The data options of the configuration cannot be used: {error}") from error
    return data


def build_corpora(config: Mapping[str, Any]) -> list[Corpus]:
    """Build the corpora that a configuration has, the foregrounds first; nothing is read yet.

    Args:
        config: options of ``fit``, as parsed or saved.

    Raises:
        InputError: the options of a corpus cannot be used, or a plugin cannot be imported.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from tse_refine.data.corpora.base import BACKGROUNDS, FOREGROUNDS, IMPULSE_RESPONSES, INTERFERERS, Corpus

    import_plugins(config)
    options = update_config(config)["data"]
    corpora = (FOREGROUNDS, BACKGROUNDS, INTERFERERS, IMPULSE_RESPONSES)
    roles = [role for role in (option.removeprefix("data.") for option in corpora) if options.get(role) is not None]
    parser = ArgumentParser(exit_on_error=False)
    for role in roles:
        parser.add_subclass_arguments(Corpus, role)
    try:
        parsed = parser.parse_object({role: options[role] for role in roles})
        built = parser.instantiate_classes(parsed)
    except ArgumentError as error:
        raise InputError(f"The data options of the configuration cannot be used: {error}") from error
    return [getattr(built, role) for role in roles]


def data_of_run(config: Mapping[str, Any]) -> MixtureDataModule:
    """Build the data module of a run again; nothing is downloaded, and recordings may differ from those of the run.

    Args:
        config: the ``config.yaml`` of its training or of its test.

    Raises:
        InputError: as :func:`build_data`.
    """
    return build_data(config, digest=None, predict_indices=None, download=False)
