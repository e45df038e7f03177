"""Cost of a network: parameters, and multiply-accumulate operations per second of audio."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tse_refine.model.network import Network


@dataclass(frozen=True)
class Cost:
    """Totals of a network and the classifier's part of them.

    Attributes:
        parameters: number in the whole network.
        parameters_classifier: number in the classifier, 0 without one.
        gmac_per_second: 10^9 multiply-accumulate operations per second of audio for one query, counted in
            convolutions, linear layers and GRU matrices; norms and activations are left out.
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
    """Count by running a copy of the network once; each layer's operations follow from its output's size.

    The copy has sizes only (PyTorch's device ``meta``): there every layer is called, where on a CPU blocks are fused.
    """
    network = deepcopy(network).to("meta")
    pooling = 1 if network.classifier is None else network.classifier.pooling
    num_frames = 8 * pooling  # a whole number of pools, so that nothing at the edge is counted
    macs: dict[nn.Module, int] = {}

    def count(module: nn.Module, _inputs: Any, output: Any) -> None:
        macs[module] = macs.get(module, 0) + _layer_macs(module, output)

    layers = [module for module in network.modules() if isinstance(module, _COUNTED)]
    per_query = {network.query_embedding}  # once per query, whatever the length: not a cost per second of audio
    handles = [module.register_forward_hook(count) for module in layers if module not in per_query]
    try:
        with torch.no_grad():
            silence = network.encoder.weight.new_zeros(1, (num_frames - 1) * network.stride)
            network(silence, silence.new_zeros(1, network.num_classes))
    finally:
        for handle in handles:
            handle.remove()
    classifier_layers = set() if network.classifier is None else set(network.classifier.modules())
    giga_per_frame = 1e-9 * network.frame_rate / num_frames
    return Cost(
        parameters=count_parameters(network),
        parameters_classifier=count_parameters(network.classifier),
        gmac_per_second=giga_per_frame * sum(macs.values()),
        gmac_per_second_classifier=giga_per_frame * sum(macs[layer] for layer in macs if layer in classifier_layers),
    )


_COUNTED = (nn.Conv1d, nn.ConvTranspose1d, nn.Linear, nn.GRU)


def _layer_macs(module: nn.Module, output: Any) -> int:
    if isinstance(module, nn.Conv1d):
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
