"""What a trained network does in recordings that its test mixtures are not like: the limits in a model card.

::

    python benchmarks/robustness.py RUN [--checkpoint NAME_OR_FILE] [--mixtures 200]

The run's test mixtures are rendered again and changed: sources in reverberation (noise that decays by 60 dB in a given
time, a response for each source, with the direct sound), a sound of no class of the network beside them (one of the
synthetic corpus), or nothing but the background. Queries, conditions and measures are those of the test.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from measuring import parser, report
from torch import Tensor
from torchaudio.functional import fftconvolve, resample

from tse_refine.data.corpora import SyntheticSounds
from tse_refine.data.dataset import Batch
from tse_refine.evaluation.classification import classification_scores
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED
from tse_refine.evaluation.grid import Grid, GridResults, evaluate_batch
from tse_refine.evaluation.metrics import ATTENUATION, SNRI
from tse_refine.evaluation.run_config import data_of_run, read_config
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.extraction.extractor import Extractor
from tse_refine.files.tables import Table
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.refinement import NoRefinement, Oracle, Refinement

Change = Callable[[Batch, np.random.Generator], None]  # of a batch, in place
BATCH = 8
SOFT_DB = 20.0  # attenuation from which on an answer counts as soft
REVERBERANT_DB = -6.0  # level of the decaying noise re the direct sound


def reverberate(seconds: float, rate: int) -> Change:
    """Return a change that puts every source into a room that decays by 60 dB in so many seconds."""

    def change(batch: Batch, rng: np.random.Generator) -> None:
        sources = batch["sources"]
        background = batch["mixture"] - sources.sum(1)
        time = np.arange(round(seconds * rate)) / rate
        noise = rng.standard_normal((*sources.shape[:2], len(time))) * 10.0 ** (-3.0 * time / seconds)
        noise *= 10.0 ** (REVERBERANT_DB / 20) / np.linalg.norm(noise, axis=-1, keepdims=True)
        noise[..., 0] += 1.0
        response = torch.from_numpy(noise.astype(np.float32))
        batch["sources"] = fftconvolve(sources, response)[..., : sources.shape[-1]]
        batch["mixture"] = background + batch["sources"].sum(1)

    return change


def add_unknown(sounds: list[Tensor]) -> Change:
    """Return a change that adds a sound of no class, as loud as the loudest source, somewhere in each mixture."""

    def change(batch: Batch, rng: np.random.Generator) -> None:
        for mixture, sources in zip(batch["mixture"], batch["sources"], strict=True):
            sound = sounds[rng.integers(len(sounds))][: len(mixture)]
            start = int(rng.integers(len(mixture) - len(sound) + 1))
            level = sources.square().sum(1).max().sqrt() / sound.square().sum().sqrt().clamp(min=1e-9)
            mixture[start : start + len(sound)] += level * sound

    return change


def leave_background(batch: Batch, rng: np.random.Generator) -> None:
    """Take all sources out."""
    batch["mixture"] -= batch["sources"].sum(1)
    batch["sources"].zero_()
    batch["activity"].zero_()


def main() -> None:
    """Measure and print."""
    made = parser(__doc__, repeats=None)
    made.add_argument("run", type=Path, help="folder of a run")
    made.add_argument("--checkpoint", help="file or shipped model; by default the run's best checkpoint")
    made.add_argument("--mixtures", type=int, default=200)
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    run = RunFolder(options.run)
    trained = load_network(options.checkpoint or run.checkpoints / "best.ckpt")
    rule = Extractor(trained).recommended_refinement
    changes: dict[str, Change | None] = {
        "as tested": None,
        "reverberation of 0.3 s": reverberate(0.3, trained.sample_rate),
        "reverberation of 0.8 s": reverberate(0.8, trained.sample_rate),
        "background alone": leave_background,
    }
    if unknown := _unknown(trained):  # none for a network of the synthetic corpus itself
        changes["a sound of no class beside"] = add_unknown(unknown)
    rows = [(name, *_measured(options, run, trained, rule, change)) for name, change in changes.items()]
    head = ("mixtures", "(1:0) raw", "refined", "(1:3) raw", "refined", "oracle", "macro F1", "(0:1) soft")
    note = (
        f"SNRi in dB over {options.mixtures} mixtures, refined by {rule.name}; soft: share of queries for one absent "
        f"class whose refined answer lies {SOFT_DB:g} dB under the mixture or lower."
    )
    report(Table(head, rows, note), options)


def _measured(
    options: Namespace, run: RunFolder, trained: TrainedNetwork, rule: Refinement, change: Change | None
) -> Iterator[str]:
    """Yield the cells of a row."""
    grid = Grid((MATCHED, PARTIAL, UNMATCHED), (NoRefinement(), rule, Oracle()))
    parts, rng = [], np.random.default_rng(0)
    for batch in _batches(run, options.mixtures):
        if change is not None:
            change(batch, rng)
        with torch.no_grad():
            features = trained.network.features(batch["mixture"])
            parts.append(evaluate_batch(trained.network, features, features.probability(), batch, grid, 16))
    results = GridResults.join(parts)
    snri = results.values[SNRI.name][:, :2]  # queries that match nothing have none
    snri = np.nanmean(snri, axis=0) if results.activity.any() else np.full((2, 3), np.nan)
    for condition, refinement in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)):
        value = snri[condition, refinement]
        yield "–" if np.isnan(value) else f"{value:.2f}"
    scored = results.activity.any() and rule.per_class
    yield f"{classification_scores(results.probability, results.activity, rule).macro('f1'):.2f}" if scored else "–"
    yield f"{100 * np.mean(results.values[ATTENUATION.name][:, 2, 1] >= SOFT_DB):.0f} %"


def _batches(run: RunFolder, count: int) -> Iterator[dict[str, Tensor]]:
    """Yield batches of the run's test mixtures."""
    config = read_config(run.config)
    assert config is not None, f"{run.config} is missing"
    data = data_of_run(config)
    data.setup("test")
    dataset = data.datasets["test"]
    for first in range(0, min(count, len(dataset)), BATCH):
        yield dataset.__getitems__([(0, index) for index in range(first, min(first + BATCH, count, len(dataset)))])


def _unknown(trained: TrainedNetwork) -> list[Tensor]:
    """Return sounds of the synthetic corpus that are of no class of the network."""
    corpus = SyntheticSounds(1, 1, 2)
    sounds = []
    for clip in corpus.clips():
        if clip.split == "test" and clip.label not in trained.class_names:
            samples, rate = corpus.read(clip)
            sounds.append(resample(torch.from_numpy(samples[:, 0]), rate, trained.sample_rate))
    return sounds


if __name__ == "__main__":
    main()
