"""What extracting from long recordings costs in time, memory and quality.

Recordings are made of a run's test mixtures, one after the other, such as those of ``make demo``::

    python benchmarks/extraction.py runs/demo

Printed are, first, how far extraction in windows is from extraction of the whole recording at once (60 s), and what
refining the query for each window or once for the file is worth there: mean SNRi of queries for three random classes.
Second, how often a class that is not in a recording is kept, by its length. Third, what the command costs on one core:
the time it takes, as the processor's own clock has it, and the largest memory, for a short and a long recording.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional

from tse_refine.checkpoint import TrainedNetwork, load_network
from tse_refine.extraction.windowed_network import WindowedNetwork
from tse_refine.metrics import snri_db
from tse_refine.tables import aligned
from tse_refine.trainer_cli import read_data

QUERIES = 12
CLASSES_A_QUERY = 3
RATE = 44_100  # of the recordings that the command is timed on


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run whose data are at hand")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5.0, 60.0], help="of the recordings to time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = options.run / "checkpoints" / "best.ckpt"
    trained = load_network(checkpoint)
    mixtures, sources = rendered(options.run, len(trained.class_names))
    for rows in (windows_and_whole(trained, mixtures, sources), kept_in_vain(trained, mixtures, sources)):
        print("\n".join(aligned(rows)), flush=True)
        print()
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


@torch.no_grad()
def windows_and_whole(trained: TrainedNetwork, mixtures: np.ndarray, sources: np.ndarray) -> list[tuple[str, ...]]:
    """Return a table: the two ways, and ways to refine, on a minute of mixtures."""
    seconds = mixtures.shape[-1] / trained.sample_rate
    count = min(len(mixtures), round(60 / seconds))
    first = mixtures.shape[-1] // 3  # so that windows and mixtures do not coincide
    recording = torch.from_numpy(mixtures[:count].reshape(1, -1)[:, first:])
    rng = np.random.default_rng(0)
    num_classes = sources.shape[1]
    queries = torch.zeros(QUERIES, num_classes)
    for query in queries:
        query[rng.choice(num_classes, CLASSES_A_QUERY, replace=False)] = 1.0
    by_class = torch.from_numpy(sources[:count]).transpose(0, 1).reshape(num_classes, -1)[:, first:]
    targets = queries @ by_class

    features = trained.network.features(recording)
    whole = torch.cat([trained.network.extract(features, query[None]) for query in queries])
    network = WindowedNetwork(trained)
    threshold = trained.recommended_threshold or 0.1
    decided = (torch.cat(list(network.probabilities([recording]))).amax(0, keepdim=True) >= threshold).float()
    ways = {
        "windows, not refined": lambda probability: torch.ones(1, num_classes),
        "windows, refined for the file": lambda probability: decided,
        "windows, refined for each window": lambda probability: (probability >= threshold).float(),
    }

    def row(name: str, estimates: torch.Tensor) -> tuple[str, ...]:
        agreement = 10.0 * torch.log10(whole.square().sum(-1) / (whole - estimates).square().sum(-1))
        improvement = snri_db(estimates, targets, recording.expand_as(targets))
        return (name, f"{agreement.mean():.1f}", f"{agreement.min():.1f}", f"{improvement.mean():.2f}")

    rows = [("60 s", "SNR to the whole (dB)", "lowest", "SNRi (dB)"), row("whole, not refined", whole)]
    for name, keep in ways.items():
        estimates = torch.cat(list(network.extract(recording.split(8000, dim=-1), queries, keep)), dim=-1)
        rows.append(row(name, estimates[:, 0]))
    rows[1] = (rows[1][0], "", "", rows[1][3])
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
