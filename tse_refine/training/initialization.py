"""Starts a training from the weights of another one, also where its classes are others (fine-tuning)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Network

# weights with a row or column for each class, by the dimension of the classes
CLASS_DIMENSION = {
    "query_embedding.weight": 1,
    "context_embedding.weight": 1,
    "classifier.linear.weight": 0,
    "classifier.linear.bias": 0,
}
OPTIONAL_PARTS = ("context_embedding", "classifier")
PARTS = ("encoder", "bottleneck", "shared_extractor", "query_embedding", "mask_estimator", "decoder", *OPTIONAL_PARTS)


class Copied(NamedTuple):
    """What a network has taken over from another.

    Attributes:
        parts: names of the parts that were copied.
        classes: names of the classes whose weights were copied.
        new_parts: names of the parts that stay as they were drawn.
        new_classes: names of the classes whose weights stay as they were drawn.
    """

    parts: tuple[str, ...]
    classes: tuple[str, ...]
    new_parts: tuple[str, ...]
    new_classes: tuple[str, ...]

    def __str__(self) -> str:
        """Return what is printed when a training starts."""
        listed = [", ".join(names) or "none" for names in self]
        return f"copied: {listed[0]}; of the classes: {listed[1]}. Drawn anew: {listed[2]}; of the classes: {listed[3]}"


@torch.no_grad()
def copy_weights(network: Network, class_names: Sequence[str], trained: TrainedNetwork, option: str) -> Copied:
    """Copy the weights of a trained network into another one with the same sizes; its classes may be others.

    Weights that belong to a class, of the query's embedding and of the classifier's last layer, are copied for the
    classes that both know by the same name. A classifier of another kind, or a part that the trained network lacks,
    stays as it was drawn, and so does the extractor where a classifier alone was trained.

    Args:
        network: network to change, in place.
        class_names: names of its classes by index.
        trained: network to copy from.
        option: names the checkpoint in messages.

    Raises:
        InputError: the sample rates or sizes differ.
    """
    if trained.sample_rate != round(network.frame_rate * network.stride):
        raise InputError(
            f"{option} was trained at {trained.sample_rate} Hz, but data.sample_rate is "
            f"{round(network.frame_rate * network.stride)}."
        )
    theirs, own = trained.network.state_dict(), network.state_dict()
    common = [name for name in class_names if name in trained.class_names]
    places = [[names.index(name) for name in common] for names in (list(class_names), list(trained.class_names))]
    parts = []
    for part in PARTS:
        names = [name for name in own if name.split(".")[0] == part]
        if not names or (part != "classifier" and not trained.extracts):
            continue
        misfit = next((name for name in names if not _fits(name, theirs, own)), None)
        if misfit is not None and part in OPTIONAL_PARTS:
            continue
        if misfit is not None:
            raise InputError(
                f"{option} has a network of other sizes: {misfit} is {_shape(theirs, misfit)} there, but "
                f"{_shape(own, misfit)} is needed. Use the model options of its run."
            )
        parts.append(part)
        for name in names:
            dimension = CLASS_DIMENSION.get(name)
            if dimension is None:
                own[name].copy_(theirs[name])
            else:
                indices = [torch.tensor(place, dtype=torch.long) for place in places]
                own[name].index_copy_(dimension, indices[0], theirs[name].index_select(dimension, indices[1]))
    existing = [part for part in PARTS if any(name.split(".")[0] == part for name in own)]
    return Copied(
        tuple(parts),
        tuple(common),
        tuple(part for part in existing if part not in parts),
        tuple(name for name in class_names if name not in common),
    )


def freeze_parts(network: Network, parts: Sequence[str]) -> None:
    """Keep parts of a network out of the training.

    Args:
        network: network whose parts no longer get gradients, in place.
        parts: names among ``PARTS``.

    Raises:
        InputError: the network has no such part.
    """
    existing = dict(network.named_children())
    for part in parts:
        if part not in PARTS or existing.get(part) is None:
            known = ", ".join(name for name in PARTS if existing.get(name) is not None)
            raise InputError(f"model.freeze: {part!r} is not a part of this network; parts are {known}.")
        existing[part].requires_grad_(False)


def _fits(name: str, theirs: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether a weight has the same shape in both, the number of classes left out."""
    if name not in theirs:
        return False
    shapes = [list(state[name].shape) for state in (theirs, own)]
    for shape in shapes:
        if name in CLASS_DIMENSION:
            shape[CLASS_DIMENSION[name]] = 0
    return shapes[0] == shapes[1]


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return str(list(state[name].shape)) if name in state else "missing"
