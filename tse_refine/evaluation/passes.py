"""The mask passes of a batch: the distinct queries that the cells of a grid need, and what is kept of the estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tse_refine.data.dataset import Batch
from tse_refine.evaluation.metrics import Measure
from tse_refine.model.network import Features, QueriedNetwork
from tse_refine.refinement import Refinement


class Cells(NamedTuple):
    """The cells of a batch's grid that exist, and the distinct (mixture, query) pairs that they and others need.

    Attributes:
        place: mixture, condition and refinement of each cell, three of ``[cells]``.
        num_queried: active classes that each cell queries, ``[cells]``.
        pair: number of each cell's pair, ``[cells]``; the number of pairs for exact silence.
        single_pair: number of the pair of each query of one class, ``[single queries]``.
        pair_mixture: mixture of each pair, ``[pairs]``, ascending among the grid's pairs and among the rest.
        pair_query: refined query of each pair, ``[pairs, classes]``.
        num_grid_pairs: number of pairs that cells need; they come first.
    """

    place: tuple[Tensor, ...]
    num_queried: Tensor
    pair: Tensor
    single_pair: Tensor
    pair_mixture: Tensor
    pair_query: Tensor
    num_grid_pairs: int

    @staticmethod
    def of(
        refined: Tensor, exists: Tensor, num_queried: Tensor, refinements: Sequence[Refinement], single: Tensor
    ) -> Cells:
        """Find the pairs.

        Args:
            refined: refined queries, ``[batch, conditions, refinements, classes]``.
            exists: whether a mixture has enough active classes, ``[batch, conditions]``.
            num_queried: active classes that each condition queries, ``[conditions]``.
            refinements: refinements of the grid.
            single: mixture and query of each query of one class, ``[single queries, 1 + classes]``.
        """
        place = torch.nonzero(exists[:, :, None].expand(refined.shape[:3]), as_tuple=True)
        queries = refined[place]  # [cells, classes]
        silencing = torch.tensor([rule.silent_when_empty for rule in refinements], device=queries.device)
        silent = silencing[place[2]] & ~queries.any(1)
        rows = torch.cat([place[0][:, None].to(queries), queries], dim=1)[~silent]
        pairs, pair_of_row = torch.unique(torch.cat([rows, single]), dim=0, return_inverse=True)
        of_grid = torch.zeros(len(pairs), dtype=torch.bool, device=pairs.device)
        of_grid[pair_of_row[: len(rows)]] = True
        order = torch.argsort((~of_grid).int(), stable=True)
        pairs, pair_of_row = pairs[order], torch.argsort(order)[pair_of_row]
        pair = torch.full((len(queries),), len(pairs), device=queries.device)
        pair[~silent] = pair_of_row[: len(rows)]
        single_pair = pair_of_row[len(rows) :]
        return Cells(
            place, num_queried[place[1]], pair, single_pair, pairs[:, 0].long(), pairs[:, 1:], int(of_grid.sum())
        )

    def passes(self, queries_per_pass: int) -> Iterator[slice]:
        """Yield the pairs that go through the mask estimator together.

        No pass has pairs of the grid and others: how a pass rounds depends on its size, and the cells must not depend
        on what else is measured.
        """
        for start, stop in ((0, self.num_grid_pairs), (self.num_grid_pairs, len(self.pair_mixture))):
            for first in range(start, stop, queries_per_pass):
                yield slice(first, min(first + queries_per_pass, stop))

    def on_grid(self, values: Tensor, shape: torch.Size) -> np.ndarray:
        """Return values of the cells, ``[cells]``, on the grid, NaN elsewhere."""
        grid = torch.full(shape, torch.nan, dtype=torch.float64, device=values.device)
        grid[self.place] = values
        return grid.cpu().numpy()


class Estimates(NamedTuple):
    """What measures need of the estimates of all pairs; the last row is that of exact silence.

    Attributes:
        energy: ||e||^2, ``[pairs + 1]``.
        products: <e, source>, ``[pairs + 1, events]``.
        values: by the name of each measure that needs waveforms, ``[cells]``.
    """

    energy: Tensor
    products: Tensor
    values: dict[str, Tensor]


def estimate_pairs(
    network: QueriedNetwork,
    features: Features,
    batch: Batch,
    cells: Cells,
    measures: Sequence[Measure],
    queries_per_pass: int,
    precision: Callable[[], AbstractContextManager],
) -> Estimates:
    """Run the mask estimator for each pair, and keep of the estimates what the measures need."""
    sources = batch["sources"]
    energies, products = [], []
    values = {
        measure.name: torch.full((len(cells.pair),), torch.nan, dtype=torch.float64, device=sources.device)
        for measure in measures
        if measure.from_waveforms is not None
    }
    for rows in cells.passes(queries_per_pass):
        mixtures = cells.pair_mixture[rows]
        with precision():
            estimates = network.extract(features.select(mixtures), cells.pair_query[rows])
        estimates = estimates.double()
        _measure_waveforms(values, measures, batch, cells, estimates, rows.start)
        energies.append(estimates.square().sum(1))
        # pairs are sorted by mixture: each mixture's sources are converted once per pass and multiplied as a matrix
        for mixture, count in zip(*torch.unique_consecutive(mixtures, return_counts=True), strict=True):
            products.append(estimates[:count] @ sources[mixture].double().T)
            estimates = estimates[count:]
    silence = torch.zeros(1, sources.shape[-1], dtype=torch.float64, device=sources.device)
    _measure_waveforms(values, measures, batch, cells, silence, len(cells.pair_mixture))
    nothing = silence[:, :1]
    return Estimates(
        torch.cat([*energies, nothing[0]]), torch.cat([*products, nothing.expand(1, sources.shape[1])]), values
    )


def _measure_waveforms(
    values: dict[str, Tensor],
    measures: Sequence[Measure],
    batch: Batch,
    cells: Cells,
    estimates: Tensor,
    first_pair: int,
) -> None:
    """Enter the measures that need waveforms for the cells of consecutive pairs.

    Args:
        values: by measure, ``[cells]``; changed in place.
        measures: measures of the grid.
        batch: batch with the keys for evaluation.
        cells: cells of the grid.
        estimates: ``[pairs of this pass, samples]``, float64.
        first_pair: number of the first of these pairs.
    """
    if not values:
        return
    of_pass = torch.nonzero((cells.pair >= first_pair) & (cells.pair < first_pair + len(estimates)))[:, 0]
    for cell in of_pass.tolist():
        mixture = int(cells.place[0][cell])
        target = batch["sources"][mixture, : int(cells.num_queried[cell])].double().sum(0)
        estimate = estimates[cells.pair[cell] - first_pair]
        for measure in measures:
            if measure.from_waveforms is not None:
                signals = (estimate, target, batch["mixture"][mixture].double())
                values[measure.name][cell] = measure.from_waveforms(*(signal[None] for signal in signals))[0].double()
