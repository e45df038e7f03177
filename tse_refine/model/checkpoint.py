"""Networks with their weights and names on disk: read without the training data and without executing code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home, normalized_name, replacing
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig

CHECKPOINT_KEY = "tse_refine"  # where a checkpoint holds TrainedNetwork.description and the digest of its data
_NUMBERS = (
    "loss_weight",
    "frame_loss_weight",
    "snr_max_db",
    "learning_rate",
    "warmup_fraction",
)  # of a training, beside its network
_NETWORK_PREFIX = "network."  # of the module's weights


@dataclass(frozen=True)
class TrainedNetwork:
    """A network as a training left it, in evaluation mode.

    Attributes:
        network: network on its device.
        class_names: names by index.
        sample_rate: Hz.
        recommended_threshold: best refinement on validation, as YAML writes it: a number for a hard threshold, the
            name of another rule (:func:`tse_refine.refinement.parse_refinement`); None where none was measured.
        duration_seconds: length of the mixtures that it was trained on; older checkpoints do not hold it, and six
            seconds is the default of trainings.
        extracts: whether the extractor was trained; else the classifier alone was (``model.extraction`` false).
    """

    network: Network
    class_names: tuple[str, ...]
    sample_rate: int
    recommended_threshold: float | str | None = None
    duration_seconds: float = 6.0
    extracts: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(map(normalized_name, self.class_names)))

    def description(self) -> dict[str, Any]:
        """Return all but the weights in plain types, as a checkpoint holds it under ``CHECKPOINT_KEY``."""
        return {
            "class_names": list(self.class_names),
            "sample_rate": self.sample_rate,
            "duration_seconds": self.duration_seconds,
            "network": asdict(self.network.config),
            "recommended_threshold": self.recommended_threshold,
            "extracts": self.extracts,
        }

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that :func:`load_network` reads; it appears whole or not at all.

        It holds the network alone, for extraction and export; trainings and tests use the checkpoints of Lightning.
        """
        weights = {f"{_NETWORK_PREFIX}{name}": weight for name, weight in self.network.state_dict().items()}
        with replacing(Path(path)) as temporary:
            torch.save({"state_dict": weights, CHECKPOINT_KEY: self.description()}, temporary)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint of this package; tensors stay on disk until they are used.

    Args:
        path: checkpoint of a run.

    Raises:
        InputError: the file is missing, damaged, or another program's.
    """
    path = expand_home(path)
    hint = "expected is checkpoints/best.ckpt or last.ckpt of a run"
    if path.is_dir():
        raise InputError(f"{path} is a folder; {hint}.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; {hint}.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not an archive of PyTorch, or is cut off")
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # on damaged bytes the unpickler raises any exception
        found = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a checkpoint ({found}); {hint}.") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(CHECKPOINT_KEY), dict):
        raise InputError(f"{path} was not written by tse-refine; {hint}.")
    return checkpoint


def load_network(path: str | Path, device: str | torch.device = "cpu") -> TrainedNetwork:
    """Build the network of a checkpoint with its weights.

    Args:
        path: checkpoint of a run.
        device: device of the network.

    Raises:
        InputError: the file is missing, damaged, another program's, or its weights do not fit the sizes it states.
    """
    checkpoint = read_checkpoint(path)
    about: Mapping[str, Any] = checkpoint[CHECKPOINT_KEY]
    try:
        config = network_config(about)
        names, rate = tuple(about["class_names"]), int(about["sample_rate"])
        duration = float(about.get("duration_seconds", TrainedNetwork.duration_seconds))
        network = Network(len(names), rate, config)
        weights = {
            name.removeprefix(_NETWORK_PREFIX): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(_NETWORK_PREFIX)
        }
        network.load_state_dict(weights)
        check_weights(weights, str(path))
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path}: its weights do not fit the network it describes ({type(error).__name__}: {error}); it is "
            "damaged, or of another version of tse-refine."
        ) from error
    recommended, extracts = about.get("recommended_threshold"), bool(about.get("extracts", True))
    return TrainedNetwork(network.to(device).eval(), names, rate, recommended, duration, extracts)


def network_config(about: Mapping[str, Any]) -> NetworkConfig:
    """Return the sizes that a checkpoint describes.

    They are data: no name in them is imported, whatever the file says.

    Args:
        about: description of a checkpoint, in plain types.

    Raises:
        KeyError: there are none.
        TypeError: they have other names than the network's.
        ValueError: they are not sizes.
    """
    sizes = dict(about["network"])
    classifier = None if sizes["classifier"] is None else ClassifierConfig(**sizes["classifier"])
    if not all(
        value is None or isinstance(value, int | float) for name, value in sizes.items() if name != "classifier"
    ):
        raise ValueError("a size is not a number")
    return NetworkConfig(**{**sizes, "classifier": classifier})


def training_options(path: str | Path) -> dict[str, Any]:
    """Return the options of the model that a checkpoint was trained with, in plain types.

    Args:
        path: checkpoint of a run.

    Raises:
        InputError: the file is missing, damaged, or another program's.
    """
    checkpoint = read_checkpoint(path)
    saved = checkpoint.get("hyper_parameters", {})
    try:
        options = {name: saved[name] for name in _NUMBERS if name in saved}
        if not all(type(value) in (int, float) for value in options.values()):
            raise ValueError("an option of the training is not a number")
        about = checkpoint[CHECKPOINT_KEY]
        options["extraction"] = bool(about.get("extracts", True))
        return options | {"network": asdict(network_config(about))}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: does not describe its network ({type(error).__name__}: {error}); it is damaged, or of another "
            "version of tse-refine."
        ) from error


def check_weights(weights: Mapping[str, torch.Tensor], owner: str) -> None:
    """Reject weights of a training that has diverged.

    Args:
        weights: weights by name.
        owner: where they come from, for the message.

    Raises:
        InputError: a weight is NaN or infinite.
    """
    for name, weight in weights.items():
        if not torch.isfinite(weight).all():
            raise InputError(
                f"{owner}: the weights {name} are not all finite, so the training has diverged. Use an earlier "
                "checkpoint, or train again with a lower model.learning_rate."
            )
