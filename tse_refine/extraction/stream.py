"""One recording on its way through the network, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tse_refine.extraction.query import parse_query
from tse_refine.extraction.resampling import rate_ratio, resampled
from tse_refine.extraction.windowed_network import Keep, WindowedNetwork
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.refinement import refine


class Heard(NamedTuple):
    """What is known of the windows that have been heard.

    Attributes:
        largest: probability of each class, ``[classes]``.
        reached: number of windows in which it reaches the threshold, ``[classes]``.
        windows: number of all.
    """

    largest: Tensor
    reached: Tensor
    windows: int

    def joined(self, other: Heard) -> Heard:
        """Return what is known of both."""
        return Heard(
            torch.maximum(self.largest, other.largest), self.reached + other.reached, self.windows + other.windows
        )


class ExtractionStream:
    """Extracts several queries from a recording, holding a few windows of it at a time.

    Iterating gives consecutive parts of the recording and what was extracted from them: the mixture
    ``[channels, samples]`` and the estimates ``[queries, channels, samples]``, both at the recording's rate.

    Args:
        network: extracts window by window.
        trained: the same network and what is known of it.
        blocks: begins the recording anew, and gives its consecutive parts ``[channels, samples]`` in float32.
        sample_rate: the recording's, Hz.
        queries: names of classes.
        threshold: a class stays in its query where its probability reaches this; None to keep all.
        per_window: decide that for each window, instead of once for the whole recording in a pass of its own.

    Attributes:
        threshold: as given.
        passes: how often the recording is read.
    """

    def __init__(
        self,
        network: WindowedNetwork,
        trained: TrainedNetwork,
        blocks: Callable[[], Iterable[Tensor]],
        sample_rate: int,
        queries: Sequence[tuple[str, ...]],
        threshold: float | None,
        per_window: bool,
    ) -> None:
        self.threshold = threshold
        self.passes = 1 if threshold is None or per_window else 2
        self._network = network
        self._class_names = trained.class_names
        self._blocks = blocks
        self._ratio = rate_ratio(sample_rate, trained.sample_rate)
        self._queries = torch.tensor([[float(name in query) for name in self._class_names] for query in queries])
        self._heard: Heard | None = None

    @property
    def probability(self) -> dict[str, float]:
        """Each class's largest probability over the windows and channels heard so far; empty without a classifier."""
        return {} if self._heard is None else self._named(self._heard.largest)

    @property
    def window_share(self) -> dict[str, float]:
        """The share of windows in which a class's probability reaches the threshold; empty without a classifier."""
        return {} if self._heard is None else self._named(self._heard.reached / self._heard.windows)

    def refined(self, query: str | Sequence[str]) -> tuple[str, ...]:
        """Return the classes of a query that were kept, in one window at least."""
        share = self.window_share
        return tuple(name for name in parse_query(query, self._class_names) if share.get(name, 1.0))

    def listen(self) -> None:
        """Read the recording once for the probabilities alone."""
        self._heard = None
        for probability in self._network.probabilities(resampled(self._blocks(), self._ratio)):
            self._note(probability)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.passes == 1:
            self._heard = None
            return self._extracted(self._kept_and_noted)
        self.listen()
        kept = self._kept(None if self._heard is None else self._heard.largest)
        return self._extracted(lambda _: kept) if (self._queries * kept).any() else self._silence()

    def _extracted(self, keep: Keep) -> Iterator[tuple[Tensor, Tensor]]:
        waiting: list[Tensor] = []  # of the recording, until its estimate is there

        def remembered() -> Iterator[Tensor]:
            for block in self._blocks():
                waiting.append(block)
                yield block

        estimates = self._network.extract(resampled(remembered(), self._ratio), self._queries, keep)
        for estimate in resampled(estimates, 1 / self._ratio):
            mixture = torch.cat(waiting, dim=-1)
            length = min(estimate.shape[-1], mixture.shape[-1])  # the end may be longer, by less than a sample spans
            waiting[:] = [mixture[..., length:]]
            if length:
                yield mixture[..., :length], estimate[..., :length]

    def _silence(self) -> Iterator[tuple[Tensor, Tensor]]:
        for block in self._blocks():
            yield block, torch.zeros(len(self._queries), *block.shape)

    def _kept(self, probability: Tensor | None) -> Tensor:
        """Return one for each class that stays and zero for others, ``[..., classes]``."""
        everything = torch.ones(1, len(self._class_names))
        if probability is None or self.threshold is None:
            return everything
        return refine(everything, probability, self.threshold)

    def _kept_and_noted(self, probability: Tensor | None) -> Tensor:
        """Decide for some windows, ``[windows, classes]``."""
        if probability is not None:
            self._note(probability)
        return self._kept(probability)

    def _note(self, probability: Tensor) -> None:
        here = Heard(probability.amax(0), self._kept(probability).sum(0), len(probability))
        self._heard = here if self._heard is None else self._heard.joined(here)

    def _named(self, values: Tensor) -> dict[str, float]:
        return dict(zip(self._class_names, values.tolist(), strict=True))
