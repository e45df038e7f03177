"""Training steps and inference of the network beside Conv-TasNets of the same sizes, in one run.

::

    python benchmarks/training_step.py                                  # two CPU cores
    python benchmarks/training_step.py --device cuda --model paper paper_wide --batch 8 --compile

Peers are torchaudio's network and, where they are installed, asteroid's and speechbrain's (``measuring.py`` says how).
The ratio is against torchaudio in float32. GFLOP/s count two operations per multiply-accumulate in convolutions, linear
layers and GRU (three times that in training); the share is of the machine's product of large matrices in the same
precision. On a GPU, convolutions in float32 use the TF32 mode, as is PyTorch's default.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from statistics import median
from typing import Any

import torch
from measuring import (
    RATE,
    gmac_per_second,
    larger_limits,
    limits_text,
    machine,
    machine_limits,
    network,
    network_config,
    parser,
    peers,
    report,
    take_turns,
)
from torch import Tensor, nn

from tse_refine.files.tables import Table
from tse_refine.model.network import Network

HEAD = ("model", "work", "network", "precision", "ms", "times torchaudio", "GFLOP/s", "of limit")


def main() -> None:
    """Measure and print a table."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--device", default="cpu")
    options_parser.add_argument("--model", nargs="+", default=["paper", "small"], help="names of configs/model")
    options_parser.add_argument("--batch", type=int, default=1)
    options_parser.add_argument("--seconds", type=float, default=6.0, help="length of a mixture")
    options_parser.add_argument("--compile", action="store_true", help="measure the compiled network, too")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    limits = machine_limits(options.device)
    figures = [row for model in options.model for row in measure_model(model, options)]
    limits = larger_limits(limits, machine_limits(options.device))
    rows = [
        (
            row["model"], row["work"], row["network"], row["precision"], f"{row['ms']:.1f}",
            f"{row['times_torchaudio']:.2f}", f"{row['gflop_per_second']:.0f}",
            f"{row['gflop_per_second'] / limits[row['precision']]:.0%}",
        )
        for row in figures
    ]  # fmt: skip
    note = (
        f"{machine(options.device)}; {options.threads} threads, batches of {options.batch} x {options.seconds:g} s, "
        f"medians of {options.repeats}. {limits_text(limits)}"
    )
    report(Table(HEAD, rows, note, num_left=4), options, limits=limits, rows=figures)


def measure_model(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each kind of work, network and precision."""
    mixture = 0.1 * torch.randn(options.batch, round(options.seconds * RATE), device=options.device)
    modules = peers(network_config(name)) | {
        "tse_refine": network(name),
        "without classifier": network(name, classifier=False),
    }
    per_audio_second = {label: 2.0 * gmac_per_second(module, name) for label, module in modules.items()}
    if options.compile:
        modules["compiled"] = compiled = network(name)
        compiled.compile_stacks()
        per_audio_second["compiled"] = per_audio_second["tse_refine"]
    for module in modules.values():
        module.to(options.device)
    rows = []
    for work, factor in (("training step", 3.0), ("inference", 1.0)):
        runs = {
            (label, precision): step(modules[label], mixture, precision, work == "inference")
            for label, precision in product(modules, ("float32", "bfloat16"))
        }
        seconds = {key: median(each) for key, each in take_turns(runs, options.repeats, options.device).items()}
        for (label, precision), taken in seconds.items():
            gflop = factor * options.batch * options.seconds * per_audio_second[label]
            rows.append(
                {
                    "model": name, "work": work, "network": label, "precision": precision, "ms": 1e3 * taken,
                    "times_torchaudio": seconds["torchaudio", "float32"] / taken,
                    "gflop_per_second": gflop / taken,
                }
            )  # fmt: skip
    return rows


def step(module: nn.Module, mixture: Tensor, precision: str, inference: bool) -> Callable[[], None]:
    """Return a function that runs a network once, or also its backward pass."""

    def once() -> None:
        lower = torch.autocast(mixture.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
        with torch.inference_mode() if inference else nullcontext():
            with lower:
                results = outputs(module, mixture)
            if not inference:
                torch.stack([result.float().square().mean() for result in results]).sum().backward()
                module.zero_grad()

    return once


def outputs(module: nn.Module, mixture: Tensor) -> list[Tensor]:
    """Return the estimate, and the classifier's logits where there is one."""
    if not isinstance(module, Network):
        return [module(mixture)]
    query = torch.eye(module.num_classes, device=mixture.device)[:1].expand(len(mixture), -1)
    estimate, features = module(mixture, query)
    return [estimate] if features.frame_logits is None else [estimate, features.frame_logits]


if __name__ == "__main__":
    main()
