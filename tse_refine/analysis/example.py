"""One mixture of a tested run, extracted again with the raw and the refined query, to be seen and heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tse_refine.analysis.tested_run import Grid, MeasuredRun
from tse_refine.data.queries import condition_queries
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import NONE, Condition
from tse_refine.evaluation.metrics import snri_db
from tse_refine.evaluation.run_config import data_of_run
from tse_refine.model.checkpoint import load_network
from tse_refine.refinement import refine

_TOLERANCE_DB = 0.1  # of a repeated extraction: other batches and devices round differently


@dataclass(frozen=True)
class WorkedExample:
    """What one query of one mixture gives.

    Attributes:
        run: name of the run whose network extracts.
        index: number of the test mixture.
        condition: (active, inactive) classes of the query.
        threshold: at which the query is refined.
        sample_rate: Hz.
        active: classes of the mixture.
        query: classes asked for, the active ones first.
        refined_query: those that are left.
        probability: of each class asked for.
        mixture: ``[samples]``; the signals below likewise.
        target: sum of the sources of the active classes asked for.
        raw: extraction with the query as it is.
        refined: extraction with the refined query.
        raw_snri_db: SNRi of the former.
        refined_snri_db: SNRi of the latter.
    """

    run: str
    index: int
    condition: Condition
    threshold: str
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


def choose_mixture(grid: Grid, threshold: str) -> tuple[int, Condition]:
    """Choose what to show by a rule, so that it is neither the best nor the worst that was found.

    Of the queries for one active class and the most inactive ones, up to three, it takes those that refinement changed
    without emptying them, and of these the one with the median gain in SNRi.

    Args:
        grid: of a run that refines.
        threshold: as result files write it.

    Returns:
        The number of the mixture, and the condition.

    Raises:
        InputError: refinement changed no partially matched query, or none was tested.
    """
    partial = [condition for condition in grid.conditions if condition[0] == 1 and 1 <= condition[1] <= 3]
    if not partial or NONE not in grid.thresholds:
        raise InputError("No raw query for one active and up to three inactive classes was tested.")
    condition = max(partial)
    kept = grid.cell("kept_active", condition, threshold) + grid.cell("kept_inactive", condition, threshold)
    gain = grid.cell("snri_db", condition, threshold) - grid.cell("snri_db", condition, NONE)
    changed = np.flatnonzero((kept > 0) & (kept < sum(condition)) & ~np.isnan(gain))
    if not len(changed):
        raise InputError(f"At the threshold {threshold} refinement changed no query without emptying it.")
    in_order = changed[np.argsort(gain[changed], kind="stable")]
    return int(grid.mixtures[in_order[(len(in_order) - 1) // 2]]), condition


def extract_example(run: MeasuredRun, threshold: str) -> WorkedExample:
    """Render the chosen mixture of a run from its recordings and extract with the checkpoint that was tested.

    Recordings that the cache no longer holds are decoded again.

    Args:
        run: one with a classifier.
        threshold: as result files write it.

    Raises:
        InputError: the checkpoint or the recordings are missing or others than those tested.
    """
    index, condition = choose_mixture(run.grid, threshold)
    checkpoint = _tested_checkpoint(run)
    trained = load_network(checkpoint)
    if trained.network.classifier is None:
        raise InputError(f"{checkpoint} has no classifier and cannot refine.")
    data = data_of_run(run.test_config or run.config)
    data.prepare_data()
    data.setup("test")
    batch = data.datasets["test"].__getitems__([(0, index)])
    query = condition_queries(batch["query_order"], batch["activity"].sum(1).long(), [condition])[:, 0]
    target = batch["sources"][:, : condition[0]].sum(1)  # sources come in the order in which they are asked for
    with torch.inference_mode():
        features = trained.network.features(batch["mixture"])
        probability = features.probability()
        refined_query = refine(query, probability, float(threshold))
        raw, refined = (trained.network.extract(features, one) for one in (query, refined_query))
    snri = [float(snri_db(estimate, target, batch["mixture"])) for estimate in (raw, refined)]
    for again, row in zip(snri, (NONE, threshold), strict=True):
        measured = run.grid.cell("snri_db", condition, row)[np.flatnonzero(run.grid.mixtures == index)[0]]
        if not abs(again - measured) <= _TOLERANCE_DB:
            raise InputError(
                f"Mixture {index} now has {again:.2f} dB of SNRi, {run.folder.test / 'results.csv'} says "
                f"{measured:.2f}: the checkpoint or the recordings are not those that were tested; run `tse-refine "
                "test` again."
            )
    order = [data.class_names[label] for label in batch["query_order"][0].tolist()]
    num_active = int(batch["activity"].sum())
    asked = (*order[: condition[0]], *order[num_active : num_active + condition[1]])
    kept = {name for name, stays in zip(data.class_names, refined_query[0].tolist(), strict=True) if stays}
    believed = dict(zip(data.class_names, probability[0].tolist(), strict=True))
    return WorkedExample(
        run=run.name,
        index=index,
        condition=condition,
        threshold=threshold,
        sample_rate=data.sample_rate,
        active=tuple(order[:num_active]),
        query=asked,
        refined_query=tuple(name for name in asked if name in kept),
        probability={name: believed[name] for name in asked},
        **{
            name: _waveform(signal)
            for name, signal in (("mixture", batch["mixture"]), ("target", target), ("raw", raw), ("refined", refined))
        },
        raw_snri_db=snri[0],
        refined_snri_db=snri[1],
    )


def _tested_checkpoint(run: MeasuredRun) -> Path:
    """Return the checkpoint that the test names; that of the run's folder, which may have moved, where there is one."""
    named = Path(run.test_config.get("ckpt_path") or "best.ckpt")
    own = run.folder.checkpoints / named.name
    return named if named.is_file() and not own.is_file() else own


def _waveform(signal: Tensor) -> np.ndarray:
    return signal[0].float().numpy().copy()
