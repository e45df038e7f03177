"""Time, memory and quality of extracting from long recordings.

Recordings are concatenations of a run's test mixtures, such as those of ``make demo``::

    python benchmarks/extraction.py runs/demo

Printed are

1. the agreement of extraction in windows with extraction of the whole recording at once (60 s), and the mean SNRi of
   queries for three random classes when the query is refined per window or once for the file;
2. the same for other overlaps and lengths of windows, refined per window;
3. how often a class that is not in a recording is kept, by the recording's length;
4. the agreement of the estimates of softer recordings, scaled back, with those at the usual level;
5. processor time per second of one channel, of this network and of the published one in our reconstruction;
6. processor time and peak memory of the command on one core, for a short and a long recording.
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
from tse_refine.evaluation.metrics import SNRI
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.windows import RefineQueries, WindowedNetwork
from tse_refine.files.tables import Table
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.refinement import KEPT_WEIGHT, Refinement

QUERIES = 12
CLASSES_PER_QUERY = 3
RATE = 44_100  # Hz, of the recordings on which the command is timed


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run whose data are on disk")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 60.0], help="lengths of the timed recordings")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = options.run / "checkpoints" / "best.ckpt"
    trained = load_network(checkpoint)
    mixtures, sources = rendered(options.run, len(trained.class_names))
    minute = Minute(trained, mixtures, sources)
    show(windows_and_whole(trained, minute))
    show(other_windows(trained, minute))
    show(false_alarms(trained, mixtures, sources))
    show(softer(trained, mixtures))
    show(speeds(trained, mixtures))
    rows = [("recording", "refined per", "CPU time (s)", "x real time", "peak memory (MB)")]
    with TemporaryDirectory() as name:
        for minutes in options.minutes:
            path = Path(name) / f"{minutes:g} min.wav"
            write_recording(path, mixtures, trained.sample_rate, minutes)
            for scope in ("window", "file"):
                seconds, megabytes = cost(checkpoint, path, scope, trained.class_names[:3])
                speed = f"{60 * minutes / seconds:.1f}"
                rows.append((path.stem, scope, f"{seconds:.0f}", speed, f"{megabytes:.0f}"))
    print(Table(rows[0], rows[1:], num_left=2).text())


def rendered(run: Path, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the test mixtures, ``[mixtures, samples]``, and their sources, ``[mixtures, classes, samples]``."""
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
    """A minute of mixtures, and queries with their targets.

    Attributes:
        recording: ``[1, samples]``; it starts within a mixture, so that windows and mixtures do not coincide.
        queries: multi-hot, ``[queries, classes]``.
        targets: sums of the queried sources, ``[queries, samples]``.
    """

    def __init__(self, trained: TrainedNetwork, mixtures: np.ndarray, sources: np.ndarray) -> None:
        count = min(len(mixtures), round(60 * trained.sample_rate / mixtures.shape[-1]))
        first = mixtures.shape[-1] // 3
        self.recording = torch.from_numpy(mixtures[:count].reshape(1, -1)[:, first:])
        rng = np.random.default_rng(0)
        num_classes = sources.shape[1]
        self.queries = torch.zeros(QUERIES, num_classes)
        for query in self.queries:
            query[rng.choice(num_classes, CLASSES_PER_QUERY, replace=False)] = 1.0
        by_class = torch.from_numpy(sources[:count]).transpose(0, 1).reshape(num_classes, -1)[:, first:]
        self.targets = self.queries @ by_class

    def extract(self, network: WindowedNetwork, refine_queries: RefineQueries) -> torch.Tensor:
        """Return the estimates, ``[queries, samples]``."""
        blocks = self.recording.split(8000, dim=-1)
        return torch.cat(list(network.extract(blocks, refine_queries)), dim=-1)[:, 0]

    def refined(self, refinement: Refinement) -> RefineQueries:
        """Return the function that refines the queries per window."""
        return lambda probability: refinement(self.queries[None], probability[:, None])

    def improvement(self, estimates: torch.Tensor) -> float:
        """Return the mean SNRi, dB."""
        return SNRI.of_signals(estimates, self.targets, self.recording.expand_as(self.targets)).mean().item()


def show(rows: list[tuple[str, ...]]) -> None:
    """Print a table."""
    print(Table(rows[0], rows[1:]).text(), end="\n\n", flush=True)


def agreement_db(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the SNR of an estimate with respect to a reference, dB."""
    return 10.0 * torch.log10(reference.square().sum(-1) / (reference - other).square().sum(-1))


@torch.no_grad()
def windows_and_whole(trained: TrainedNetwork, minute: Minute) -> list[tuple[str, ...]]:
    """Return a table: the recording in windows or as a whole, refined or not."""
    features = trained.network.features(minute.recording)
    whole = torch.cat([trained.network.extract(features, query[None]) for query in minute.queries])
    network = WindowedNetwork(trained)
    refine_windows = minute.refined(Extractor(trained).recommended_refinement)
    probability = torch.cat(list(network.probabilities([minute.recording])))
    refined_for_file = refine_windows(probability.amax(0, keepdim=True))
    ways: dict[str, RefineQueries] = {
        "windows, not refined": lambda probability: minute.queries[None],
        "windows, refined for the file": lambda probability: refined_for_file,
        "windows, refined per window": refine_windows,
    }
    rows = [("60 s", "SNRi (dB)", "SNR with respect to the whole (dB)", "lowest")]
    rows.append(("whole, not refined", f"{minute.improvement(whole):.2f}", "", ""))
    for name, refine_queries in ways.items():
        estimates = minute.extract(network, refine_queries)
        agreement = agreement_db(whole, estimates)
        rows.append((name, f"{minute.improvement(estimates):.2f}", f"{agreement.mean():.1f}", f"{agreement.min():.1f}"))
    return rows


def other_windows(trained: TrainedNetwork, minute: Minute) -> list[tuple[str, ...]]:
    """Return a table: SNRi by length and overlap of the windows."""
    refine_windows = minute.refined(Extractor(trained).recommended_refinement)
    overlaps = (0.0, 0.25, 0.5, 0.75)
    rows = [("SNRi (dB) by length and overlap", *(f"{overlap:g}" for overlap in overlaps))]
    for factor in (1.0, 1.5, 3.0):
        longer = replace(trained, duration_seconds=factor * trained.duration_seconds)
        improvements = [
            minute.improvement(minute.extract(WindowedNetwork(longer, overlap), refine_windows)) for overlap in overlaps
        ]
        rows.append((f"{longer.duration_seconds:g} s", *(f"{improvement:.2f}" for improvement in improvements)))
    return rows


@torch.no_grad()
def false_alarms(trained: TrainedNetwork, mixtures: np.ndarray, sources: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: the share of recordings that keep an absent class, by their length, and of their windows."""
    network = WindowedNetwork(trained)
    refinement = Extractor(trained).recommended_refinement
    kept = []  # by class, [windows]
    for number in range(sources.shape[1]):
        without = mixtures[~sources[:, number].any(axis=-1)].reshape(1, -1)
        probability = torch.cat(list(network.probabilities([torch.from_numpy(without)])))
        kept.append(refinement(torch.ones_like(probability), probability)[:, number] >= KEPT_WEIGHT)
    hop_seconds = network.hop / trained.sample_rate
    rows = [("length (s)", "recordings that keep an absent class", "windows that keep it")]
    for windows in (1, 4, 16, 64):
        files = torch.cat([windowed.unfold(0, windows, windows).any(dim=1) for windowed in kept])
        share = torch.cat([windowed.unfold(0, windows, windows).float().mean(dim=1) for windowed in kept])
        seconds = (windows - 1) * hop_seconds + network.length / trained.sample_rate
        rows.append((f"{seconds:g}", f"{100 * files.float().mean():.0f} %", f"{100 * share.mean():.0f} %"))
    return rows


def softer(trained: TrainedNetwork, mixtures: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: agreement of the estimates of softer recordings, scaled back, with those of the recordings."""
    extractor = Extractor(trained)
    query = trained.class_names[: len(trained.class_names) // 2]
    level = 10.0 * np.log10(np.square(mixtures[:16]).mean())
    rows = [(f"gain (dB), of mixtures of {level:.0f} dBFS", "SNR with respect to no gain (dB)", "lowest")]

    def extract(gain: np.float32) -> torch.Tensor:
        extractions = [extractor.extract(gain * mixture, trained.sample_rate, query, 0.0) for mixture in mixtures[:16]]
        return torch.from_numpy(np.stack([extraction.waveform for extraction in extractions]))

    usual = extract(np.float32(1.0))
    for gain_db in (-20, -40, -60):
        gain = np.float32(10.0 ** (gain_db / 20.0))
        agreement = agreement_db(usual, extract(gain) / gain)
        rows.append((f"{gain_db}", f"{agreement.mean():.0f}", f"{agreement.min():.0f}"))
    return rows


def speeds(trained: TrainedNetwork, mixtures: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: processor time per second of one channel."""
    published = Network(41, 16_000, NetworkConfig(classifier=ClassifierConfig())).eval()
    names = tuple(str(number) for number in range(41))
    rows = [("network", "processor time per second of one channel (ms)")]
    for name, network in (("this one", trained), ("model/paper", TrainedNetwork(published, names, 16_000, 0.1))):
        sound = np.resize(mixtures.reshape(-1), 24 * network.sample_rate)
        before = process_time()
        Extractor(network).extract(sound, network.sample_rate, network.class_names[:3], threshold=0.0)
        rows.append((name, f"{1000 * (process_time() - before) / 24:.0f}"))
    return rows


def write_recording(path: Path, mixtures: np.ndarray, sample_rate: int, minutes: float) -> None:
    """Write concatenated mixtures in stereo, 16 bit, with the right channel a millisecond late."""
    remaining = round(60 * minutes * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while remaining:
            for mixture in mixtures:
                sound = audio_functional.resample(torch.from_numpy(mixture), sample_rate, RATE).numpy()[:remaining]
                file.write(np.stack([sound, np.roll(sound, RATE // 1000)], axis=1))
                remaining -= len(sound)


def cost(checkpoint: Path, recording: Path, scope: str, query: tuple[str, ...]) -> tuple[float, float]:
    """Return the processor time (s) and the peak memory (MB) of the command on one core."""
    words = ["--checkpoint", checkpoint, "--input", recording, "--output", recording.with_suffix(".out.wav")]
    words += ["--refine", scope, "--residual", "--overwrite", "--device", "cpu", "--query", *query]
    program = [sys.executable, "-m", "tse_refine", "extract", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    started = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
    ended, largest = 0, 0
    while not ended:  # ru_maxrss is at least the memory of this program, of which the command starts as a copy
        status_text = Path(f"/proc/{started.pid}/status").read_text()
        largest = max([largest, *(int(size) for size in re.findall(r"VmHWM:\s+(\d+) kB", status_text))])
        sleep(0.1)
        ended, status, usage = os.wait4(started.pid, os.WNOHANG)
    if status:
        raise SystemExit(f"{' '.join(program)} failed")
    return usage.ru_utime + usage.ru_stime, largest / 1000


if __name__ == "__main__":
    main()
