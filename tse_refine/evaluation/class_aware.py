"""The class-aware SDR improvement (CA-SDRi): labels and extractions of a system in one number, as DCASE Task 4 ranks.

A system that gets no query estimates the label set of a mixture with its classifier and extracts each of these classes
alone. The measure of one mixture, with true classes C and estimated classes C', is

    CA-SDRi = 1 / |C u C'|  sum of P_c over C u C',    P_c = SDRi of class c where it is in both, else 0 dB

so that a missed class and a false one lower the mean alike (Yasuda et al. 2025, arXiv 2506.10676). SDR is the plain
ratio 10 log10(||s||^2 / ||s - e||^2), without a scale or a filter, which the package calls SNR, as in the public
baselines of 2025 and 2026. The measure of 2026, CAPI-SDRi (arXiv 2604.00776), also assigns several sources of one class
to their estimates. Here a class has one source in a mixture, and both are the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tse_refine.data.dataset import Batch
from tse_refine.evaluation.metrics import SNRI, Energies
from tse_refine.refinement import KEPT_WEIGHT, Refinement


def class_aware_sdri_db(sdri_db: Tensor, estimated: Tensor, active: Tensor) -> Tensor:
    """Return the CA-SDRi of mixtures, ``[...]``; NaN where both label sets are empty, which no mean counts.

    Args:
        sdri_db: SDR improvement of each class extracted alone, ``[..., classes]``; used where it is in both sets.
        estimated: whether the class is in the estimated label set, ``[..., classes]``.
        active: whether it is in the mixture, ``[..., classes]``.

    >>> estimated = torch.tensor([[True, True, False], [False, False, False]])
    >>> active = torch.tensor([[True, False, True], [False, False, False]])
    >>> class_aware_sdri_db(torch.tensor([9.0, 9.0, 9.0]), estimated, active)  # one right, one false, one missed
    tensor([3., nan])
    """
    gained = torch.where(estimated & active, sdri_db, 0.0)
    return gained.sum(-1) / (estimated | active).sum(-1)


class SingleQueries(NamedTuple):
    """Queries of one class each: the active classes that refinements keep. Others need no extraction to count 0 dB.

    Attributes:
        estimated: whether a class is in the estimated label set, ``[batch, refinements, classes]``.
        active: whether it is in the mixture, ``[batch, 1, classes]``.
        place: mixture, refinement and class of each query, three of ``[queries]``.
        query: the class with its weight in the refined query, ``[queries, classes]``.
    """

    estimated: Tensor
    active: Tensor
    place: tuple[Tensor, ...]
    query: Tensor

    @staticmethod
    def of(refinements: Sequence[Refinement], probability: Tensor | None, activity: Tensor) -> SingleQueries:
        """Find the queries of a batch.

        Args:
            refinements: refinements that decide class by class.
            probability: clip-level, ``[batch, classes]``; None without a classifier.
            activity: 1 for an active class, ``[batch, classes]``.
        """
        weights = activity.new_zeros((len(activity), len(refinements), activity.shape[1]))
        for number, rule in enumerate(refinements):
            weights[:, number] = rule(torch.ones_like(activity), probability)
        estimated, active = weights >= KEPT_WEIGHT, activity[:, None] > 0
        place = torch.nonzero(estimated & active, as_tuple=True)
        query = torch.zeros_like(weights[place[:2]])
        query.scatter_(1, place[2][:, None], weights[place][:, None])
        return SingleQueries(estimated, active, place, query)

    @property
    def rows(self) -> Tensor:
        """Mixture and query in one row each, ``[queries, 1 + classes]``."""
        return torch.cat([self.place[0][:, None].to(self.query), self.query], dim=1)

    def measure(self, batch: Batch, energy: Tensor, products: Tensor) -> Tensor:
        """Return the CA-SDRi of each mixture and refinement, ``[batch, refinements]``.

        Args:
            batch: batch with the keys for evaluation.
            energy: ||e||^2 of each query's estimate, ``[queries]``.
            products: <e, source>, ``[queries, events]``.
        """
        sdri = torch.zeros(self.estimated.shape, dtype=torch.float64, device=energy.device)
        if len(energy):
            sdri[self.place] = self._sdri_db(batch, energy, products)
        return class_aware_sdri_db(sdri, self.estimated, self.active)

    def _sdri_db(self, batch: Batch, energy: Tensor, products: Tensor) -> Tensor:
        """Return the SDR improvement of each query, ``[queries]``."""
        sources, mixture = batch["sources"].double(), batch["mixture"].double()
        mixture_energy = mixture.square().sum(1)
        unprocessed = Energies(  # the mixture as its own estimate, [batch, events]
            sources.square().sum(2),
            mixture_energy[:, None],
            torch.einsum("bet,bt->be", sources, mixture),
            mixture_energy[:, None],
        )
        numbers, _, classes = self.place
        # the number of a class's source: sources come in the order in which they are queried
        events = batch["query_order"].argsort(1)[numbers, classes]
        extracted = Energies(
            unprocessed.target[numbers, events],
            energy,
            products.gather(1, events[:, None])[:, 0],
            mixture_energy[numbers],
        )
        assert SNRI.from_energies is not None
        return SNRI.from_energies(extracted) - SNRI.from_energies(unprocessed)[numbers, events]
