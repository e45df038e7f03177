"""Mixtures per second on one core, compared to Scaper on the same clips in the same run.

A mixture is complete: 6 s at 16 kHz of 3 to 5 events and a background, with its sources, labels and queries, in
batches of eight as the loader makes them::

    python benchmarks/mixing.py --scaper_python scaper-env/bin/python

``benchmarks/scaper_peer.py`` describes that environment; without it Scaper's rows are left out. The last rows are
limits of the memory: ``write`` fills as many bytes as a mixture has, ``copy`` also reads its stored samples; both use
the same rotating buffers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import torch
from scaper_clips import write_clips

from tse_refine.data.corpora import LabelFolders
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.dataset import MixtureDataset
from tse_refine.files.tables import Table

PEER = Path(__file__).with_name("scaper_peer.py")
BATCH = 8


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scaper_python", help="Python of an environment with scaper 1.6.5")
    parser.add_argument("--scaper_count", type=int, default=60, help="number of mixtures for Scaper")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each of our measurements")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        foregrounds, backgrounds = write_clips(folder, instances=20)
        data = MixtureDataModule(
            LabelFolders(str(foregrounds)), LabelFolders(str(backgrounds)), cache_dir=str(folder / "cache")
        )
        data.prepare_data()
        data.setup("fit")
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        torch.set_num_threads(1)
        rates = our_rates(data.datasets["train"], data.datasets["val"], options.seconds)
        if options.scaper_python:
            rates |= scaper_rates(options.scaper_python, options.scaper_count, foregrounds, backgrounds, folder)
    complete = rates["complete mixtures"]
    head = ("", "per second", "complete mixtures are")
    rows = [(name, f"{rate:,.0f}", f"{complete / rate:.2f} times as fast") for name, rate in rates.items()]
    print(Table(head, rows).text())


def our_rates(train: MixtureDataset, evaluation: MixtureDataset, seconds: float) -> dict[str, float]:
    """Return our rates, each the best of three, in mixtures per second."""

    def keys(number: int) -> list[tuple[int, int]]:
        return [(0, (number * BATCH + row) % len(evaluation)) for row in range(BATCH)]

    recipes = [evaluation.recipe((0, index)) for index in range(64)]
    banks = (evaluation.renderer.background_bank, evaluation.renderer.foreground_bank)
    samples = evaluation.recipes.num_samples
    out = np.empty((BATCH, 2 + evaluation.recipes.max_events, samples), np.float32)
    stored = np.empty(samples, np.int16)

    def write(number: int) -> None:
        for row in range(BATCH):
            out[row] = 0.0

    def copy(number: int) -> None:
        for row in range(BATCH):
            recipe = recipes[(number * BATCH + row) % len(recipes)]
            for event, bank in ((recipe.background, banks[0]), *((event, banks[1]) for event in recipe.events)):
                excerpt = bank.samples(event.clip)[event.start : event.start + event.length]
                stored[: len(excerpt)] = excerpt
            out[row] = 0.0

    measured: dict[str, Callable[[int], object]] = {
        "complete mixtures": lambda number: evaluation.__getitems__(keys(number)),
        "training mixtures (no sources)": lambda number: train.__getitems__(keys(number)),
        "recipes alone": lambda number: [evaluation.recipe(key) for key in keys(number)],
        "memory: copy": copy,
        "memory: write": write,
    }
    return {name: max(rate(run, seconds / 3) for _ in range(3)) for name, run in measured.items()}


def rate(run: Callable[[int], object], seconds: float) -> float:
    """Return the mixtures per second of a function that makes one batch."""
    run(0)
    number, start = 1, perf_counter()
    while perf_counter() < start + seconds:
        run(number)
        number += 1
    return (number - 1) * BATCH / (perf_counter() - start)


def scaper_rates(python: str, count: int, foregrounds: Path, backgrounds: Path, folder: Path) -> dict[str, float]:
    """Return Scaper's rates, with drawing and from the recipes that it has drawn."""
    draw = ["draw", foregrounds / "val", backgrounds / "val", folder / "scenes", "--count", count]
    render = ["render", folder / "scenes" / "jams", folder / "rendered"]
    rates = {}
    for name, words in (("Scaper, drawing", draw), ("Scaper, from JAMS files", render)):
        run = subprocess.run([python, PEER, *map(str, words)], check=True, capture_output=True, text=True)
        rates[name] = json.loads(run.stdout.splitlines()[-1])["per_second"]
    return rates


if __name__ == "__main__":
    main()
