"""Mixtures per second on one core, beside plain mixing from files and, where it is installed, Scaper.

A mixture is complete: 6 s at 16 kHz of 3 to 5 events and a background, with its sources, labels and queries, in
batches of eight as the loader makes them::

    python benchmarks/mixing.py
    python benchmarks/mixing.py --scaper_python scaper-env/bin/python

``from files`` makes the mixtures of the same recipes in the plain way: the recording of each event is decoded and
resampled whenever it is needed; levels, queries and labels are left out. ``benchmarks/scaper_peer.py`` describes the
environment of Scaper, which mixes the same clips. The last rows are limits of the memory: ``write`` fills as many bytes
as a mixture has, ``copy`` also reads its stored samples; both use the same rotating buffers.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional
from measuring import Seconds, machine, medians, parser, report
from scaper_clips import write_clips

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora import LabelFolders
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.dataset import MixtureDataset
from tse_refine.data.recipes import Event
from tse_refine.files.tables import Table

PEER = Path(__file__).with_name("scaper_peer.py")
BATCH = 8
COMPLETE = "complete mixtures"


def main() -> None:
    """Measure and print the table."""
    options_parser = parser(__doc__, threads=1)
    options_parser.add_argument("--scaper_python", help="Python of an environment with scaper 1.6.5")
    options_parser.add_argument("--scaper_count", type=int, default=12, help="mixtures per round, for Scaper")
    options_parser.add_argument("--batches", type=int, default=64, help="per round; an eighth of them from files")
    options_parser.add_argument("--instances", type=int, default=20, help="clips per class and split")
    options = options_parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        foregrounds, backgrounds = write_clips(folder, options.instances)
        data = MixtureDataModule(
            LabelFolders(str(foregrounds)), LabelFolders(str(backgrounds)), cache_dir=str(folder / "cache")
        )
        data.prepare_data()
        data.setup("fit")
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: options.threads])
        torch.set_num_threads(options.threads)
        runs = our_runs(data.datasets["train"], data.datasets["val"], (backgrounds, foregrounds), options.batches)
        if options.scaper_python:
            runs |= scaper_runs(options.scaper_python, options.scaper_count, foregrounds, backgrounds, folder)
        seconds = medians({name: run for name, (_, run) in runs.items()}, options.repeats, warm_up=1)
        os.sched_setaffinity(0, cores)
    rates = {name: mixtures / seconds[name] for name, (mixtures, _) in runs.items()}
    head = ("", "per second", "complete mixtures are")
    rows = [(name, f"{rate:,.0f}", f"{rates[COMPLETE] / rate:.2f} times as fast") for name, rate in rates.items()]
    note = f"{machine()}; {options.threads} thread(s) on as many cores, medians of {options.repeats}."
    report(Table(head, rows, note), options, per_second=rates)


Runs = dict[str, tuple[int, Callable[[], object]]]  # by name: mixtures per call, and the function


def our_runs(train: MixtureDataset, evaluation: MixtureDataset, folders: tuple[Path, Path], batches: int) -> Runs:
    """Return what is measured of the package, of plain mixing and of the memory.

    Args:
        train: mixtures without sources.
        evaluation: complete mixtures.
        folders: recordings of the backgrounds and of the foregrounds.
        batches: batches per call.
    """
    recipes = [evaluation.recipe((0, index)) for index in range(min(64, len(evaluation)))]
    banks = (evaluation.renderer.background_bank, evaluation.renderer.foreground_bank)
    samples = evaluation.recipes.num_samples
    out = np.empty((BATCH, 2 + evaluation.recipes.max_events, samples), np.float32)
    stored = np.empty(samples, np.int16)

    def keys(number: int) -> list[tuple[int, int]]:
        return [(0, (number * BATCH + row) % len(evaluation)) for row in range(BATCH)]

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

    def from_files(number: int) -> None:
        for row in range(BATCH):
            recipe = recipes[(number * BATCH + row) % len(recipes)]
            out[row] = 0.0
            out[row, 0] = read_excerpt(folders[0], banks[0], recipe.background)
            for source, event in zip(out[row, 2:], recipe.events, strict=False):
                sound = read_excerpt(folders[1], banks[1], event)
                source[event.onset : event.onset + len(sound)] = sound
            out[row, 0] += out[row, 2:].sum(axis=0)

    def several(run: Callable[[int], object], times: int) -> tuple[int, Callable[[], None]]:
        numbers = count()  # each call goes on where the last one ended

        def once() -> None:
            for _ in range(times):
                run(next(numbers))

        return times * BATCH, once

    return {
        COMPLETE: several(lambda number: evaluation.__getitems__(keys(number)), batches),
        "training mixtures (no sources)": several(lambda number: train.__getitems__(keys(number)), batches),
        "recipes alone": several(lambda number: [evaluation.recipe(key) for key in keys(number)], batches),
        "from files": several(from_files, max(1, batches // 8)),
        "memory: copy": several(copy, batches),
        "memory: write": several(write, batches),
    }


def read_excerpt(folder: Path, bank: ClipBank, event: Event) -> np.ndarray:
    """Decode the part of a recording that an event needs, average its channels and resample it, ``[samples]``."""
    with soundfile.SoundFile(folder / bank.entry(event.clip).name) as file:
        file.seek(event.start * file.samplerate // bank.sample_rate)
        sound = file.read(event.length * file.samplerate // bank.sample_rate, "float32", always_2d=True).mean(axis=1)
        mono = audio_functional.resample(torch.from_numpy(sound), file.samplerate, bank.sample_rate).numpy()
    return np.float32(event.gain) * mono[: event.length]


def scaper_runs(python: str, mixtures: int, foregrounds: Path, backgrounds: Path, folder: Path) -> Runs:
    """Return Scaper's runs, with drawing and from the recipes that it has drawn; it measures its own seconds."""
    draw = ["draw", foregrounds / "val", backgrounds / "val", folder / "scenes", "--count", mixtures]
    render = ["render", folder / "scenes" / "jams", folder / "rendered"]

    def run(words: list[object]) -> Seconds:
        found = subprocess.run([python, PEER, *map(str, words)], check=True, capture_output=True, text=True)
        return Seconds(json.loads(found.stdout.splitlines()[-1])["seconds"])

    return {
        "Scaper, drawing": (mixtures, lambda: run(draw)),
        "Scaper, from JAMS files": (mixtures, lambda: run(render)),
    }


if __name__ == "__main__":
    main()
