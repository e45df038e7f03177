"""Cost of a network: parameters, and multiply-accumulate operations per second of audio."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tse_refine.model.mel_classifier import MelClassifier
from tse_refine.model.network import Network


@dataclass(frozen=True)
class Cost:
    """Totals of a network and the classifier's part of them.

    Attributes:
        parameters: number in the whole network.
        parameters_classifier: number in the classifier, 0 without one.
        gmac_per_second: 10^9 multiply-accumulate operations per second of audio for one query, counted in
            convolutions, linear layers and GRU matrices; norms, activations and spectrograms are left out.
        gmac_per_second_classifier: part of the classifier.
    """

    parameters: int
    parameters_classifier: int
    gmac_per_second: float
    gmac_per_second_classifier: float


def count_parameters(module: nn.Module | None) -> int:
    """Return how many parameters a module has, 0 for none.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


def measure_cost(network: Network) -> Cost:
    """Count by running a copy of both heads once; each layer's operations follow from its output's size.

    The copy has sizes only (PyTorch's device ``meta``): there every layer is called, where on a CPU blocks are fused.
    Lengths are such that nothing at the edge is counted.
    """
    network = deepcopy(network).to("meta").eval()
    classifier, network.classifier = network.classifier, None
    new = network.encoder.weight.new_zeros
    giga_macs_classifier = 0.0
    if isinstance(classifier, MelClassifier):
        hop = classifier.log_mel.hop
        macs = _count(classifier, new(1, (_FRAMES - 1) * hop - 1))
        giga_macs_classifier = 1e-9 * macs * network.frame_rate * network.stride / (_FRAMES * hop)
    elif classifier is not None:
        frames = _FRAMES * classifier.pooling
        macs = _count(classifier, new(1, network.config.bottleneck_channels, frames))
        giga_macs_classifier = 1e-9 * macs * network.frame_rate / frames
    macs = _count(network, new(1, (_FRAMES - 1) * network.stride), new(1, network.num_classes))
    macs -= network.query_embedding.weight.numel()  # once per query: not a cost per second of audio
    return Cost(
        parameters=count_parameters(network) + count_parameters(classifier),
        parameters_classifier=count_parameters(classifier),
        gmac_per_second=1e-9 * macs * network.frame_rate / _FRAMES + giga_macs_classifier,
        gmac_per_second_classifier=giga_macs_classifier,
    )


def _count(module: nn.Module, *inputs: torch.Tensor) -> int:
    """Return the operations of one call."""
    macs: list[int] = []
    layers = [layer for layer in module.modules() if isinstance(layer, _COUNTED)]
    hooks = [layer.register_forward_hook(lambda *call: macs.append(_layer_macs(call[0], call[2]))) for layer in layers]
    with torch.no_grad():
        module(*inputs)
    for hook in hooks:
        hook.remove()
    return sum(macs)


_FRAMES = 16
_COUNTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.Linear, nn.GRU)


def _layer_macs(module: nn.Module, output: Any) -> int:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.ConvTranspose1d):  # each input frame is multiplied with every weight once
        num_frames = (output.shape[-1] - module.kernel_size[0]) // module.stride[0] + 1
        return num_frames * module.weight.numel()
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, nn.GRU):
        num_steps = output[0].shape[0] * output[0].shape[1]
        return num_steps * sum(weight.numel() for name, weight in module.named_parameters() if "weight" in name)
    raise TypeError(f"no count for {type(module).__name__}")
