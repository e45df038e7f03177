"""The evaluation engine beside the plain way: one forward pass a cell of the default test grid.

The engine computes the shared features and the classifier once a mixture and the mask once for each *distinct* refined
query. Both ways answer the test's default conditions and refinements, but for the gate, for the same mixtures::

    python benchmarks/evaluation.py

Columns: how many queries are distinct; the engine's time per mixture; the part of it that masks take; the engine's time
over the sum of its parts, measured alone in the same batches; the plain way's time over the engine's. Probabilities are
drawn (active classes high, inactive ones low), since how many queries are distinct depends on how well a classifier
estimates the classes.
"""

from __future__ import annotations

from typing import Any

import torch
from measuring import medians, network_config, parser, report

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.queries import condition_queries
from tse_refine.data.recipes import MixtureConfig
from tse_refine.evaluation.callback import TEST_CONDITIONS, TEST_THRESHOLDS
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid, evaluate_batch
from tse_refine.files.tables import Table
from tse_refine.model.network import Features, Network
from tse_refine.refinement import parse_refinements

MODELS = ("small", "paper")
QUERIES_PER_PASS = 16
HEAD = ("network", "mixtures", "distinct queries", "ms per mixture", "masks' part", "engine / parts", "plain / engine")


def main() -> None:
    """Measure and print the table."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--mixtures", type=int, nargs="+", default=(4, 1), help="for each network")
    options_parser.add_argument("--seconds", type=float, default=1.0, help="length of a mixture")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    figures = [
        measure(name, mixtures, options.seconds, options.repeats)
        for name, mixtures in zip(MODELS, options.mixtures, strict=True)
    ]
    rows = [
        (
            row["network"],
            f"{row['mixtures']} x {options.seconds:g} s",
            f"{row['distinct']:.1f} of {row['cells']}",
            f"{1e3 * row['engine'] / row['mixtures']:.0f}",
            f"{row['masks'] / (row['shared'] + row['masks']):.0%}",
            f"{row['engine'] / (row['shared'] + row['masks']):.2f}",
            f"{row['plain'] / row['engine']:.1f}",
        )
        for row in figures
    ]
    note = f"{options.threads} threads, medians of {options.repeats}."
    report(Table(HEAD, rows, note), options, rows=figures)


@torch.inference_mode()
def measure(name: str, mixtures: int, seconds: float, repeats: int) -> dict[str, Any]:
    """Return the numbers of queries, and the median seconds of the engine, its parts and the plain way."""
    data = MixtureDataModule(
        SyntheticSounds(2, 2, 2),
        SyntheticBackgrounds(1, 1, 1),
        mixture=MixtureConfig(duration_seconds=seconds, event_seconds=(seconds / 2, seconds)),
        num_test=mixtures,
        predict_indices=[],
    )
    data.setup("test")
    batch = data.datasets["test"].__getitems__([(0, index) for index in range(mixtures)])
    torch.manual_seed(0)
    network = Network(len(data.class_names), data.sample_rate, network_config(name))
    probability = torch.sigmoid(1.5 * torch.randn_like(batch["activity"]) + 4.0 * batch["activity"] - 2.5)
    conditions = tuple(Condition(*pair) for pair in TEST_CONDITIONS)
    refinements = parse_refinements([name for name in TEST_THRESHOLDS if name != "gate"], "refinements")
    grid = Grid(conditions, refinements)

    def engine() -> None:
        features = network.features(batch["mixture"])
        evaluate_batch(network, features, probability, batch, grid, QUERIES_PER_PASS)

    queries = condition_queries(batch["query_order"], batch["activity"].sum(1).long(), conditions)
    known = (probability[:, None], batch["activity"][:, None])
    refined = torch.stack([rule(queries, *known) for rule in refinements], dim=2)  # [batch, cells..., classes]
    cells = refined.flatten(1, 2)
    numbers = torch.arange(mixtures, dtype=cells.dtype)[:, None, None].expand(-1, cells.shape[1], 1)
    pairs = torch.unique(torch.cat([numbers, cells], dim=2).flatten(0, 1), dim=0)

    def shared() -> Features:
        return network.features(batch["mixture"])

    features = shared()

    def masks() -> None:
        for part in pairs.split(QUERIES_PER_PASS):
            network.extract(features.select(part[:, 0].long()), part[:, 1:])

    def plain() -> None:
        for cell in range(cells.shape[1]):
            network(batch["mixture"], cells[:, cell])

    runs = {"engine": engine, "shared": shared, "masks": masks, "plain": plain}
    found = {"network": name, "mixtures": mixtures, "distinct": len(pairs) / mixtures, "cells": cells.shape[1]}
    return found | medians(runs, repeats)


if __name__ == "__main__":
    main()
