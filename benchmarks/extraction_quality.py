"""Quality of extraction in windows: agreement with the whole, other windows, false alarms, soft recordings.

Recordings are concatenations of a run's test mixtures, such as those of ``make demo``::

    python benchmarks/extraction_quality.py runs/demo

Printed are

1. the agreement of extraction in windows with extraction of the whole recording at once (60 s), and the mean SNRi of
   queries for three random classes when the query is refined per window or once for the file;
2. the same for other overlaps and lengths of windows, refined per window;
3. how often a class that is not in a recording is kept, by the recording's length;
4. the agreement of the estimates of softer recordings, scaled back, with those at the usual level.

What extraction costs is measured by ``extraction.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import parser, report

from tse_refine.cli.trainer_options import read_data
from tse_refine.evaluation.metrics import SNRI
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.windows import RefineQueries, WindowedNetwork
from tse_refine.files.tables import Table
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.refinement import KEPT_WEIGHT, Refinement

QUERIES = 12
CLASSES_PER_QUERY = 3


def main() -> None:
    """Measure and print the tables."""
    options_parser = parser(__doc__, repeats=None)
    options_parser.add_argument("run", type=Path, help="folder of a run whose data are on disk")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    trained = load_network(options.run / "checkpoints" / "best.ckpt")
    mixtures, sources = rendered(options.run, len(trained.class_names))
    minute = Minute(trained, mixtures, sources)
    tables = [
        windows_and_whole(trained, minute),
        other_windows(trained, minute),
        false_alarms(trained, mixtures, sources),
        softer(trained, mixtures),
    ]
    report([Table(rows[0], rows[1:]) for rows in tables], options)


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


if __name__ == "__main__":
    main()
