"""Networks with their weights and names on disk: read without the training data and without executing code."""

from __future__ import annotations

import hashlib
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home, normalized_name, replacing
from tse_refine.files.documents import Fields, checked_names, one_line, shown
from tse_refine.files.tables import content_of
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.model.weights import DESCRIPTION, SUFFIX, find_checkpoint, read_weights, write_weights

CHECKPOINT_KEY = DESCRIPTION  # where a checkpoint holds TrainedNetwork.description and the digest of its data
_NETWORK_PREFIX = "network."  # of the module's weights
# limits of a training's options beside its network, which the module checks further
_OPTIONS = dict.fromkeys(
    ("loss_weight", "frame_loss_weight", "snr_max_db", "learning_rate", "warmup_fraction"), (-1e9, 1e9)
)
_SAMPLE_RATES = (10, 1_000_000)  # Hz
_DURATIONS = (0.01, 3600.0)  # seconds
# what torch.save writes of tensors, numbers and text
_GLOBALS = re.compile(
    r"collections OrderedDict|torch Size|torch device|torch\._utils _rebuild_(tensor_v2|parameter)|"
    r"torch (?!Untyped|Typed)[A-Z]\w+Storage|torch (float|bfloat|int|uint|bool)\d*"
)
_HINT = "expected is checkpoints/best.ckpt or last.ckpt of a run"
_MISFIT = "its weights do not fit the network it describes"


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
        aliases: other words for classes in queries, by class; older checkpoints have none.
    """

    network: Network
    class_names: tuple[str, ...]
    sample_rate: int
    recommended_threshold: float | str | None = None
    duration_seconds: float = 6.0
    extracts: bool = True
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", tuple(map(normalized_name, self.class_names)))
        aliases = {normalized_name(name): tuple(words) for name, words in self.aliases.items()}
        object.__setattr__(self, "aliases", aliases)

    def description(self) -> dict[str, Any]:
        """Return all but the weights in plain types, as a checkpoint holds it under ``CHECKPOINT_KEY``."""
        return {
            "class_names": list(self.class_names),
            "sample_rate": self.sample_rate,
            "duration_seconds": self.duration_seconds,
            "network": asdict(self.network.config),
            "recommended_threshold": self.recommended_threshold,
            "extracts": self.extracts,
            "aliases": {name: list(words) for name, words in self.aliases.items()},
        }

    def save(self, path: str | Path, card: Mapping[str, str] = {}) -> None:
        """Write a checkpoint that :func:`load_network` reads; it appears whole or not at all.

        It holds the network alone, for extraction, tests and export; trainings are resumed from those of Lightning.

        Args:
            path: file to write; one that ends in ``.safetensors`` is safe to read for every program.
            card: what a user has to know, by heading, such as ``licence``; for safetensors alone.
        """
        path = Path(path)
        weights = {f"{_NETWORK_PREFIX}{name}": weight for name, weight in self.network.state_dict().items()}
        if path.suffix == SUFFIX:
            write_weights(path, weights, self.description(), card)
            return
        with replacing(path) as temporary:
            torch.save({"state_dict": weights, CHECKPOINT_KEY: self.description()}, temporary)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint, checked: its description is valid, and its weights are those of its network.

    Attributes:
        path: the file.
        about: all but the weights; ``network`` of it is of sizes alone, without memory.
        weights: weights of the network by name; they stay on disk until they are used.
        content: everything in the file, such as the state of a training.
    """

    path: Path
    about: TrainedNetwork
    weights: Mapping[str, Tensor]
    content: Mapping[str, Any]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint of this package: the one reader of all commands, which executes no code of the file.

    The memory it takes is bounded by the file's size, whatever sizes the file states.

    Args:
        path: checkpoint of a run, a file in safetensors, the name of a shipped model, or the address of a model on the
            Hub (:func:`tse_refine.model.weights.find_checkpoint`).

    Raises:
        InputError: the file is missing, damaged, another program's, or its weights are not those of the network it
            describes, or not finite.
    """
    path = find_checkpoint(expand_home(path))
    if path.is_dir():
        raise InputError(f"{path} is a folder; {_HINT}.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; {_HINT}.")
    try:
        if path.suffix == SUFFIX:
            content: Any = read_weights(path)
        else:
            _check_archive(path)
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # on damaged bytes the unpickler raises any exception
        raise InputError(f"{path} cannot be read as a checkpoint ({one_line(error)}); {_HINT}.") from error
    if not isinstance(content, dict) or not isinstance(content.get(CHECKPOINT_KEY), dict):
        raise InputError(f"{path} was not written by tse-refine; {_HINT}.")
    with content_of(path, f"It is damaged, or of another version of tse-refine; {_HINT}."):
        weights = _weights(content.get("state_dict"))
        about = _described(Fields(content[CHECKPOINT_KEY], CHECKPOINT_KEY), len(weights))
        _check_shapes(weights, about.network.state_dict(), path.stat().st_size)
    check_weights(weights, str(path))
    return Checkpoint(path, about, weights, content)


def load_network(path: str | Path, device: str | torch.device = "cpu") -> TrainedNetwork:
    """Build the network of a checkpoint with its weights.

    Args:
        path: checkpoint of a run.
        device: device of the network.

    Raises:
        InputError: as :func:`read_checkpoint`.
    """
    checkpoint = read_checkpoint(path)
    about = checkpoint.about
    network = Network(len(about.class_names), about.sample_rate, about.network.config)
    network.load_state_dict(checkpoint.weights)
    return replace(about, network=network.to(device).eval())


def training_options(path: str | Path) -> dict[str, Any]:
    """Return the options of the model that a checkpoint was trained with, in plain types.

    Args:
        path: checkpoint of a run.

    Raises:
        InputError: as :func:`read_checkpoint`, or an option is not a number.
    """
    checkpoint = read_checkpoint(path)
    with content_of(checkpoint.path, f"It is damaged, or of another version of tse-refine; {_HINT}."):
        saved = Fields(checkpoint.content.get("hyper_parameters", {}), "hyper_parameters")
        options = {name: saved.number(name, *limits) for name, limits in _OPTIONS.items() if name in saved}
    return options | {"network": asdict(checkpoint.about.network.config), "extraction": checkpoint.about.extracts}


def _check_archive(path: Path) -> None:
    """Reject an archive that torch.save does not write: one that is damaged, or that takes more memory than disk.

    Of what weights may be pickled with, some classes reserve as much memory as the file asks for.

    Raises:
        ValueError, zipfile.BadZipFile: says what is wrong.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is not an archive of PyTorch, or is cut off")
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            raise ValueError("its parts are compressed, which PyTorch's are not")
        if sum(part.file_size for part in parts) > path.stat().st_size:
            raise ValueError("its parts are larger than the file")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of its part {damaged} is wrong")
        for part in parts:
            if part.filename.endswith(".pkl"):
                for code, names, _ in pickletools.genops(archive.read(part)):
                    if "GLOBAL" in code.name and not _GLOBALS.fullmatch(str(names)):
                        raise ValueError(f"it refers to {names}, which no checkpoint of tse-refine does")


def _described(fields: Fields, num_weights: int) -> TrainedNetwork:
    """Return what a checkpoint describes, with a network that has no memory; ValueError where it is not valid."""
    names = checked_names(fields.get("class_names"))
    rate = fields.whole("sample_rate", *_SAMPLE_RATES)
    duration = fields.number("duration_seconds", *_DURATIONS, TrainedNetwork.duration_seconds)
    recommended = fields.get("recommended_threshold", None)
    if isinstance(recommended, str):
        fields.text("recommended_threshold")
    elif recommended is not None:
        recommended = fields.number("recommended_threshold", 0.0, 1.0)
    config = _network_config(fields.fields("network"))
    num_blocks = config.blocks_per_stack * (config.shared_stacks + config.mask_stacks)
    num_layers = 0 if config.classifier is None else config.classifier.num_layers
    if num_blocks + num_layers > num_weights:
        raise ValueError(f"{_MISFIT}: {num_blocks} blocks and {num_layers} layers have more than {num_weights}")
    with torch.device("meta"):
        network = Network(len(names), rate, config)
    aliases = _aliases(fields, names)
    return TrainedNetwork(network, names, rate, recommended, duration, fields.flag("extracts", True), aliases)


def _aliases(fields: Fields, class_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return other words for classes, by class; none in older checkpoints."""
    words = Fields(fields.get("aliases", {}), "aliases").values
    for name in words:
        if name not in class_names:
            raise ValueError(f"{shown(name)} has aliases, but is not a class")
    stated = {name: value for name, value in words.items() if not (isinstance(value, list | tuple) and not value)}
    return {name: checked_names(value, "alias") for name, value in stated.items()}


def _network_config(fields: Fields) -> NetworkConfig:
    """Return the sizes that a checkpoint describes; no name in them is imported, whatever the file says."""
    classifier = None
    if fields.get("classifier") is not None:
        classifier = ClassifierConfig(**_known(fields.fields("classifier"), ClassifierConfig))
    config = NetworkConfig(**{**_known(fields, NetworkConfig), "classifier": classifier})
    config.check()
    return config


def _known(sizes: Fields, kind: type[NetworkConfig] | type[ClassifierConfig]) -> Mapping[str, Any]:
    unknown = sorted(sizes.values.keys() - {field.name for field in dataclass_fields(kind)})
    if unknown:
        raise ValueError(f"{shown(unknown[0])} is not a size of a network")
    return sizes.values


def _weights(state: Any) -> dict[str, Tensor]:
    """Return the network's weights of a module's; ValueError where they are not weights."""
    weights = {
        name.removeprefix(_NETWORK_PREFIX): value
        for name, value in Fields(state, "state_dict").values.items()
        if name.startswith(_NETWORK_PREFIX)
    }
    for name, value in weights.items():
        is_tensor = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
        counts = name.endswith("num_batches_tracked")  # of a batch norm; all else is in floating point
        if not is_tensor or value.is_quantized or value.is_floating_point() == counts:
            raise ValueError(f"{shown(name)} of its state_dict is {shown(value)}, not an array of weights")
    return weights


def _check_shapes(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], num_bytes: int) -> None:
    """Reject weights that are not those of a network, or that a file of that size cannot hold (ValueError)."""
    shapes = [{name: list(weight.shape) for name, weight in part.items()} for part in (weights, expected)]
    for name in sorted(weights.keys() | expected.keys()):
        found, fits = (part.get(name, "missing") for part in shapes)
        if found != fits:
            raise ValueError(f"{_MISFIT}: {shown(name)} is {found}, by its sizes {fits}")
    if sum(weight.numel() * weight.element_size() for weight in weights.values()) > num_bytes:
        raise ValueError(f"{_MISFIT}: they would take more than its {num_bytes} bytes")


def weights_digest(network: nn.Module) -> str:
    """Return a digest of a network's weights, the same on every device and in every file that holds them.

    Args:
        network: network with its weights.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {list(weight.shape)}".encode())
        digest.update(weight.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def check_extracts(extracts: bool) -> None:
    """Reject a network whose classifier alone was trained.

    Args:
        extracts: whether its extractor was trained too.

    Raises:
        InputError: it was not.
    """
    if not extracts:
        raise InputError(
            "The checkpoint is of a training of the classifier alone (model.extraction false), so that nothing can be "
            "extracted with it. Train an extractor beside it with model.classifier_from."
        )


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
