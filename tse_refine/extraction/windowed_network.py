"""The network on a recording of any length, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from tse_refine.extraction.windows import cut_windows, overlap_add
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Features

Keep = Callable[[Tensor | None], Tensor]

_SECONDS_AT_ONCE = 24.0  # of sound that goes through the network together


class WindowedNetwork:
    """Estimates classes and extracts from a recording that arrives block by block, at the network's sample rate.

    Windows are as long as the mixtures of the training: the global layer norm, the recurrence and the pooling see a
    whole window, and know no other length. They overlap and are crossfaded. Whether a class sounds is decided for all
    channels together, by its largest probability among them: a mean of the channels could cancel a sound, and decisions
    of their own would let it jump from side to side.

    Args:
        trained: the network.
        overlap: of windows, as a fraction of their length. More than a quarter gains little for its cost
            (docs/extraction.md).
    """

    def __init__(self, trained: TrainedNetwork, overlap: float = 0.25) -> None:
        self.network = trained.network
        self.device = next((weight.device for weight in trained.network.parameters()), torch.device("cpu"))
        stride = trained.network.stride
        # on the grid of the encoder's frames, so that neighbours cut the signal into the same frames
        self.hop = max(1, round((1.0 - overlap) * trained.duration_seconds * trained.sample_rate / stride)) * stride
        self.length = max(self.hop, round(trained.duration_seconds * trained.sample_rate))
        self.rows_at_once = max(1, round(_SECONDS_AT_ONCE / trained.duration_seconds))

    def probabilities(self, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Estimate which classes sound.

        Args:
            blocks: consecutive parts of the recording, ``[channels, samples]``.

        Yields:
            For some windows each, the largest probability among the channels, ``[windows, classes]``; nothing where the
            network has no classifier.
        """
        for _, windows in self._cut(blocks):
            _, probability = self._features(windows)
            if probability is not None:
                yield probability

    def extract(self, blocks: Iterable[Tensor], queries: Tensor, keep: Keep) -> Iterator[Tensor]:
        """Extract what several queries ask for.

        Args:
            blocks: consecutive parts of the recording, ``[channels, samples]``.
            queries: multi-hot, ``[queries, classes]``.
            keep: from the probabilities of some windows, ``[windows, classes]`` (None without a classifier), to the
                classes that stay in their queries, ``[windows, classes]``. What is left with nothing is silent.

        Yields:
            Consecutive parts of the estimates, ``[queries, channels, samples]``, as long as the recording in all.
        """
        estimates = ((start, self._extract(windows, queries, keep)) for start, windows in self._cut(blocks))
        return overlap_add(estimates, self.hop, self.length - self.hop)

    def _cut(self, blocks: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Yield as many windows, ``[windows, channels, samples]``, as go through the network together."""
        blocks = iter(blocks)
        first = next(blocks, None)
        if first is None:
            return
        at_once = max(1, self.rows_at_once // len(first))
        yield from cut_windows(_chained(first, blocks), self.length, self.hop, at_once)

    @torch.no_grad()
    def _features(self, windows: Tensor) -> tuple[list[Features], Tensor | None]:
        """Return features of all rows, some rows each, and the probabilities ``[windows, classes]``."""
        num_windows, channels, _ = windows.shape
        rows = windows.flatten(0, 1)
        features = [self.network.features(some.to(self.device)) for some in rows.split(self.rows_at_once)]
        found = [probability for some in features if (probability := some.probability()) is not None]
        if not found:
            return features, None
        # nothing sounds in digital silence, which no training has, whatever the classifier makes of it
        probability = torch.cat(found).cpu() * rows.any(dim=1, keepdim=True)
        return features, probability.view(num_windows, channels, -1).amax(1)

    @torch.no_grad()
    def _extract(self, windows: Tensor, queries: Tensor, keep: Keep) -> Tensor:
        """Map windows ``[windows, channels, samples]`` to estimates ``[windows, queries, channels, samples]``."""
        num_windows, channels, samples = windows.shape
        features, probability = self._features(windows)
        kept = keep(probability).expand(num_windows, -1)
        asked = (queries * kept[:, None]).repeat_interleave(channels, dim=0)  # [rows, queries, classes]
        estimates = torch.zeros(len(asked), len(queries), samples)
        begin = 0
        for some in features:
            rows = slice(begin, begin + len(some.encoded))
            for number in range(len(queries)):
                query = asked[rows, number]
                answered = query.any(dim=1)
                if answered.any():
                    chosen = some if answered.all() else _chosen(some, answered.to(self.device))
                    estimate = self.network.extract(chosen, query[answered].to(self.device))
                    estimates[rows, number][answered] = estimate.float().cpu()
            begin = rows.stop
        return estimates.view(num_windows, channels, len(queries), samples).transpose(1, 2)


def _chosen(features: Features, rows: Tensor) -> Features:
    logits = None if features.frame_logits is None else features.frame_logits[rows]
    return Features(features.encoded[rows], features.shared[rows], logits, features.length)


def _chained(first: Tensor, blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    yield first
    yield from blocks
