"""Training steps and inference of the network beside torchaudio's ConvTasNet of the same sizes, in one run.

::

    python benchmarks/training_step.py                                  # two CPU cores
    python benchmarks/training_step.py --device cuda --model paper paper_wide --batch 8 --compile

The variants take turns; each figure is the median of ``--repeats`` rounds. The ratio is against torchaudio in float32.
GFLOP/s count two operations per multiply-accumulate in convolutions, linear layers and GRU (three times that in
training); beside them stand the machine's own limits: products of large matrices in float32 and bfloat16, and a copy.
On a GPU, convolutions in float32 use the TF32 mode, as is PyTorch's default.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from contextlib import nullcontext
from importlib.resources import files
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
import torchaudio
import yaml
from torch import Tensor, nn

from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.cost import measure_cost
from tse_refine.model.network import Network, NetworkConfig

RATE, CLASSES = 16_000, 41


def main() -> None:
    """Measure and print a table; with ``--output`` write all figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", nargs="+", default=["paper", "small"], help="names of configs/model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="measure compiled stacks, too")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    limits = machine_limits(options.device)
    print(f"{machine(options.device)}, {options.threads} threads, batch {options.batch} x {options.seconds:g} s")
    print(", ".join(f"{name} {value:,.0f}" for name, value in limits.items()))
    rows = [row for model in options.model for row in measure_model(model, options)]
    columns = ("model", "work", "network", "precision", "ms", "times_torchaudio", "gflop_per_second", "peak_gib")
    print("| " + " | ".join(columns) + " |\n" + "| --- " * len(columns) + "|")
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in columns) + " |", flush=True)
    if options.output:
        content = {"machine": machine(options.device), "options": vars(options), "limits": limits, "rows": rows}
        options.output.write_text(json.dumps(content, indent=1, default=str) + "\n")


def measure_model(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each kind of work, network and precision."""
    mixture = 0.1 * torch.randn(options.batch, round(options.seconds * RATE), device=options.device)
    query = torch.eye(CLASSES, device=options.device)[:1].expand(options.batch, -1)
    networks: dict[str, Callable[[], Any]] = {}
    sizes = network_config(name)
    whole = Network(CLASSES, RATE, sizes).to(options.device)
    extraction_only = Network(CLASSES, RATE, network_config(name, classifier=False)).to(options.device)
    peer = torchaudio_network(sizes).to(options.device)
    networks["torchaudio"] = lambda: (peer(mixture[:, None]),)
    networks["tse_refine"] = lambda: outputs(whole, mixture, query)
    networks["without classifier"] = lambda: outputs(extraction_only, mixture, query)
    modules: dict[str, nn.Module] = {
        "torchaudio": peer, "tse_refine": whole, "without classifier": extraction_only,
    }  # fmt: skip
    if options.compile:
        compiled = Network(CLASSES, RATE, sizes).to(options.device)
        for stacks in (compiled.shared_extractor, compiled.mask_estimator):
            stacks.compile(dynamic=True)
        networks["compiled"], modules["compiled"] = lambda: outputs(compiled, mixture, query), compiled
    cost = measure_cost(Network(CLASSES, RATE, sizes))
    gflop = 2.0 * options.batch * options.seconds * cost.gmac_per_second
    without = gflop * (1.0 - cost.gmac_per_second_classifier / cost.gmac_per_second)
    rows = []
    for work, factor in (("training step", 3.0), ("inference", 1.0)):
        variants = list(product(networks, ("float32", "bfloat16")))
        seconds: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}
        peak: dict[tuple[str, str], float | None] = {}
        for turn in range(options.repeats + 2):  # two to warm up
            for variant in variants:
                run = step(networks[variant[0]], modules[variant[0]], variant[1], options.device, work == "inference")
                taken, peak[variant] = timed(run, options.device)
                if turn >= 2:
                    seconds[variant].append(taken)
        base = median(seconds["torchaudio", "float32"])
        for (network, precision), taken_each in seconds.items():
            taken = median(taken_each)
            work_done = factor * (gflop if network in ("tse_refine", "compiled") else without)
            rows.append(
                {
                    "model": name, "work": work, "network": network, "precision": precision,
                    "ms": round(1e3 * taken, 1), "times_torchaudio": round(base / taken, 2),
                    "gflop_per_second": round(work_done / taken), "peak_gib": peak[network, precision],
                }
            )  # fmt: skip
    return rows


def outputs(network: Network, mixture: Tensor, query: Tensor) -> tuple[Tensor, ...]:
    """Return the estimate, and the classifier's logits where there is one."""
    estimate, features = network(mixture, query)
    return (estimate,) if features.frame_logits is None else (estimate, features.frame_logits)


def step(
    run: Callable[[], tuple[Tensor, ...]], module: nn.Module, precision: str, device: str, inference: bool
) -> Callable[[], None]:
    """Return a function that runs a network once, or also its backward pass."""

    def once() -> None:
        lower = torch.autocast(device, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()
        with torch.inference_mode() if inference else nullcontext():
            with lower:
                results = run()
            if not inference:
                torch.stack([result.float().square().mean() for result in results]).sum().backward()
                module.zero_grad()

    return once


def timed(run: Callable[[], None], device: str) -> tuple[float, float | None]:
    """Return the seconds of a run, and on a GPU its peak memory in GiB."""
    if device == "cpu":
        start = perf_counter()
        run()
        return perf_counter() - start, None
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    start = perf_counter()
    run()
    torch.cuda.synchronize()
    return perf_counter() - start, round(torch.cuda.max_memory_allocated() / 2**30, 2)


def network_config(name: str, classifier: bool = True) -> NetworkConfig:
    """Read the sizes of a network from ``configs/model``."""
    text = (files("tse_refine").parent / "configs" / "model" / f"{name}.yaml").read_text()  # type: ignore[attr-defined]
    sizes = yaml.safe_load(text)["model"]["network"]
    return NetworkConfig(**sizes, classifier=ClassifierConfig() if classifier else None)


def torchaudio_network(sizes: NetworkConfig) -> nn.Module:
    """Build torchaudio's ConvTasNet with the same sizes; its skip path is as wide as its features, as ours is here."""
    return torchaudio.models.ConvTasNet(
        num_sources=1,
        enc_kernel_size=2 * round(sizes.window_ms * RATE / 2000),
        enc_num_feats=sizes.num_filters,
        msk_kernel_size=sizes.kernel_size,
        msk_num_feats=sizes.bottleneck_channels,
        msk_num_hidden_feats=sizes.hidden_channels,
        msk_num_layers=sizes.blocks_per_stack,
        msk_num_stacks=sizes.shared_stacks + sizes.mask_stacks,
    )


def machine_limits(device: str) -> dict[str, float]:
    """Measure products of large matrices (GFLOP/s) and a copy in memory (GB/s, bytes read and written)."""
    size = 2048 if device == "cpu" else 8192

    def best(run: Callable[[], Any]) -> float:
        return min(timed(run, device)[0] for _ in range(6))

    limits = {}
    for dtype, label in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        limits[f"{label} product GFLOP/s"] = 2e-9 * size**3 / best(lambda a=a, b=b: torch.mm(a, b))
    source = torch.randn(2**26 if device == "cpu" else 2**30, device=device)
    target = torch.empty_like(source)
    limits["copy GB/s"] = 8e-9 * source.numel() / best(lambda: target.copy_(source))
    return limits


def machine(device: str) -> str:
    """Return the name of the device and the version of PyTorch."""
    if device == "cpu":
        return f"CPU {platform.processor() or platform.machine()}, torch {torch.__version__}"
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
