"""One recording on its way through the network, block by block, and the decisions about its classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tse_refine.extraction.events import Event, WindowFrames, find_events, thinned
from tse_refine.extraction.resampling import rate_ratio, resample
from tse_refine.extraction.windows import RefineQueries, WindowedNetwork
from tse_refine.refinement import KEPT_WEIGHT, NoRefinement, Refinement

DecisionScope = Literal["window", "file"]


@dataclass(frozen=True, eq=False)
class Decision:
    """What a refinement left of a query in a recording.

    Attributes:
        query: queried classes.
        refinement: rule that refined the query; :class:`~tse_refine.refinement.NoRefinement` without a classifier.
        probability: largest probability of each class over windows and channels, in [0, 1]; empty without a classifier.
        weight: largest weight of each queried class in the refined queries of the windows, in [0, 1].
        window_share: share of windows in which a class's weight is at least 0.5, in [0, 1]; for a class that is not
            queried, its weight in a query for it alone. Empty without a classifier.
        events: when classes sound, of every class, in the order in which they begin
            (:func:`tse_refine.extraction.events.find_events`); empty without a classifier.
    """

    query: tuple[str, ...]
    refinement: Refinement
    probability: Mapping[str, float]
    weight: Mapping[str, float]
    window_share: Mapping[str, float]
    events: tuple[Event, ...]

    @property
    def refined_query(self) -> tuple[str, ...]:
        """Classes that are kept: those whose weight is at least 0.5 in one window or more."""
        return tuple(name for name, weight in self.weight.items() if weight >= KEPT_WEIGHT)

    @property
    def is_silent(self) -> bool:
        """Whether nothing of the query is left in any window, so that the estimate is exact silence."""
        return not any(self.weight.values())

    @property
    def threshold(self) -> float | str | None:
        """The refinement as options write it: a number for a hard threshold; None where the query is used as it is."""
        return None if isinstance(self.refinement, NoRefinement) else self.refinement.option


def num_passes(refinement: Refinement, scope: DecisionScope) -> int:
    """Return how often a recording is read: a decision for the whole file needs a pass of its own."""
    return 2 if scope == "file" and refinement.needs_classifier else 1


class ExtractionStream:
    """Extracts several queries from a recording, with a few windows of it in memory at a time.

    Iterating yields consecutive parts of the recording and their estimates: the mixture ``[channels, samples]`` and
    the estimates ``[queries, channels, samples]``, both at the recording's sample rate.

    Args:
        network: network that extracts window by window.
        blocks: function that restarts the recording and returns its consecutive parts ``[channels, samples]`` in
            float32.
        sample_rate: sample rate of the recording, Hz.
        queries: names of classes.
        refinement: rule that refines the queries.
        scope: refine per window, or once for the whole recording by the largest probability of each class.
    """

    def __init__(
        self,
        network: WindowedNetwork,
        blocks: Callable[[], Iterable[Tensor]],
        sample_rate: int,
        queries: Sequence[tuple[str, ...]],
        refinement: Refinement,
        scope: DecisionScope,
    ) -> None:
        self.refinement = refinement
        self.passes = num_passes(refinement, scope)
        self._network = network
        self._class_names = network.trained.class_names
        self._blocks = blocks
        self._ratio = rate_ratio(sample_rate, network.trained.sample_rate)
        self._query_names = queries
        self._queries = torch.tensor([[float(name in query) for name in self._class_names] for query in queries])
        self._reset()

    def _reset(self) -> None:
        """Begin a pass: nothing is known of the windows."""
        self._num_windows = 0
        self._largest = torch.zeros(len(self._class_names))  # probability of each class
        self._weight = torch.zeros_like(self._queries)  # largest in the refined queries, [queries, classes]
        self._num_kept = torch.zeros_like(self._queries)  # windows by query and class, as for Decision.window_share
        self._frames: list[WindowFrames] = []

    @property
    def probability(self) -> dict[str, float]:
        """Largest probability of each class over the windows and channels so far; empty without a classifier."""
        return self._by_class(self._largest) if self._num_windows else {}

    def decisions(self) -> list[Decision]:
        """Return what the refinement left of each query in the windows so far."""
        weight = self._queries
        shares: list[dict[str, float]] = [{} for _ in self._query_names]
        if self._num_windows:
            weight = self._weight if self.passes == 1 else self._refine(self._queries, self._largest[None])[0]
            shares = [self._by_class(num_kept / self._num_windows) for num_kept in self._num_kept]
        events = self.events()
        return [
            Decision(names, self.refinement, self.probability, {name: weights[name] for name in names}, share, events)
            for names, weights, share in zip(self._query_names, map(self._by_class, weight), shares, strict=True)
        ]

    def events(self) -> tuple[Event, ...]:
        """Return when classes sound in the windows so far."""
        rate = self._network.trained.sample_rate
        return find_events(self._frames, self._network.hop, rate, self._class_names)

    def estimate_probabilities(self) -> None:
        """Read the recording once for the probabilities alone."""
        self._reset()
        for probability in self._network.probabilities(resample(self._blocks(), self._ratio), self._keep_frames):
            self._count(probability)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.passes == 1:
            self._reset()
            return self._extract(self._refine_windows)
        self.estimate_probabilities()
        assert self._num_windows, "a refinement that needs a classifier is used with one"
        refined = self._refine(self._queries, self._largest[None])
        return self._extract(lambda _: refined) if refined.any() else self._silence()

    def _extract(self, refine_queries: RefineQueries) -> Iterator[tuple[Tensor, Tensor]]:
        pending: list[Tensor] = []  # blocks of the recording that have no estimate yet

        def recording() -> Iterator[Tensor]:
            for block in self._blocks():
                pending.append(block)
                yield block

        self._frames.clear()
        estimates = self._network.extract(resample(recording(), self._ratio), refine_queries, self._keep_frames)
        for estimate in resample(estimates, 1 / self._ratio):
            mixture = torch.cat(pending, dim=-1)
            length = min(estimate.shape[-1], mixture.shape[-1])  # the end may be longer, by less than a sample's span
            pending[:] = [mixture[..., length:]]
            if length:
                yield mixture[..., :length], estimate[..., :length]

    def _keep_frames(self, start: int, samples: int, probability: Tensor) -> None:
        self._frames.append(thinned(start, samples, probability, self._network.trained.sample_rate))

    def _silence(self) -> Iterator[tuple[Tensor, Tensor]]:
        for block in self._blocks():
            yield block, torch.zeros(len(self._queries), *block.shape)

    def _refine_windows(self, probability: Tensor | None) -> Tensor:
        """Refine the queries for several windows, ``[windows, queries, classes]``."""
        return self._queries[None] if probability is None else self._count(probability)

    def _refine(self, queries: Tensor, probability: Tensor) -> Tensor:
        """Refine queries ``[queries, classes]`` by probabilities ``[windows, classes]``."""
        return self.refinement(queries[None], probability[:, None]).expand(len(probability), -1, -1)

    def _count(self, probability: Tensor) -> Tensor:
        """Add windows to the statistics, and return their refined queries ``[windows, queries, classes]``."""
        refined = self._refine(self._queries, probability)
        alone = self._refine(torch.eye(len(self._class_names)), probability).diagonal(dim1=1, dim2=2)
        kept = torch.where(self._queries > 0, refined, alone[:, None]) >= KEPT_WEIGHT  # [windows, queries, classes]
        self._num_windows += len(probability)
        self._largest = torch.maximum(self._largest, probability.amax(0))
        self._weight = torch.maximum(self._weight, refined.amax(0))
        self._num_kept += kept.sum(0)
        return refined

    def _by_class(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self._class_names, values.tolist(), strict=True))
