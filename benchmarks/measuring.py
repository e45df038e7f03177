"""What the benchmarks share: turns and medians, the machine's limits, peers of the network, and their files.

Every benchmark prints its tables and, with ``--output FILE``, writes JSON: the machine, the options and all figures.

asteroid (0.7.0 was measured) pins a torchmetrics that is older than ours, hence ``--no-deps``, and both packages import
more than their Conv-TasNets need, hence the others::

    pip install --no-deps --target peers asteroid asteroid-filterbanks speechbrain hyperpyyaml ruamel.yaml scipy
    PYTHONPATH=peers python benchmarks/training_step.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torchaudio
import yaml
from torch import nn

from tse_refine.files.atomic import write_text
from tse_refine.files.tables import Table
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.cost import count_parameters, measure_cost
from tse_refine.model.network import Network, NetworkConfig

ROOT = Path(__file__).parent.parent
RATE, CLASSES = 16_000, 41  # of the published data set, FSDKaggle2018


def parser(description: str | None, threads: int = 2, repeats: int | None = 5) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks share, described by a module's docstring.

    Without ``repeats`` there is no option for them: what is measured is the same each time.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if repeats is not None:
        made.add_argument("--repeats", type=int, default=repeats, help="rounds; a figure is their median")
    made.add_argument("--threads", type=int, default=threads, help="of PyTorch on the CPU")
    made.add_argument("--output", type=Path, help="JSON file of all figures")
    return made


def report(tables: Table | Sequence[Table], options: argparse.Namespace, **figures: Any) -> None:
    """Print tables and, where ``options.output`` names a file, write them with all figures."""
    tables = [tables] if isinstance(tables, Table) else tables
    print("\n\n".join(table.text() for table in tables), flush=True)
    if options.output:
        device = getattr(options, "device", "cpu")
        content = {
            "command": " ".join(["python", *sys.argv]),
            "machine": machine(device),
            "options": vars(options),
            "tables": [asdict(table) for table in tables],
            **figures,
        }
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.output, json.dumps(content, indent=1, default=str) + "\n")


def take_turns(
    runs: Mapping[Any, Callable[[], object]], repeats: int, device: str = "cpu", warm_up: int = 2
) -> dict[Any, list[float]]:
    """Return the seconds of each run in each round; the runs take turns, so that a slow minute meets all of them."""
    seconds: dict[Any, list[float]] = {name: [] for name in runs}
    for turn in range(-warm_up, repeats):
        for name, run in runs.items():
            taken = timed(run, device)
            if turn >= 0:
                seconds[name].append(taken)
    return seconds


def medians(
    runs: Mapping[Any, Callable[[], object]], repeats: int, device: str = "cpu", warm_up: int = 2
) -> dict[Any, float]:
    """Return the median seconds of each run."""
    return {name: median(each) for name, each in take_turns(runs, repeats, device, warm_up).items()}


class Seconds(float):
    """The time that a run has measured itself, in another process, and returns."""


def timed(run: Callable[[], object], device: str = "cpu") -> float:
    """Return the seconds of one run, to the end of what it started on a GPU, or the `Seconds` that it returns."""
    if device != "cpu":
        torch.cuda.synchronize()
    start = perf_counter()
    returned = run()
    if device != "cpu":
        torch.cuda.synchronize()
    return returned if isinstance(returned, Seconds) else perf_counter() - start


def machine(device: str = "cpu") -> str:
    """Return the name of the processor, and the version of PyTorch."""
    if device != "cpu":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}"


def machine_limits(device: str = "cpu", matrix_size: int | None = None) -> dict[str, float]:
    """Measure products of large matrices (``float32`` and ``bfloat16``, GFLOP/s) and a ``copy`` in memory (GB/s).

    The copy counts bytes read and bytes written.

    Args:
        device: device to measure.
        matrix_size: rows and columns of the matrices; by default as many as keep the device busy.
    """
    size = matrix_size or (2048 if device == "cpu" else 8192)

    def best(run: Callable[[], Any]) -> float:
        return min(timed(run, device) for _ in range(6))

    limits = {}
    for dtype, label in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        limits[label] = 2e-9 * size**3 / best(lambda a=a, b=b: torch.mm(a, b))
    source = torch.randn(2**26 if device == "cpu" else 2**30, device=device)
    target = torch.empty_like(source)
    limits["copy"] = 8e-9 * source.numel() / best(lambda: target.copy_(source))
    return limits


def larger_limits(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the larger of limits that were measured twice: a slow minute would let a share exceed one."""
    return {name: max(before[name], after[name]) for name in before}


def limits_text(limits: Mapping[str, float]) -> str:
    """Return the machine's limits in words."""
    return (
        f"Limits of the machine: products of matrices {limits['float32']:,.0f} GFLOP/s in float32 and "
        f"{limits['bfloat16']:,.0f} in bfloat16, copy {limits['copy']:,.0f} GB/s."
    )


def network_config(name: str, classifier: bool = True) -> NetworkConfig:
    """Read the sizes of a network from ``configs/model``."""
    sizes = yaml.safe_load((ROOT / "configs" / "model" / f"{name}.yaml").read_text())["model"]["network"]
    return NetworkConfig(**sizes, classifier=ClassifierConfig() if classifier else None)


def network(name: str, classifier: bool = True) -> Network:
    """Build a network of ``configs/model`` for the published data set."""
    return Network(CLASSES, RATE, network_config(name, classifier))


def gmac_per_second(module: nn.Module, name: str) -> float:
    """Return the 10^9 multiply-accumulate operations per second of audio of a network of ``name``'s sizes.

    A peer's follow from its parameters: it is made of convolutions, whose weights are used once a frame.
    """
    if isinstance(module, Network):
        return measure_cost(module).gmac_per_second
    plain = network(name, classifier=False)
    per_weight = measure_cost(plain).gmac_per_second / (
        count_parameters(plain) - count_parameters(plain.query_embedding)
    )
    return per_weight * count_parameters(module)


def peers(sizes: NetworkConfig) -> dict[str, nn.Module]:
    """Build Conv-TasNets of the same sizes from other packages, for mixtures ``[batch, samples]``.

    torchaudio's always; asteroid's and speechbrain's where they are installed. torchaudio's skip path is as wide as its
    features, speechbrain has none, and none of the three has a classifier.
    """
    window = 2 * round(sizes.window_ms * RATE / 2000)
    stacks = sizes.shared_stacks + sizes.mask_stacks
    made: dict[str, nn.Module] = {
        "torchaudio": _Mono(
            torchaudio.models.ConvTasNet(
                num_sources=1,
                enc_kernel_size=window,
                enc_num_feats=sizes.num_filters,
                msk_kernel_size=sizes.kernel_size,
                msk_num_feats=sizes.bottleneck_channels,
                msk_num_hidden_feats=sizes.hidden_channels,
                msk_num_layers=sizes.blocks_per_stack,
                msk_num_stacks=stacks,
            )
        )
    }
    try:
        from asteroid.models import ConvTasNet

        made["asteroid"] = ConvTasNet(
            n_src=1,
            n_filters=sizes.num_filters,
            kernel_size=window,
            stride=window // 2,
            n_blocks=sizes.blocks_per_stack,
            n_repeats=stacks,
            bn_chan=sizes.bottleneck_channels,
            hid_chan=sizes.hidden_channels,
            skip_chan=sizes.skip_channels or 0,
            conv_kernel_size=sizes.kernel_size,
            sample_rate=RATE,
        )
    except ImportError:
        pass
    try:
        from speechbrain.lobes.models.conv_tasnet import Decoder, Encoder, MaskNet

        made["speechbrain"] = _SpeechBrain(
            Encoder(window, sizes.num_filters),
            MaskNet(
                N=sizes.num_filters,
                B=sizes.bottleneck_channels,
                H=sizes.hidden_channels,
                P=sizes.kernel_size,
                X=sizes.blocks_per_stack,
                R=stacks,
                C=1,
                norm_type="gLN",
            ),
            Decoder(window, sizes.num_filters),
        )
    except ImportError:
        pass
    return made


class _Mono(nn.Module):
    """torchaudio's network with mixtures without a channel."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        return self.network(mixture[:, None])


class _SpeechBrain(nn.Module):
    """speechbrain's parts of a Conv-TasNet, which it has no class for."""

    def __init__(self, encoder: nn.Module, mask_net: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.mask_net, self.decoder = encoder, mask_net, decoder

    def forward(self, mixture: torch.Tensor) -> torch.Tensor:
        encoded = self.encoder(mixture)  # [batch, frames, filters]
        mask = self.mask_net(encoded.transpose(1, 2))  # [1, batch, filters, frames]
        return self.decoder(encoded, mask.permute(1, 3, 0, 2))[..., 0]
