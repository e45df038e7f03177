"""Scaper for comparison: draws and renders the same kind of mixtures, or renders recipes, and measures the time.

Scaper 1.6.5 needs Python 3.11 or older and the program ``sox`` (Debian: ``apt-get install sox``), so this script
imports nothing of the package and runs in an environment of its own::

    python3.10 -m venv scaper-env
    scaper-env/bin/pip install "numpy==1.26.*" "scipy==1.15.*" jams==0.3.5 pyloudnorm==0.2.0 soundfile sox==1.4.0
    scaper-env/bin/pip install --no-deps scaper==1.6.5

``--no-deps`` leaves out ``soxbindings``, which cannot be built on every system and on Linux can return wrong excerpts;
without it Scaper starts the ``sox`` program for every excerpt. Then::

    scaper-env/bin/python benchmarks/scaper_peer.py draw FOREGROUNDS BACKGROUNDS OUTPUT --count 100 --seed 0
    scaper-env/bin/python benchmarks/scaper_peer.py render OUTPUT/jams RENDERED

Each prints one line of JSON: number of mixtures, seconds that Scaper took for them, mixtures per second. Libraries use
one thread, but ``sox`` is a second process: use ``taskset -c 0`` for the rate of one core.
"""

from __future__ import annotations

import os

for _library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR"):  # read when numpy is imported
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import argparse  # noqa: E402
import csv  # noqa: E402
import json  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402
from time import perf_counter  # noqa: E402

import numpy as np  # noqa: E402
import scaper  # noqa: E402
import soundfile  # noqa: E402
from scaper.scaper_warnings import ScaperWarning  # noqa: E402

DURATION_SECONDS = 6.0
BACKGROUND_DB = -50.0
NUM_EVENTS = (3, 4, 5)
EVENT_SECONDS = (3.0, 5.0)
SNR_DB = (15.0, 25.0)


def draw(foregrounds: Path, backgrounds: Path, output: Path, count: int, seed: int, sample_rate: int) -> float:
    """Draw and render mixtures in memory and write their recipes, not their sound.

    Writes ``OUTPUT/jams/test/<8 digits>/mixture.jams`` and, beside it, ``gt_events.csv`` (tab-separated: onset and
    offset in seconds, label).

    Args:
        foregrounds: folder with ``<label>/*.wav``.
        backgrounds: the same.
        output: folder for the recipes.
        count: number of mixtures.
        seed: seed of all draws.
        sample_rate: sample rate of the mixtures, Hz.

    Returns:
        Seconds that Scaper took.
    """
    rng = np.random.RandomState(seed)
    scene = scaper.Scaper(DURATION_SECONDS, str(foregrounds.resolve()), str(backgrounds.resolve()), random_state=rng)
    scene.sr = sample_rate
    scene.ref_db = BACKGROUND_DB
    scene.add_background(label=("choose", []), source_file=("choose", []), source_time=("uniform", 0, 3600))
    seconds = 0.0
    for index in range(count):
        start = perf_counter()
        scene.reset_fg_event_spec()
        for _ in range(rng.choice(NUM_EVENTS)):
            event_seconds = rng.uniform(*EVENT_SECONDS)
            scene.add_event(
                label=("choose", []),
                source_file=("choose", []),
                source_time=("uniform", 0, 3600),  # Scaper limits it to the clip's length
                event_time=("uniform", 0, DURATION_SECONDS - event_seconds),
                event_duration=("const", event_seconds),
                snr=("uniform", *SNR_DB),
                pitch_shift=None,
                time_stretch=None,
            )
        _, recipe, events, _ = scene.generate(
            allow_repeated_label=False, fix_clipping=True, disable_instantiation_warnings=True
        )
        seconds += perf_counter() - start
        folder = output / "jams" / "test" / f"{index:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        recipe.save(str(folder / "mixture.jams"))
        with open(folder / "gt_events.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t").writerows([("onset", "offset", "label"), *events])
    return seconds


def render(recipes: list[Path], recipe_folder: Path, output: Path) -> float:
    """Render recipes and write ``mixture.wav`` (32-bit float) and ``events.npz`` for each.

    ``events.npz`` holds ``events``, ``[1 + events, samples]``, float32: the background, then the events in the
    recipe's order. They add up to the mixture.

    Args:
        recipes: files ``mixture.jams``.
        recipe_folder: folder above them all.
        output: folder for the results, with the same subfolders.

    Returns:
        Seconds that Scaper took.
    """
    seconds = 0.0
    for path in recipes:
        start = perf_counter()
        mixture, recipe, _, events = scaper.generate_from_jams(str(path))
        seconds += perf_counter() - start
        folder = output / path.parent.relative_to(recipe_folder)
        folder.mkdir(parents=True, exist_ok=True)
        sample_rate = recipe.search(namespace="scaper")[0].sandbox.scaper.sr
        soundfile.write(folder / "mixture.wav", mixture, sample_rate, subtype="FLOAT")  # Scaper itself writes PCM_32
        np.savez(folder / "events.npz", events=np.stack(events)[..., 0].astype(np.float32))
    return seconds


def main() -> None:
    """Read the command line, draw or render, and print the rate."""
    parser = argparse.ArgumentParser(description="Draw or render mixtures with Scaper and measure the time.")
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="draw and render mixtures in memory, write their recipes")
    drawing.add_argument("foregrounds", type=Path, help="folder with <label>/*.wav")
    drawing.add_argument("backgrounds", type=Path, help="folder with <label>/*.wav")
    drawing.add_argument("output", type=Path)
    drawing.add_argument("--count", type=int, default=100)
    drawing.add_argument("--seed", type=int, default=0)
    drawing.add_argument("--sample_rate", type=int, default=16_000)
    rendering = commands.add_parser("render", help="render recipes, write mixtures and events")
    rendering.add_argument("jams_folder", type=Path, help="folder above files named mixture.jams")
    rendering.add_argument("output", type=Path)
    arguments = parser.parse_args()

    warnings.simplefilter("ignore", ScaperWarning)  # of clipping, which Scaper then corrects as configured
    if arguments.command == "draw":
        mixtures = arguments.count
        seconds = draw(
            arguments.foregrounds,
            arguments.backgrounds,
            arguments.output,
            arguments.count,
            arguments.seed,
            arguments.sample_rate,
        )
    else:
        recipes = sorted(arguments.jams_folder.rglob("mixture.jams"))
        if not recipes:
            parser.error(f"{arguments.jams_folder} holds no mixture.jams.")
        mixtures = len(recipes)
        seconds = render(recipes, arguments.jams_folder, arguments.output)
    print(json.dumps({"mixtures": mixtures, "seconds": round(seconds, 3), "per_second": round(mixtures / seconds, 3)}))


if __name__ == "__main__":
    main()
