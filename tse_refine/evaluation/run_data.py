"""The data of a run, built again from its saved configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError


def data_of_run(config: Mapping[str, Any]) -> MixtureDataModule:
    """Build the data module of a run; no recording is read yet, only the corpora's tables, and nothing is downloaded.

    Args:
        config: the ``config.yaml`` of its training or of its test.

    Raises:
        InputError: its data options cannot be used, or a corpus is not there.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(MixtureDataModule, "data")
    options = {**config["data"], "digest": None, "predict_indices": None, "download": False}
    try:
        return parser.instantiate_classes(parser.parse_object({"data": options})).data
    except ArgumentError as error:
        raise InputError(f"The data options in the run's config.yaml cannot be used: {error}") from error
