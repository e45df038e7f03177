"""One mixture of a tested run, extracted again with the raw and the refined query, to be seen and played."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tse_refine.analysis.measurements import MeasuredGrid
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.example import Example, extract_query
from tse_refine.evaluation.metrics import SNRI
from tse_refine.model.checkpoint import load_network
from tse_refine.refinement import NoRefinement, Refinement

_TOLERANCE_DB = 0.1  # of a repeated extraction: other batches and devices round differently


@dataclass(frozen=True)
class WorkedExample(Example):
    """An example of a tested run.

    Attributes:
        run: name of the run whose network extracts.
    """

    run: str


def choose_mixture(grid: MeasuredGrid, refinement: Refinement) -> tuple[int, Condition]:
    """Choose what to show by a rule, so that it is neither the best nor the worst mixture.

    Of the queries for one active class and the most inactive ones, up to three, these are those that refinement changed
    without emptying them, and of these the one with the median gain in SNRi.

    Args:
        grid: grid of a run that refines.
        refinement: refinement that was tested.

    Returns:
        The number of the mixture, and the condition.

    Raises:
        InputError: refinement changed no partially matched query, or none was tested.
    """
    raw = NoRefinement()
    partial = [condition for condition in grid.conditions if condition.active == 1 and 1 <= condition.inactive <= 3]
    if not partial or not grid.holds(partial[0], raw):
        raise InputError("No raw query for one active and up to three inactive classes was tested.")
    condition = max(partial)
    c, r = grid.place(condition, refinement)
    kept = grid.kept_active[:, c, r] + grid.kept_inactive[:, c, r]
    gain = grid.cell(SNRI, condition, refinement) - grid.cell(SNRI, condition, raw)
    changed = np.flatnonzero((kept > 0) & (kept < sum(condition)) & ~np.isnan(gain))
    if not len(changed):
        raise InputError(f"With the threshold {refinement.name} refinement changed no query without emptying it.")
    in_order = changed[np.argsort(gain[changed], kind="stable")]
    return int(grid.mixtures[in_order[(len(in_order) - 1) // 2]]), condition


def extract_example(run: TestedRun, refinement: Refinement) -> WorkedExample:
    """Render the chosen mixture of a run from its recordings and extract with the checkpoint that was tested.

    Recordings that the cache no longer holds are decoded again.

    Args:
        run: run with a classifier.
        refinement: refinement that was tested.

    Raises:
        InputError: the checkpoint or the recordings are missing or others than those tested.
    """
    index, condition = choose_mixture(run.grid, refinement)
    checkpoint = run.checkpoint
    network = load_network(checkpoint).network
    if network.classifier is None:
        raise InputError(f"{checkpoint} has no classifier and cannot refine.")
    batch = run.data.open_split("test").__getitems__([(0, index)])
    with torch.inference_mode():
        features = network.features(batch["mixture"])
    names, sample_rate = run.data.class_names, run.data.sample_rate
    example = extract_query(network, features, batch, condition, refinement, names, sample_rate)
    _check_snri(run, example)
    return WorkedExample(**vars(example), run=run.name)


def _check_snri(run: TestedRun, example: Example) -> None:
    """Raise an InputError where the extraction is not the one that was tested."""
    row = np.flatnonzero(run.grid.mixtures == example.index)[0]
    for rule, value in ((NoRefinement(), example.raw_db), (example.refinement, example.refined_db)):
        tested = run.grid.cell(SNRI, example.condition, rule)[row]
        if not abs(value - tested) <= _TOLERANCE_DB:
            raise InputError(
                f"Mixture {example.index} now has an SNRi of {value:.2f} dB, in {run.folder.test / 'results.csv'} it "
                f"has {tested:.2f} dB: the checkpoint or the recordings are not those that were tested; run "
                "`tse-refine test` again."
            )
