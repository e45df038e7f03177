"""One recording on its way through the network, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from tse_refine.checkpoint import TrainedNetwork
from tse_refine.extraction.resampling import rate_ratio, resampled
from tse_refine.extraction.windowed_network import Keep, WindowedNetwork
from tse_refine.refinement import refine


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
        self._largest: Tensor | None = None  # probability over all that has been heard, [classes]

    @property
    def probability(self) -> dict[str, float]:
        """Each class's largest probability over the windows and channels heard so far; empty without a classifier."""
        if self._largest is None:
            return {}
        return dict(zip(self._class_names, self._largest.tolist(), strict=True))

    def refined(self, query: Sequence[str]) -> tuple[str, ...]:
        """Return the classes of a query that were kept, in one window at least."""
        if self._largest is None or self.threshold is None:
            return tuple(query)
        kept = dict(zip(self._class_names, (self._largest >= self.threshold).tolist(), strict=True))
        return tuple(name for name in query if kept[name])

    def listen(self) -> None:
        """Read the recording once for the probabilities alone."""
        self._largest = self._network.largest_probability(resampled(self._blocks(), self._ratio))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        keep = self._keep_and_note
        if self.passes == 2:
            self.listen()
            kept = self._keep(self._largest)
            if not (self._queries * kept).any():
                return self._silence()
            keep = lambda _: kept  # noqa: E731  the decision has been made
        return self._extracted(keep)

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

    def _keep(self, probability: Tensor | None) -> Tensor:
        """Return one for each class that stays and zero for others, ``[..., classes]``."""
        everything = torch.ones(1, len(self._class_names))
        if probability is None or self.threshold is None:
            return everything
        return refine(everything, probability, self.threshold)

    def _keep_and_note(self, probability: Tensor | None) -> Tensor:
        """Decide for some windows, ``[windows, classes]``."""
        if probability is not None:
            here = probability.amax(0)
            self._largest = here if self._largest is None else torch.maximum(self._largest, here)
        return self._keep(probability)
