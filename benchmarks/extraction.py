"""What extracting from long recordings costs in time, memory and quality.

Recordings are made of a run's test mixtures, one after the other, such as those of ``make demo``::

    python benchmarks/extraction.py runs/demo

Printed are

1. how far extraction in windows is from extraction of the whole recording at once (60 s), and what refining the query
   for each window or once for the file is worth there: mean SNRi of queries for three random classes;
2. the same for other overlaps and lengths of windows, refined for each window;
3. how often a class that is not in a recording is kept, by the recording's length;
4. how much softer recordings may be: how far the extraction, scaled back, is from that at the usual level;
5. processor time for a second of one channel, of this network and of the published one as we reconstruct it;
6. what the command costs on one core, for a short and a long recording: processor time and the largest memory.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time, sleep

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional

from tse_refine.cli.trainer import read_data
from tse_refine.evaluation.metrics import snri_db
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.windowed_network import Keep, WindowedNetwork
from tse_refine.files.tables import aligned
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.refinement import refine

QUERIES = 12
CLASSES_A_QUERY = 3
RATE = 44_100  # of the recordings that the command is timed on


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run whose data are at hand")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 60.0], help="of the recordings to time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = options.run / "checkpoints" / "best.ckpt"
    trained = load_network(checkpoint)
    mixtures, sources = rendered(options.run, len(trained.class_names))
    minute = Minute(trained, mixtures, sources)
    show(windows_and_whole(trained, minute))
    show(other_windows(trained, minute))
    show(kept_in_vain(trained, mixtures, sources))
    show(softer(trained, mixtures))
    show(speeds(trained, mixtures))
    rows = [("recording", "refined", "CPU time (s)", "x real time", "largest memory (MB)")]
    with TemporaryDirectory() as name:
        for minutes in options.minutes:
            path = Path(name) / f"{minutes:g} min.wav"
            write_recording(path, mixtures, trained.sample_rate, minutes)
            for refinement in ("window", "file"):
                seconds, megabytes = cost(checkpoint, path, refinement, trained.class_names[:3])
                speed = f"{60 * minutes / seconds:.1f}"
                rows.append((path.stem, refinement, f"{seconds:.0f}", speed, f"{megabytes:.0f}"))
    print("\n".join(aligned(rows, left=2)))


def rendered(run: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the test mixtures, ``[mixtures, samples]``, and what each class has in them, ``[..., classes, ...]``."""
    data = read_data(["-c", str(run / "config.yaml")])
    data.prepare_data()
    data.setup("test")
    dataset = data.datasets["test"]
    length = dataset.recipes.num_samples
    mixtures = np.zeros((len(dataset), length), np.float32)
    sources = np.zeros((len(dataset), num_classes, length), np.float32)
    for index, mixture in enumerate(mixtures):
        recipe = dataset.recipe((0, index))
        parts = np.empty((len(recipe.events), length), np.float32)
        dataset.renderer.render(recipe, mixture, np.empty_like(mixture), parts)
        for event, part in zip(recipe.events, parts, strict=True):
            sources[index, event.class_index] += part
    return mixtures, sources


class Minute:
    """A minute of mixtures, queries for it, and what they ask for.

    Attributes:
        recording: ``[1, samples]``; it begins within a mixture, so that windows and mixtures do not coincide.
        queries: ``[queries, classes]``.
        targets: ``[queries, samples]``.
    """

    def __init__(self, trained: TrainedNetwork, mixtures: np.ndarray, sources: np.ndarray) -> None:
        count = min(len(mixtures), round(60 * trained.sample_rate / mixtures.shape[-1]))
        first = mixtures.shape[-1] // 3
        self.recording = torch.from_numpy(mixtures[:count].reshape(1, -1)[:, first:])
        rng = np.random.default_rng(0)
        num_classes = sources.shape[1]
        self.queries = torch.zeros(QUERIES, num_classes)
        for query in self.queries:
            query[rng.choice(num_classes, CLASSES_A_QUERY, replace=False)] = 1.0
        by_class = torch.from_numpy(sources[:count]).transpose(0, 1).reshape(num_classes, -1)[:, first:]
        self.targets = self.queries @ by_class

    def extract(self, network: WindowedNetwork, keep: Keep) -> torch.Tensor:
        """Return the estimates, ``[queries, samples]``."""
        blocks = self.recording.split(8000, dim=-1)
        return torch.cat(list(network.extract(blocks, self.queries, keep)), dim=-1)[:, 0]

    def improvement(self, estimates: torch.Tensor) -> float:
        """Return the mean SNRi, dB."""
        return snri_db(estimates, self.targets, self.recording.expand_as(self.targets)).mean().item()


def show(rows: list[tuple[str, ...]]) -> None:
    """Print a table."""
    print("\n".join(aligned(rows)), end="\n\n", flush=True)


def agreement_db(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the signal-to-noise ratio of one of two extractions with respect to the other, dB."""
    return 10.0 * torch.log10(reference.square().sum(-1) / (reference - other).square().sum(-1))


@torch.no_grad()
def windows_and_whole(trained: TrainedNetwork, minute: Minute) -> list[tuple[str, ...]]:
    """Return a table: the two ways, and ways to refine."""
    features = trained.network.features(minute.recording)
    whole = torch.cat([trained.network.extract(features, query[None]) for query in minute.queries])
    network = WindowedNetwork(trained)
    threshold = trained.recommended_threshold or 0.1
    everything = torch.ones(1, len(trained.class_names))
    probability = torch.cat(list(network.probabilities([minute.recording])))
    decided = refine(everything, probability.amax(0, keepdim=True), threshold)
    ways: dict[str, Keep] = {
        "windows, not refined": lambda probability: everything,
        "windows, refined for the file": lambda probability: decided,
        "windows, refined for each window": lambda probability: refine(everything, probability, threshold),
    }
    rows = [("60 s", "SNRi (dB)", "SNR to the whole (dB)", "lowest")]
    rows.append(("whole, not refined", f"{minute.improvement(whole):.2f}", "", ""))
    for name, keep in ways.items():
        estimates = minute.extract(network, keep)
        agreement = agreement_db(whole, estimates)
        rows.append((name, f"{minute.improvement(estimates):.2f}", f"{agreement.mean():.1f}", f"{agreement.min():.1f}"))
    return rows


def other_windows(trained: TrainedNetwork, minute: Minute) -> list[tuple[str, ...]]:
    """Return a table: SNRi by length of windows and overlap."""
    threshold = trained.recommended_threshold or 0.1
    everything = torch.ones(1, len(trained.class_names))
    overlaps = (0.0, 0.25, 0.5, 0.75)
    rows = [("SNRi (dB) by length and overlap", *(f"{overlap:g}" for overlap in overlaps))]
    for factor in (1.0, 1.5, 3.0):
        longer = replace(trained, duration_seconds=factor * trained.duration_seconds)
        found = [
            minute.improvement(
                minute.extract(WindowedNetwork(longer, overlap), lambda p: refine(everything, p, threshold))
            )
            for overlap in overlaps
        ]
        rows.append((f"{longer.duration_seconds:g} s", *(f"{improvement:.2f}" for improvement in found)))
    return rows


@torch.no_grad()
def kept_in_vain(trained: TrainedNetwork, mixtures: np.ndarray, sources: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: the share of recordings without a class that keep it, by their length, and of its windows."""
    network = WindowedNetwork(trained)
    threshold = trained.recommended_threshold or 0.1
    kept = []  # by class, [windows]
    for number in range(sources.shape[1]):
        without = mixtures[~sources[:, number].any(axis=-1)].reshape(1, -1)
        probability = torch.cat(list(network.probabilities([torch.from_numpy(without)])))
        kept.append(probability[:, number] >= threshold)
    hop_seconds = network.hop / trained.sample_rate
    rows = [("length (s)", "recordings that keep an absent class", "its windows that do")]
    for windows in (1, 4, 16, 64):
        files = torch.cat([one.unfold(0, windows, windows).any(dim=1) for one in kept])
        share = torch.cat([one.unfold(0, windows, windows).float().mean(dim=1) for one in kept])
        seconds = (windows - 1) * hop_seconds + network.length / trained.sample_rate
        rows.append((f"{seconds:g}", f"{100 * files.float().mean():.0f} %", f"{100 * share.mean():.0f} %"))
    return rows


def softer(trained: TrainedNetwork, mixtures: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: how far the extraction of a softer recording, scaled back, is from that of the recording."""
    extractor = Extractor(trained)
    query = trained.class_names[: len(trained.class_names) // 2]
    level = 10.0 * np.log10(np.square(mixtures[:16]).mean())
    rows = [(f"gain (dB), of mixtures of {level:.0f} dBFS", "SNR to the extraction without (dB)", "lowest")]
    usual = [extractor.extract(mixture, trained.sample_rate, query, 0.0).waveform for mixture in mixtures[:16]]
    for gain_db in (-20, -40, -60):
        gain = np.float32(10.0 ** (gain_db / 20.0))
        found = [extractor.extract(gain * one, trained.sample_rate, query, 0.0).waveform for one in mixtures[:16]]
        agreement = agreement_db(torch.from_numpy(np.stack(usual)), torch.from_numpy(np.stack(found)) / gain)
        rows.append((f"{gain_db}", f"{agreement.mean():.0f}", f"{agreement.min():.0f}"))
    return rows


def speeds(trained: TrainedNetwork, mixtures: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: processor time for a second of one channel."""
    published = Network(41, 16_000, NetworkConfig(classifier=ClassifierConfig())).eval()
    names = tuple(str(number) for number in range(41))
    rows = [("network", "processor time for a second of one channel (ms)")]
    for name, one in (
        ("this one", trained),
        ("model/paper", TrainedNetwork(published, names, 16_000, 0.1)),
    ):
        sound = np.resize(mixtures.reshape(-1), 24 * one.sample_rate)
        before = process_time()
        Extractor(one).extract(sound, one.sample_rate, one.class_names[:3], threshold=0.0)
        rows.append((name, f"{1000 * (process_time() - before) / 24:.0f}"))
    return rows


def write_recording(path: Path, mixtures: np.ndarray, sample_rate: int, minutes: float) -> None:
    """Write mixtures one after the other, stereo, 16 bit, one ear a millisecond after the other."""
    wanted = round(60 * minutes * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while wanted:
            for mixture in mixtures:
                sound = audio_functional.resample(torch.from_numpy(mixture), sample_rate, RATE).numpy()[:wanted]
                file.write(np.stack([sound, np.roll(sound, RATE // 1000)], axis=1))
                wanted -= len(sound)


def cost(checkpoint: Path, recording: Path, refinement: str, query: tuple[str, ...]) -> tuple[float, float]:
    """Return the processor time (s) and the largest memory (MB) of the command on one core."""
    words = ["--checkpoint", checkpoint, "--input", recording, "--output", recording.with_suffix(".out.wav")]
    words += ["--refine", refinement, "--residual", "--overwrite", "--device", "cpu", "--query", *query]
    program = [sys.executable, "-m", "tse_refine", "extract", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
    ended, largest = 0, 0
    while not ended:  # ru_maxrss would be at least this program's own memory, which the other begins as a copy of
        status_text = Path(f"/proc/{started.pid}/status").read_text()
        largest = max([largest, *(int(size) for size in re.findall(r"VmHWM:\s+(\d+) kB", status_text))])
        sleep(0.1)
        ended, status, usage = os.wait4(started.pid, os.WNOHANG)
    if status:
        raise SystemExit(f"{' '.join(program)} failed")
    return usage.ru_utime + usage.ru_stime, largest / 1000


if __name__ == "__main__":
    main()
