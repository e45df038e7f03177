"""Agreement of the network with that on the CPU, for ``benchmarks/gpu.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import checkout  # noqa: F401
import torch
from gpu_setting import Setting
from measuring import CLASSES
from torch import Tensor

from tse_refine.model.network import Network

COMPARED = 2  # mixtures that are compared; the CPU takes seconds for each


def agreement(setting: Setting) -> list[dict[str, Any]]:
    """Compare estimate, probability and gradient with those of the CPU: a row for each network and mode."""
    rows = []
    for name in setting.sizes.models:
        expected = cpu_results(name, setting)
        module = setting.network(name)
        for mode, tf32, precision in (
            ("float32 without TF32", False, "float32"),
            ("float32", True, "float32"),
            ("bfloat16", True, "bfloat16"),
        ):
            with tf32_in_convolutions(tf32):
                found = results(setting, module, precision)
            rows.append({"model": name, "mode": mode, **differences(found, expected)})
    return rows


def cpu_results(name: str, setting: Setting, inference: bool = False) -> dict[str, Tensor]:
    """Return the results of the same network on the CPU in float32."""
    on_cpu = replace(setting, device="cpu")
    return results(on_cpu, on_cpu.network(name), "float32", inference)


def results(setting: Setting, module: Network, precision: str, inference: bool = False) -> dict[str, Tensor]:
    """Return estimate and probability of the first mixtures and, in training, the gradient of all weights.

    On the CPU only these mixtures are computed. Elsewhere the batch is whole, so that nothing is compiled again.
    """
    mixture = setting.mixture()[: COMPARED if setting.device == "cpu" else None]
    query = torch.eye(CLASSES, device=mixture.device)[:1].expand(len(mixture), -1)
    with torch.inference_mode() if inference else nullcontext():
        with setting.precision(precision):
            estimate, features = module(mixture, query)
            probability = features.probability()
        assert probability is not None
        found = {"estimate": estimate[:COMPARED].float(), "probability": probability[:COMPARED].float()}
        if not inference:
            # logarithms, so that the two outputs have equal parts in the gradient
            torch.stack([output.square().mean().log() for output in found.values()]).sum().backward()
            gradients = [weight.grad.flatten() for weight in module.parameters() if weight.grad is not None]
            found["gradient"] = torch.cat(gradients)
            module.zero_grad()
    return {name: value.detach().cpu().double() for name, value in found.items()}


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return the norm of each difference over the norm of what is expected."""
    return {name: float((found[name] - expected[name]).norm() / expected[name].norm()) for name in found}


@contextmanager
def tf32_in_convolutions(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in cuDNN; PyTorch allows it by default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
