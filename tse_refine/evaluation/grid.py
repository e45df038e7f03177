"""Evaluates every condition by every threshold for a batch of mixtures, with as little work as the answers need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tse_refine.data.dataset import Batch
from tse_refine.data.queries import condition_queries
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import GATE, NONE, ORACLE, Condition, Threshold
from tse_refine.evaluation.metrics import attenuation_db, snr_db
from tse_refine.model.network import Features, Network
from tse_refine.refinement import gate, refine


@dataclass(frozen=True)
class GridResults:
    """What was measured of some mixtures, one value a mixture, condition and threshold.

    NaN stands where a value does not exist: SNRi of a query for inactive classes only, attenuation of any other, both
    where a mixture has fewer active classes than the condition asks for.

    Attributes:
        index: number of each mixture, ``[mixtures]``.
        num_active: active classes of each mixture, ``[mixtures]``.
        query_order: classes in the order they are asked for, ``[mixtures, classes]``.
        activity: 1 for an active class, ``[mixtures, classes]``.
        probability: clip-level, ``[mixtures, classes]``; NaN without a classifier.
        input_snr_db: SNR of the mixture itself, ``[mixtures, conditions]``.
        snri_db: ``[mixtures, conditions, thresholds]``.
        attenuation_db: ``[mixtures, conditions, thresholds]``.
        kept_active: active classes in the refined query, ``[mixtures, conditions, thresholds]``.
        kept_inactive: inactive classes in the refined query, ``[mixtures, conditions, thresholds]``.
    """

    index: np.ndarray
    num_active: np.ndarray
    query_order: np.ndarray
    activity: np.ndarray
    probability: np.ndarray
    input_snr_db: np.ndarray
    snri_db: np.ndarray
    attenuation_db: np.ndarray
    kept_active: np.ndarray
    kept_inactive: np.ndarray

    @staticmethod
    def join(parts: Sequence[GridResults]) -> GridResults:
        """Return the results of all parts in the order of the mixtures, each mixture once.

        Samplers of several processes repeat a few mixtures so that all have as many.
        """
        columns = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(GridResults)}
        _, first = np.unique(columns["index"], return_index=True)
        return GridResults(**{name: values[first] for name, values in columns.items()})


def refined_queries(
    queries: Tensor,
    activity: Tensor,
    probability: Tensor | None,
    thresholds: Sequence[Threshold],
    gate_threshold: float,
) -> Tensor:
    """Apply each threshold to each query.

    Args:
        queries: multi-hot, ``[batch, conditions, classes]``.
        activity: ``[batch, classes]``.
        probability: ``[batch, classes]``; None without a classifier.
        thresholds: numbers, or ``none``, ``oracle``, ``gate``.
        gate_threshold: of ``gate``'s decision.

    Returns:
        ``[batch, conditions, thresholds, classes]``.
    """

    def refined(threshold: Threshold) -> Tensor:
        if threshold == NONE:
            return queries
        if threshold == ORACLE:
            return refine(queries, activity[:, None], 0.5)
        if threshold == GATE:
            return gate(queries, probability[:, None], gate_threshold)
        return refine(queries, probability[:, None], threshold)

    return torch.stack([refined(threshold) for threshold in thresholds], dim=2)


def evaluate_batch(
    network: Network,
    features: Features,
    probability: Tensor | None,
    batch: Batch,
    conditions: Sequence[Condition],
    thresholds: Sequence[Threshold],
    gate_threshold: float,
    queries_per_pass: int,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> GridResults:
    """Answer all queries of a batch.

    The shared features are given; the mask estimator runs once for each *distinct* refined query of a mixture,
    whatever number of cells ask it, several at a time. An empty refined query is answered by the network's response to
    a zero query; a closed gate by exact silence, without the network.

    Args:
        network: gives the estimates.
        features: of the batch's mixtures, from :meth:`Network.features`.
        probability: clip-level, ``[batch, classes]``; None without a classifier.
        batch: with the keys for evaluation (:class:`tse_refine.data.dataset.MixtureDataset`).
        conditions: pairs (active, inactive).
        thresholds: numbers, or ``none``, ``oracle``, ``gate``.
        gate_threshold: of ``gate``'s decision.
        queries_per_pass: how many queries go through the mask estimator together.
        precision: makes the context of a pass, such as the trainer's autocast.

    Raises:
        InputError: a probability or an extraction is NaN or infinite; names the mixture.
    """
    if probability is not None:
        _check_finite(probability.isfinite().all(1), batch["index"], "the classifier's probability")
    activity, num_active = batch["activity"], batch["activity"].sum(1).long()
    queries = condition_queries(batch["query_order"], num_active, conditions)
    refined = refined_queries(queries, activity, probability, thresholds, gate_threshold)
    asked_active = torch.tensor([active for active, _ in conditions], device=activity.device)
    exists = asked_active[None, :] <= num_active[:, None]  # [batch, conditions]

    # distinct (mixture, refined query) pairs, and for each cell the pair that answers it
    cell_mixture, cell_condition, cell_threshold = torch.nonzero(
        exists[:, :, None].expand(refined.shape[:3]), as_tuple=True
    )
    asked = refined[cell_mixture, cell_condition, cell_threshold]  # [cells, classes]
    closed = torch.zeros(len(asked), dtype=torch.bool, device=asked.device)
    if GATE in thresholds:
        closed = (cell_threshold == list(thresholds).index(GATE)) & (asked.sum(1) == 0)
    pairs = torch.cat([cell_mixture[:, None].to(asked), asked], dim=1)[~closed]
    pairs, pair_of_open_cell = torch.unique(pairs, dim=0, return_inverse=True)
    pair_of_cell = torch.full((len(asked),), len(pairs), device=asked.device)  # the last one: exact silence
    pair_of_cell[~closed] = pair_of_open_cell

    energy, products = _estimate_products(
        network, features, batch["sources"], pairs[:, 0].long(), pairs[:, 1:], queries_per_pass, precision
    )
    # float64 holds the square of every finite float32, so that an energy is finite where its extraction is
    _check_finite(energy[:-1].isfinite(), batch["index"][pairs[:, 0].long()], "the extraction")
    snr_cells, attenuation_cells, input_snr = _measure(
        energy[pair_of_cell], products[pair_of_cell], batch, cell_mixture, asked_active[cell_condition], asked_active
    )

    def in_grid(cells: Tensor) -> np.ndarray:
        grid = torch.full(refined.shape[:3], torch.nan, dtype=torch.float64, device=cells.device)
        grid[cell_mixture, cell_condition, cell_threshold] = cells
        return grid.cpu().numpy()

    kept_active = (refined * activity[:, None, None]).sum(-1).long()
    kept = refined.sum(-1).long()
    missing = torch.full_like(activity, torch.nan) if probability is None else probability
    input_snr = torch.where(exists & (asked_active > 0), input_snr, torch.nan)
    columns = (batch["index"], num_active, batch["query_order"], activity.float(), missing.float(), input_snr)
    return GridResults(
        *(column.cpu().numpy() for column in columns),
        snri_db=in_grid(snr_cells) - input_snr[:, :, None].cpu().numpy(),
        attenuation_db=in_grid(attenuation_cells),
        kept_active=kept_active.cpu().numpy(),
        kept_inactive=(kept - kept_active).cpu().numpy(),
    )


def _estimate_products(
    network: Network,
    features: Features,
    sources: Tensor,
    mixture_of_pair: Tensor,
    query_of_pair: Tensor,
    queries_per_pass: int,
    precision: Callable[[], AbstractContextManager],
) -> tuple[Tensor, Tensor]:
    """Run the mask estimator for each pair; return ||e||^2 ``[pairs + 1]`` and <e, source> ``[pairs + 1, events]``.

    All that is measured follows from these. The last row is that of exact silence.
    """
    energies, products = [], []
    for rows in torch.arange(len(mixture_of_pair), device=sources.device).split(queries_per_pass):
        mixtures = mixture_of_pair[rows]
        few = Features(features.encoded[mixtures], features.shared[mixtures], None, features.length)
        with precision():
            estimates = network.extract(few, query_of_pair[rows])
        estimates = estimates.double()
        energies.append(estimates.square().sum(1))
        # pairs are sorted by mixture: each mixture's sources are converted once a pass and multiplied with a matrix
        for mixture, count in zip(*torch.unique_consecutive(mixtures, return_counts=True), strict=True):
            products.append(estimates[:count] @ sources[mixture].double().T)
            estimates = estimates[count:]
    silence = torch.zeros(1, dtype=torch.float64, device=sources.device)
    return torch.cat([*energies, silence]), torch.cat([*products, silence.expand(1, sources.shape[1])])


def _measure(
    energy: Tensor, products: Tensor, batch: Batch, cell_mixture: Tensor, cell_asked: Tensor, asked_active: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return SNR and attenuation of each cell, ``[cells]``, and the mixtures' own SNR, ``[batch, conditions]``.

    The target of a condition that asks for ``a`` active classes is the sum of the first ``a`` sources, because sources
    come in the order in which they are asked for; with ||s - e||^2 = ||s||^2 - 2 <s, e> + ||e||^2.
    """
    sources, mixture = batch["sources"].double(), batch["mixture"].double()
    mixture_energy = mixture.square().sum(1)
    gram = torch.einsum("bet,bft->bef", sources, sources).cumsum(1).cumsum(2)
    target_energy = _from_none(gram.diagonal(dim1=1, dim2=2))  # [batch, 1 + events]: of the first 0, 1, ... sources
    mixture_product = _from_none(torch.einsum("bet,bt->be", sources, mixture).cumsum(1))

    estimate_product = _from_none(products.cumsum(1)).gather(1, cell_asked[:, None])[:, 0]
    target = target_energy[cell_mixture, cell_asked]
    error = (target - 2.0 * estimate_product + energy).clamp(min=0.0)
    snr = snr_db(target, error, mixture_energy[cell_mixture])
    attenuation = attenuation_db(mixture_energy[cell_mixture], energy)
    asks_active = cell_asked > 0

    own_target, own_product = target_energy[:, asked_active], mixture_product[:, asked_active]
    own_error = (own_target - 2.0 * own_product + mixture_energy[:, None]).clamp(min=0.0)
    input_snr = snr_db(own_target, own_error, mixture_energy[:, None])
    return torch.where(asks_active, snr, torch.nan), torch.where(asks_active, torch.nan, attenuation), input_snr


def _check_finite(finite: Tensor, index: Tensor, what: str) -> None:
    """Refuse NaN and infinity: a NaN in the grid means that a cell does not exist, and no mean would show it.

    Args:
        finite: whether each value is, ``[values]``.
        index: number of each value's mixture, ``[values]``.
        what: the values' name.
    """
    if not finite.all():
        raise InputError(
            f"mixture {int(index[~finite].min())}: {what} is not finite, so that nothing of it can be measured. "
            "Either the training has diverged, or the network's numbers overflow in trainer.precision. Use "
            "--trainer.precision 32-true; if that changes nothing, train again with a lower model.learning_rate."
        )


def _from_none(cumulative: Tensor) -> Tensor:
    """Put a column of zeros in front: the value for no source at all."""
    return torch.nn.functional.pad(cumulative, (1, 0))
