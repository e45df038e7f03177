"""How the cost of a training step and of the evaluation grows with mixtures, batches, classes and the grid.

::

    python benchmarks/growth.py --output benchmarks/results/growth.json

The demo's network and mixtures (``configs/model/small``, eight mixtures of 2 s at 8 kHz, 10 classes), with one of them
changed at a time. The figure lies beside the output, as a PNG file. The evaluation answers the first conditions of the
default test grid, with all its refinements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from measuring import medians, network_config, parser, report

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.recipes import MixtureConfig
from tse_refine.evaluation.callback import TEST_CONDITIONS, TEST_THRESHOLDS
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid, evaluate_batch
from tse_refine.files.tables import Table
from tse_refine.model.network import Network
from tse_refine.refinement import parse_refinements
from tse_refine.training.module import ExtractionModule

RATE = 8000
AXES = {
    "mixture (s)": (1.0, 2.0, 4.0, 8.0),
    "batch": (2, 4, 8, 16),
    "classes": (10, 40, 160, 640),
    "conditions": (2, 4, 8, 14),
}


def main() -> None:
    """Measure, print the table and plot it."""
    options = parser(__doc__).parse_args()
    torch.set_num_threads(options.threads)
    makers: dict[str, Callable[..., Callable[[], object]]] = {
        "mixture (s)": lambda seconds: training_step(seconds=seconds),
        "batch": lambda batch: training_step(batch=batch),
        "classes": lambda classes: training_step(classes=classes),
        "conditions": evaluation,
    }
    runs = {(axis, value): makers[axis](value) for axis, values in AXES.items() for value in values}
    seconds = medians(runs, options.repeats)
    rows = [
        (
            axis,
            "evaluation" if axis == "conditions" else "training step",
            f"{value:g}",
            f"{1e3 * seconds[axis, value]:.0f}",
            f"{value / values[0]:.1f}",
            f"{seconds[axis, value] / seconds[axis, values[0]]:.2f}",
        )
        for axis, values in AXES.items()
        for value in values
    ]
    head = ("grows", "work", "value", "ms", "times the first", "times its cost")
    note = f"{options.threads} threads, medians of {options.repeats}."
    report(Table(head, rows, note, num_left=2), options, rows=[[*key, taken] for key, taken in seconds.items()])
    if options.output:
        plot(seconds, options.output.with_suffix(".png"))


def training_step(seconds: float = 2.0, batch: int = 8, classes: int = 10) -> Callable[[], None]:
    """Return a function that makes a training step on noise: losses, backward pass and Adam."""
    module = ExtractionModule([str(number) for number in range(classes)], RATE, network_config("small"))
    module.log = module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(module.parameters())
    query = torch.eye(classes)[torch.arange(batch) % classes]
    mixture, target = 0.1 * torch.randn(2, batch, round(seconds * RATE))
    noise = {"mixture": mixture, "target": target, "query": query, "activity": query}

    def step() -> None:
        optimizer.zero_grad()
        module.training_step(noise, 0).backward()
        optimizer.step()

    return step


def evaluation(num_conditions: int) -> Callable[[], object]:
    """Return a function that evaluates the first conditions for two mixtures, with drawn probabilities."""
    data = MixtureDataModule(
        SyntheticSounds(2, 2, 2),
        SyntheticBackgrounds(1, 1, 1),
        sample_rate=RATE,
        mixture=MixtureConfig(duration_seconds=2.0, event_seconds=(1.0, 1.7)),
        num_test=2,
        predict_indices=[],
    )
    data.setup("test")
    batch = data.datasets["test"].__getitems__([(0, 0), (0, 1)])
    network = Network(len(data.class_names), RATE, network_config("small")).eval()
    generator = torch.Generator().manual_seed(0)
    activity = batch["activity"]
    probability = torch.sigmoid(1.5 * torch.randn(activity.shape, generator=generator) + 4.0 * activity - 2.5)
    refinements = parse_refinements([name for name in TEST_THRESHOLDS if name != "gate"], "refinements")
    conditions = tuple(Condition(*pair) for pair in TEST_CONDITIONS)
    grid = Grid(conditions[:num_conditions], refinements)

    @torch.inference_mode()
    def run() -> object:
        return evaluate_batch(network, network.features(batch["mixture"]), probability, batch, grid, 16)

    return partial(run)


def plot(seconds: dict[tuple[str, float], float], path: Path) -> None:
    """Plot a panel per axis, both scales logarithmic; the dashed line is proportional growth."""
    figure, panels = plt.subplots(1, len(AXES), figsize=(11, 2.8), layout="constrained")
    for panel, (axis, values) in zip(panels, AXES.items(), strict=True):
        ms = [1e3 * seconds[axis, value] for value in values]
        panel.loglog(values, [ms[0] * value / values[0] for value in values], "--", color="0.6", label="proportional")
        panel.loglog(values, ms, "o-")
        panel.set_xticks(values, [f"{value:g}" for value in values], minor=False)
        panel.minorticks_off()
        ticks = [step for step in (10, 20, 50, 100, 200, 500, 1000, 2000) if min(ms) / 2 <= step <= 3 * max(ms)]
        panel.set_yticks(ticks, [str(step) for step in ticks])
        panel.set_xlabel(axis)
        panel.set_ylabel("evaluation (ms)" if axis == "conditions" else "training step (ms)")
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
