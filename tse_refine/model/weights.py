"""Networks in one safetensors file, to be passed on: weights, names, and what a user has to know of them.

The models that come with the package are such files, in the folder ``shipped`` beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tse_refine.errors import InputError, did_you_mean
from tse_refine.files.atomic import replacing
from tse_refine.model.hub import download, is_address, parse_address

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
DEFAULT_MODEL = "real53-small"  # what the page to listen opens on
FOLDER = Path(__file__).parent / "shipped"
LONGEST_TEXT = 2_000  # of a heading of a card
DESCRIPTION, CARD = "tse_refine", "card"  # keys of the file's metadata, which hold JSON


@dataclass(frozen=True)
class ShippedModel:
    """A model that comes with the package.

    Attributes:
        name: what options call it.
        path: its file.
        class_names: names by index.
        sample_rate: Hz.
        recommended: the refinement that validation chose, as YAML writes it.
        card: what a user has to know, by heading, such as ``licence`` and ``data``.
    """

    name: str
    path: Path
    class_names: tuple[str, ...]
    sample_rate: int
    recommended: float | str | None
    card: Mapping[str, str]


def write_weights(
    path: Path, weights: Mapping[str, Tensor], description: Mapping[str, Any], card: Mapping[str, str]
) -> None:
    """Write weights with their description; the file appears whole or not at all.

    Args:
        path: file to write, ending in ``.safetensors``.
        weights: by the name that a checkpoint's ``state_dict`` gives them.
        description: what a checkpoint describes, in plain types
            (:meth:`tse_refine.model.checkpoint.TrainedNetwork.description`).
        card: what a user has to know, by heading.
    """
    from safetensors.torch import save

    about = {"format": "pt", DESCRIPTION: json.dumps(description), CARD: json.dumps(dict(card))}
    with replacing(path) as temporary:
        temporary.write_bytes(save({name: weight.contiguous() for name, weight in weights.items()}, about))


def read_weights(path: Path) -> dict[str, Any]:
    """Return the content of a file as a checkpoint of a run has it: ``state_dict`` and the description.

    Raises:
        ValueError, safetensors.SafetensorError: it is damaged, or another program's.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        description = _metadata(file.metadata(), DESCRIPTION)
        return {"state_dict": {name: file.get_tensor(name) for name in file.keys()}, DESCRIPTION: description}  # noqa: SIM118  not a dict


def read_card(path: Path) -> dict[str, str]:
    """Return what a file says to its user, by heading.

    Args:
        path: file in safetensors.

    Raises:
        InputError: it is damaged, or another program's.
    """
    from safetensors import SafetensorError, safe_open

    from tse_refine.files.documents import one_line

    try:
        with safe_open(path, framework="np") as file:
            return _card(file.metadata())
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}). Give a file of `tse-refine export`.") from error


def shipped_models() -> list[ShippedModel]:
    """Return the models that come with the package, by name; quick, since no weight is read.

    Raises:
        InputError: the file of one is damaged.
    """
    return [_shipped(path) for path in sorted(FOLDER.glob(f"*{SUFFIX}"))]


def find_checkpoint(given: str | Path) -> Path:
    """Return the file that a path names, or else the shipped model of that name, or a model on the Hub.

    Args:
        given: path of a file, name of a shipped model, or ``hf://OWNER/NAME``, with ``@REVISION`` or without. An
            existing file goes before a model.

    Raises:
        InputError: it has the form of a name, and there is neither; or the model on the Hub cannot be used
            (:func:`tse_refine.model.hub.download`).
    """
    if is_address(given):
        return download(parse_address(given))
    path, name = Path(given), str(given)
    known = [path.stem for path in sorted(FOLDER.glob(f"*{SUFFIX}"))]
    if path.exists() or path.name != name or path.suffix or not known:
        return path
    if name in known:
        return FOLDER / f"{name}{SUFFIX}"
    raise InputError(
        f"{name}: there is no such file, and no model of this name comes with the package; "
        f"{did_you_mean(name, known)} Give a model's name, or a path such as runs/demo/checkpoints/best.ckpt."
    )


def _shipped(path: Path) -> ShippedModel:
    from safetensors import SafetensorError, safe_open

    from tse_refine.files.documents import Fields, checked_names, one_line

    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata()
        described = Fields(_metadata(about, DESCRIPTION), DESCRIPTION)
        return ShippedModel(
            path.stem,
            path,
            checked_names(described.get("class_names")),
            described.whole("sample_rate", 1, 1_000_000),
            described.get("recommended_threshold"),
            _card(about),
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}). Install the package again.") from error


def _card(about: Mapping[str, str] | None) -> dict[str, str]:
    from tse_refine.files.documents import Fields

    card = Fields(_metadata(about, CARD), CARD)
    return {heading: card.text(heading, LONGEST_TEXT) for heading in card.values}


def _metadata(about: Mapping[str, str] | None, key: str) -> Any:
    from tse_refine.files.documents import parse_json  # which imports YAML: only where a file is read

    if not about or key not in about:
        raise ValueError(f"its metadata have no {key}")
    return parse_json(about[key])
