"""Evaluates every condition under every refinement for a batch of mixtures: one mask pass per distinct query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tse_refine.data.dataset import Batch
from tse_refine.data.queries import condition_queries
from tse_refine.errors import InputError
from tse_refine.evaluation.class_aware import SingleQueries
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.metrics import HEADLINES, MEASURES, Energies, Measure, snr_db
from tse_refine.evaluation.passes import Cells, Estimates, estimate_pairs
from tse_refine.model.network import Features, QueriedNetwork
from tse_refine.refinement import KEPT_WEIGHT, Refinement


@dataclass(frozen=True)
class Grid:
    """What is measured of every mixture: conditions by refinements.

    Attributes:
        conditions: in the order of the result files.
        refinements: likewise, each with a name of its own.
        measures: likewise; by default the whole table.
        class_aware: whether the active classes are also extracted alone, for the CA-SDRi.
    """

    conditions: tuple[Condition, ...]
    refinements: tuple[Refinement, ...]
    measures: tuple[Measure, ...] = ()
    class_aware: bool = False

    def __post_init__(self) -> None:
        """Use the measures that are in the table now by default."""
        object.__setattr__(self, "measures", tuple(self.measures or MEASURES.values()))

    @property
    def labelling(self) -> tuple[Refinement, ...]:
        """The refinements of which the CA-SDRi is measured: where it is at all, those that decide class by class."""
        return tuple(rule for rule in self.refinements if rule.per_class and self.class_aware)

    def exists(self, measure: Measure) -> np.ndarray:
        """Whether a measure exists in each condition, ``[conditions]``."""
        return np.array([condition.kind in measure.kinds for condition in self.conditions], bool)


@dataclass(frozen=True)
class GridResults:
    """What was measured of some mixtures.

    NaN stands where a value does not exist: a measure in a condition of another kind, and everything where a mixture
    has fewer active classes than the condition queries.

    Attributes:
        grid: conditions, refinements and measures.
        index: number of each mixture, ``[mixtures]``.
        num_active: active classes of each mixture, ``[mixtures]``.
        query_order: classes in the order in which they are queried, ``[mixtures, classes]``.
        activity: 1 for an active class, ``[mixtures, classes]``.
        probability: clip-level, ``[mixtures, classes]``; NaN without a classifier.
        input_snr_db: SNR of the mixture itself, ``[mixtures, conditions]``.
        values: by measure, ``[mixtures, conditions, refinements]``.
        silence: by measure, the value of exact silence, ``[mixtures, conditions]``.
        kept_active: active classes kept in the refined query, ``[mixtures, conditions, refinements]``.
        kept_inactive: inactive ones, ``[mixtures, conditions, refinements]``.
        empty: whether nothing of the query is left, ``[mixtures, conditions, refinements]``.
        ca_sdri_db: CA-SDRi of the classes that each of :attr:`Grid.labelling` keeps, ``[mixtures, refinements]``.
        event_counts: by name, ``[mixtures, classes]`` (:func:`tse_refine.evaluation.events.count_events`); nothing
            without a classifier.
    """

    grid: Grid
    index: np.ndarray
    num_active: np.ndarray
    query_order: np.ndarray
    activity: np.ndarray
    probability: np.ndarray
    input_snr_db: np.ndarray
    values: Mapping[str, np.ndarray]
    silence: Mapping[str, np.ndarray]
    kept_active: np.ndarray
    kept_inactive: np.ndarray
    empty: np.ndarray
    ca_sdri_db: np.ndarray
    event_counts: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def has_classifier(self) -> bool:
        """Whether there are probabilities."""
        return not np.isnan(self.probability).any()

    @property
    def num_without_target(self) -> int:
        """Number of mixtures in which no class is active."""
        return int((self.num_active == 0).sum())

    @staticmethod
    def join(parts: Sequence[GridResults]) -> GridResults:
        """Return the results of all parts in the order of the mixtures, each mixture once.

        Samplers of several processes repeat a few mixtures so that all have as many.
        """
        _, first = np.unique(np.concatenate([part.index for part in parts]), return_index=True)

        def joined(name: str) -> np.ndarray | dict[str, np.ndarray]:
            columns = [getattr(part, name) for part in parts]
            if isinstance(columns[0], np.ndarray):
                return np.concatenate(columns)[first]
            return {key: np.concatenate([column[key] for column in columns])[first] for key in columns[0]}

        names = [field.name for field in fields(GridResults) if field.name != "grid"]
        return GridResults(parts[0].grid, **{name: joined(name) for name in names})  # type: ignore[arg-type]


def evaluate_batch(
    network: QueriedNetwork,
    features: Features,
    probability: Tensor | None,
    batch: Batch,
    grid: Grid,
    queries_per_pass: int,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> GridResults:
    """Measure a batch of mixtures under every condition and refinement.

    The shared features are computed before; the mask estimator runs once for each *distinct* refined query of a
    mixture, however many cells need it, several at a time. The estimate of an empty refined query is the network's
    response to a zero query, or exact silence where the refinement is ``silent_when_empty``.

    Args:
        network: gives the estimates.
        features: features of the batch's mixtures, from :meth:`Network.features`.
        probability: clip-level, ``[batch, classes]``; None without a classifier.
        batch: batch with the keys for evaluation (:class:`tse_refine.data.dataset.MixtureDataset`).
        grid: conditions, refinements and measures.
        queries_per_pass: how many queries go through the mask estimator together.
        precision: makes the context of a pass, such as the trainer's autocast.

    Raises:
        InputError: a probability or an extraction is NaN or infinite; names the mixture.
    """
    if probability is not None:
        _check_finite(probability.isfinite().all(1), batch["index"], "the classifier's probability")
    activity, num_active = batch["activity"], batch["activity"].sum(1).long()
    queries = condition_queries(batch["query_order"], num_active, grid.conditions)  # [batch, conditions, classes]
    per_condition = None if probability is None else probability[:, None]
    refined = torch.stack([rule(queries, per_condition, activity[:, None]) for rule in grid.refinements], dim=2)
    num_queried = torch.tensor(
        [condition.active for condition in grid.conditions], dtype=torch.long, device=activity.device
    )
    exists = num_queried[None, :] <= num_active[:, None]  # [batch, conditions]
    single = SingleQueries.of(grid.labelling, probability, activity)
    cells = Cells.of(refined, exists, num_queried, grid.refinements, single.rows)
    estimates = estimate_pairs(network, features, batch, cells, grid.measures, queries_per_pass, precision)
    # float64 holds the square of every finite float32, so that an energy is finite where its extraction is
    _check_finite(estimates.energy[:-1].isfinite(), batch["index"][cells.pair_mixture], "the extraction")
    values, silence, input_snr = _measure(batch, grid, cells, estimates, exists)
    kept = refined >= KEPT_WEIGHT
    kept_active = (kept & (activity[:, None, None] > 0)).sum(-1)
    missing = torch.full_like(activity, torch.nan) if probability is None else probability
    columns = {
        "index": batch["index"],
        "num_active": num_active,
        "query_order": batch["query_order"],
        "activity": activity.float(),
        "probability": missing.float(),
        "input_snr_db": input_snr,
        "kept_active": kept_active,
        "kept_inactive": kept.sum(-1) - kept_active,
        "empty": ~refined.any(-1),
        "ca_sdri_db": single.measure(batch, estimates.energy[cells.single_pair], estimates.products[cells.single_pair]),
    }
    arrays: dict[str, Any] = {name: column.cpu().numpy() for name, column in columns.items()}
    return GridResults(grid, values=values, silence=silence, **arrays)


def _measure(
    batch: Batch, grid: Grid, cells: Cells, estimates: Estimates, exists: Tensor
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Tensor]:
    """Return each measure on the grid, the headline measures of exact silence, and the SNR of the mixtures themselves.

    The target of a condition with ``a`` active classes is the sum of the first ``a`` sources, because sources come in
    the order in which they are queried.
    """
    sources, mixture = batch["sources"].double(), batch["mixture"].double()
    mixture_energy = mixture.square().sum(1)
    gram = torch.einsum("bet,bft->bef", sources, sources).cumsum(1).cumsum(2)
    target_energy = _from_none(gram.diagonal(dim1=1, dim2=2))  # [batch, 1 + events]: of the first 0, 1, ... sources
    mixture_product = _from_none(torch.einsum("bet,bt->be", sources, mixture).cumsum(1))
    num_queried = torch.tensor(
        [condition.active for condition in grid.conditions], dtype=torch.long, device=exists.device
    )
    products = _from_none(estimates.products[cells.pair].cumsum(1)).gather(1, cells.num_queried[:, None])[:, 0]
    of_cells = Energies(
        target_energy[cells.place[0], cells.num_queried],
        estimates.energy[cells.pair],
        products,
        mixture_energy[cells.place[0]],
    )
    first = num_queried.clamp(max=sources.shape[1])  # no mixture of the batch may have as many as a condition queries
    of_mixtures = Energies(  # the mixture as its own estimate, [batch, conditions]
        target_energy[:, first], mixture_energy[:, None], mixture_product[:, first], mixture_energy[:, None]
    )
    values, silence, shape = {}, {}, torch.Size((*exists.shape, len(grid.refinements)))
    for measure in grid.measures:
        value = estimates.values.get(measure.name)
        if measure.from_energies is not None:
            value = measure.from_energies(of_cells)
        assert value is not None
        own = torch.zeros_like(exists, dtype=torch.float64)
        if measure.is_improvement and grid.conditions:
            own = _of_mixtures(measure, of_mixtures, batch, grid)
        there = exists & torch.from_numpy(grid.exists(measure)).to(exists.device)
        place = cells.place[:2]
        on_grid = cells.on_grid(torch.where(there[place], value - own[place], torch.nan), shape)
        values[measure.name] = on_grid
        if measure.from_energies is not None and measure in HEADLINES:
            silent = measure.from_energies(of_mixtures.of_silence()) - own
            silence[measure.name] = torch.where(there, silent, torch.nan).cpu().numpy()
    input_snr = snr_db(of_mixtures.target, of_mixtures.error, of_mixtures.mixture)
    return values, silence, torch.where(exists & (num_queried > 0), input_snr, torch.nan)


def _of_mixtures(measure: Measure, energies: Energies, batch: Batch, grid: Grid) -> Tensor:
    """Return a measure of the mixtures themselves, ``[batch, conditions]``."""
    if measure.from_energies is not None:
        return measure.from_energies(energies)
    assert measure.from_waveforms is not None
    mixture, sources = batch["mixture"].double(), batch["sources"].double()
    columns = [
        measure.from_waveforms(mixture, sources[:, : condition.active].sum(1), mixture) for condition in grid.conditions
    ]
    return torch.stack(columns, dim=1).double()


def _check_finite(finite: Tensor, index: Tensor, what: str) -> None:
    """Reject NaN and infinity: a NaN in the grid means that a cell does not exist, and no mean would show it.

    Args:
        finite: whether each value is finite, ``[values]``.
        index: number of each value's mixture, ``[values]``.
        what: name of the values.
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
