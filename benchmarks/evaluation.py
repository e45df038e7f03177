"""The evaluation engine beside the plain way: one forward pass a cell of the default test grid.

The engine computes the shared features and the classifier once a mixture and the mask once for each *distinct* refined
query. Both ways answer the same 14 conditions at the same 8 thresholds for the same mixtures::

    python benchmarks/evaluation.py

Printed for each network: how many distinct queries there were; the engine's time; the part of it that masks take; the
engine's time over the sum of its parts, measured alone in the same batches; the plain way's time over the engine's.
Probabilities are drawn (active classes high, inactive ones low), since how many queries are distinct depends on how
well a classifier estimates the classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
import yaml

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.queries import condition_queries
from tse_refine.data.recipes import MixtureConfig
from tse_refine.evaluation.callback import TEST_CONDITIONS, TEST_THRESHOLDS
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid, evaluate_batch
from tse_refine.files.tables import Table
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Features, Network, NetworkConfig
from tse_refine.refinement import parse_refinements

MODELS = Path(__file__).parent.parent / "configs" / "model"
QUERIES_PER_PASS = 16


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=int, nargs=2, default=(4, 1), metavar=("SMALL", "PAPER"))
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a mixture")
    options = parser.parse_args()
    head = ("network", "mixtures", "distinct queries", "engine (s)", "masks' part", "engine / parts", "plain / engine")
    rows = []
    for name, mixtures in zip(("small", "paper"), options.mixtures, strict=True):
        rows.append((name, str(mixtures), *measure(name, mixtures, options.seconds)))
    print(Table(head, rows).text())


@torch.inference_mode()
def measure(name: str, mixtures: int, seconds: float) -> tuple[str, ...]:
    """Return a network's cells of the table."""
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
    sizes = yaml.safe_load((MODELS / f"{name}.yaml").read_text())["model"]["network"]
    network = Network(len(data.class_names), data.sample_rate, NetworkConfig(**sizes, classifier=ClassifierConfig()))
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

    engine()  # once to warm up
    times = [fastest(run, 2) for run in (engine, shared, masks, plain)]
    parts = times[1] + times[2]
    distinct = f"{len(pairs) / mixtures:.1f} of {cells.shape[1]}"
    masks_part = f"{100 * times[2] / parts:.0f} %"
    return (distinct, f"{times[0]:.2f}", masks_part, f"{times[0] / parts:.2f}", f"{times[3] / times[0]:.1f}")


def fastest(run: Callable[[], object], times: int) -> float:
    """Return the shortest of several times, in seconds."""
    found = []
    for _ in range(times):
        start = perf_counter()
        run()
        found.append(perf_counter() - start)
    return min(found)


if __name__ == "__main__":
    main()
