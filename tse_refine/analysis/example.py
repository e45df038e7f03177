"""One mixture of a tested run, extracted again with the raw and the refined query, to be seen and played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tse_refine.analysis.measurements import MeasuredGrid
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.data.dataset import Batch
from tse_refine.data.queries import condition_queries
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.metrics import SNRI
from tse_refine.model.checkpoint import load_network
from tse_refine.model.network import Network
from tse_refine.refinement import KEPT_WEIGHT, NoRefinement, Refinement

_TOLERANCE_DB = 0.1  # of a repeated extraction: other batches and devices round differently


@dataclass(frozen=True)
class WorkedExample:
    """What one query of one mixture gives.

    Attributes:
        run: name of the run whose network extracts.
        index: number of the test mixture.
        condition: condition of the query.
        refinement: refinement of the query.
        sample_rate: sample rate, Hz.
        active: classes of the mixture.
        query: queried classes, the active ones first.
        refined_query: classes that are kept.
        probability: probability of each queried class.
        mixture: waveform, ``[samples]``; the signals below likewise.
        target: sum of the sources of the queried active classes.
        raw: extraction with the raw query.
        refined: extraction with the refined query.
        raw_snri_db: SNRi of the former.
        refined_snri_db: SNRi of the latter.
    """

    run: str
    index: int
    condition: Condition
    refinement: Refinement
    sample_rate: int
    active: tuple[str, ...]
    query: tuple[str, ...]
    refined_query: tuple[str, ...]
    probability: Mapping[str, float]
    mixture: np.ndarray
    target: np.ndarray
    raw: np.ndarray
    refined: np.ndarray
    raw_snri_db: float
    refined_snri_db: float


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
    target = batch["sources"][:, : condition.active].sum(1)  # sources come in the order in which they are queried
    query, weights, probability, estimates = _extract(network, batch, condition, refinement)
    snri = [SNRI.of_signals(estimate, target, batch["mixture"]).item() for estimate in estimates]
    _check_snri(run, index, condition, (NoRefinement(), refinement), snri)
    names, order = run.data.class_names, batch["query_order"][0].tolist()
    num_active = int(batch["activity"].sum())
    queried = [label for label in order if query[label]]
    raw, refined = (_waveform(estimate) for estimate in estimates)
    return WorkedExample(
        run=run.name,
        index=index,
        condition=condition,
        refinement=refinement,
        sample_rate=run.data.sample_rate,
        active=tuple(names[label] for label in order[:num_active]),
        query=tuple(names[label] for label in queried),
        refined_query=tuple(names[label] for label in queried if weights[label] >= KEPT_WEIGHT),
        probability={names[label]: float(probability[label]) for label in queried},
        mixture=_waveform(batch["mixture"]),
        target=_waveform(target),
        raw=raw,
        refined=refined,
        raw_snri_db=snri[0],
        refined_snri_db=snri[1],
    )


def _extract(
    network: Network, batch: Batch, condition: Condition, refinement: Refinement
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return query, refined query and probability, ``[classes]``, and the extractions with both, ``[1, samples]``."""
    query = condition_queries(batch["query_order"], batch["activity"].sum(1).long(), [condition])[:, 0]
    with torch.inference_mode():
        features = network.features(batch["mixture"])
        probability = features.probability()
        assert probability is not None  # the network has a classifier
        refined_query = refinement(query, probability)
        estimates = network.extract(features, query), network.extract(features, refined_query)
    return query[0], refined_query[0], probability[0], estimates


def _check_snri(
    run: TestedRun, index: int, condition: Condition, refinements: tuple[Refinement, ...], snri: list[float]
) -> None:
    """Raise an InputError where the extraction is not the one that was tested."""
    row = np.flatnonzero(run.grid.mixtures == index)[0]
    for rule, value in zip(refinements, snri, strict=True):
        tested = run.grid.cell(SNRI, condition, rule)[row]
        if not abs(value - tested) <= _TOLERANCE_DB:
            raise InputError(
                f"Mixture {index} now has an SNRi of {value:.2f} dB, in {run.folder.test / 'results.csv'} it has "
                f"{tested:.2f} dB: the checkpoint or the recordings are not those that were tested; run `tse-refine "
                "test` again."
            )


def _waveform(signal: Tensor) -> np.ndarray:
    return signal[0].float().numpy().copy()
