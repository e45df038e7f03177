"""Agreement of our rendering of Scaper's recipes with Scaper's own.

Scaper draws mixtures and renders them; the package imports the JAMS files and renders them from its clip bank. In the
other direction the package draws mixtures and writes them as JAMS files, which Scaper renders. At 44.1 kHz, the rate at
which scenes are drawn and foregrounds recorded, only backgrounds (48 kHz) are resampled; at 16 kHz everything is, by
two different resamplers, and an excerpt that starts on the 44.1 kHz grid is shifted by up to half a sample (31 us) to
ours. ``aligned`` compensates that shift, so that the difference of the resamplers remains::

    python benchmarks/scaper_agreement.py --scaper_python scaper-env/bin/python

``benchmarks/scaper_peer.py`` describes that environment. Printed for each rate: the signal-to-noise ratio of our
mixture re Scaper's, over mixtures (median and lowest), the same for single events, also aligned, and for backgrounds,
and the largest difference of an event's level; all in dB.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from measuring import parser, report
from scaper_clips import write_clips

from tse_refine.data.corpora import LabelFolders
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.files.tables import Table

PEER = Path(__file__).with_name("scaper_peer.py")


def main() -> None:
    """Draw, render twice, compare."""
    options_parser = parser(__doc__, repeats=None)
    options_parser.add_argument("--scaper_python", required=True, help="Python of an environment with scaper 1.6.5")
    options_parser.add_argument("--count", type=int, default=40, help="mixtures per rate")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[tuple[int, str], dict[str, float]] = {}  # by sample rate and who drew the mixtures
    with TemporaryDirectory() as name:
        folder = Path(name)
        foregrounds, backgrounds = write_clips(folder)
        for rate in (44_100, 16_000):
            scenes = folder / str(rate)
            draw = ["draw", foregrounds / "test", backgrounds / "test", scenes, "--count", options.count]
            for command in ([*draw, "--sample_rate", rate], ["render", scenes / "jams", scenes / "rendered"]):
                subprocess.run([options.scaper_python, PEER, *map(str, command)], check=True, capture_output=True)
            options_of_data = {
                "sample_rate": rate,
                "num_test": options.count,
                "predict_indices": [],
                "cache_dir": str(folder / "cache"),
            }
            corpora = (LabelFolders(str(foregrounds)), LabelFolders(str(backgrounds)))
            read = MixtureDataModule(*corpora, recipes=str(scenes), **options_of_data)
            found[rate, "Scaper"] = compare(read, scenes / "rendered")
            drawn = MixtureDataModule(*corpora, **options_of_data)
            ours = folder / f"ours{rate}"
            drawn.export_scenes("test", ours)
            subprocess.run([options.scaper_python, PEER, "render", ours / "jams", ours / "rendered"], check=True)
            found[rate, "us"] = compare(drawn, ours / "rendered")
    report(
        [
            Table((f"{rate} Hz, drawn by {drawer}", "dB"), [(name, f"{each:g}") for name, each in agreement.items()])
            for (rate, drawer), agreement in found.items()
        ],
        options,
    )


def compare(data: MixtureDataModule, rendered: Path) -> dict[str, float]:
    """Return the agreement of our rendering of the test recipes with Scaper's, in dB."""
    dataset = data.open_split("test")
    snr: dict[str, list[float]] = {"mixture": [], "event": [], "event, aligned": [], "background": []}
    levels = []
    for index, folder in enumerate(sorted(rendered.glob("test/*"))):
        recipe = dataset.recipe((0, index))
        theirs = np.load(folder / "events.npz")["events"]
        mixture, target = np.empty((2, dataset.recipes.num_samples), np.float32)
        sources = np.empty((len(recipe.events), len(mixture)), np.float32)
        dataset.renderer.render(recipe, mixture, target, sources)
        snr["mixture"].append(snr_db(theirs.sum(axis=0), mixture))
        snr["background"].append(snr_db(theirs[0], mixture - sources.sum(axis=0)))
        # ours are in the order of evaluation, theirs in that of the file: compare the most similar ones
        for source in sources:
            reference = max(theirs[1:], key=lambda event, ours=source: snr_db(event, ours))
            snr["event"].append(snr_db(reference, source))
            shifts = np.linspace(-0.5, 0.5, 41)
            snr["event, aligned"].append(max(snr_db(reference, shifted(source, shift)) for shift in shifts))
            levels.append(abs(10 * np.log10(np.mean(source**2) / np.mean(reference**2))))
    agreement = {
        f"{name}, {label}": round(float(statistic(values)), 1)
        for name, values in snr.items()
        for label, statistic in (("median", np.median), ("lowest", np.min))
    }
    return agreement | {"largest difference of level": round(float(max(levels)), 3)}


def shifted(signal: np.ndarray, samples: float) -> np.ndarray:
    """Return a signal delayed by a fraction of a sample."""
    spectrum = np.fft.rfft(signal)
    return np.fft.irfft(spectrum * np.exp(-2j * np.pi * samples * np.fft.rfftfreq(len(signal))), len(signal))


def snr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return 10 log10 of the reference's energy over that of the difference."""
    return float(10 * np.log10(np.sum(reference**2) / (np.sum((reference - estimate) ** 2) + 1e-30)))


if __name__ == "__main__":
    main()
