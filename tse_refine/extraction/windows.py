"""The network on a recording of any length: overlapping windows, and their crossfaded sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Literal, get_args

import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.evaluation.events import frame_probability
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Features

RefineQueries = Callable[[Tensor | None], Tensor]
OnFrames = Callable[[int, int, Tensor], None]  # first sample and length of windows, and [windows, classes, frames]
Precision = Literal["32-true", "bf16-mixed"]  # as in Lightning's option trainer.precision

_SECONDS_PER_PASS = 24.0  # of audio that goes through the network together


class WindowedNetwork:
    """Estimates classes and extracts from a recording that arrives block by block, at the network's sample rate.

    Windows are as long as the training mixtures: the global layer norm, the recurrence and the pooling see a whole
    window, and were trained on no other length. They overlap and are crossfaded. A class has one probability for all
    channels, the largest: the mean of the channels could cancel a sound, and one decision per channel would let it jump
    from side to side.

    Args:
        trained: trained network.
        overlap: overlap of windows, as a fraction of their length. More than a quarter gains little for its cost
            (docs/extraction.md).
        precision: precision of the network, ``32-true`` or ``bf16-mixed``; signals are float32 in both.

    Raises:
        InputError: the precision is neither.
    """

    def __init__(self, trained: TrainedNetwork, overlap: float = 0.25, precision: Precision = "32-true") -> None:
        if precision not in get_args(Precision):
            raise InputError(f"precision is {precision!r}; {' or '.join(get_args(Precision))} is expected.")
        self.trained = trained
        self.precision = precision
        self.device = next((weight.device for weight in trained.network.parameters()), torch.device("cpu"))
        stride = trained.network.stride
        # from the start of a window to that of the next one; a multiple of the encoder's frames, so that neighbouring
        # windows cut the signal into the same frames
        self.hop = max(1, round((1.0 - overlap) * trained.duration_seconds * trained.sample_rate / stride)) * stride
        self.length = max(self.hop, round(trained.duration_seconds * trained.sample_rate))
        self.rows_per_pass = max(1, round(_SECONDS_PER_PASS / trained.duration_seconds))

    def probabilities(self, blocks: Iterable[Tensor], on_frames: OnFrames = lambda *_: None) -> Iterator[Tensor]:
        """Estimate which classes are active.

        Args:
            blocks: consecutive parts of the recording, ``[channels, samples]``.
            on_frames: called with the frame probabilities of several windows, the largest among the channels.

        Yields:
            The largest probability among the channels, ``[windows, classes]``, of several windows at a time; nothing
            without a classifier.
        """
        for start, windows in self._cut(blocks):
            _, probability = self._features(start, windows, on_frames)
            if probability is not None:
                yield probability

    def extract(
        self, blocks: Iterable[Tensor], refine_queries: RefineQueries, on_frames: OnFrames = lambda *_: None
    ) -> Iterator[Tensor]:
        """Extract several queries.

        Args:
            blocks: consecutive parts of the recording, ``[channels, samples]``.
            refine_queries: function from the probabilities of several windows, ``[windows, classes]`` (None without a
                classifier), to refined queries, ``[windows, queries, classes]``, or one row for all windows. The
                estimate of an empty refined query is exact silence.
            on_frames: as for :meth:`probabilities`.

        Yields:
            Consecutive parts of the estimates, ``[queries, channels, samples]``, as long as the recording in all.
        """
        estimates = (
            (start, self._extract(start, windows, refine_queries, on_frames)) for start, windows in self._cut(blocks)
        )
        return overlap_add(estimates, self.hop, self.length - self.hop)

    def _cut(self, blocks: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Yield as many windows, ``[windows, channels, samples]``, as go through the network together."""
        blocks = iter(blocks)
        first = next(blocks, None)
        if first is not None:
            windows_per_pass = max(1, self.rows_per_pass // len(first))
            yield from cut_windows(chain([first], blocks), self.length, self.hop, windows_per_pass)

    @torch.no_grad()
    def _features(self, start: int, windows: Tensor, on_frames: OnFrames) -> tuple[list[Features], Tensor | None]:
        """Return the features of all rows, in passes, and the probabilities ``[windows, classes]``."""
        num_windows, channels, samples = windows.shape
        rows = windows.flatten(0, 1)
        with self._lowered():
            features = [self.trained.network.features(part.to(self.device)) for part in rows.split(self.rows_per_pass)]
        estimates = [probability for part in features if (probability := part.probability()) is not None]
        if not estimates:
            return features, None
        # digital silence is in no training, so that a classifier's estimate there means nothing
        sounding = rows.any(dim=1, keepdim=True)
        probability = torch.cat(estimates).cpu() * sounding
        logits = torch.cat([part.frame_logits for part in features if part.frame_logits is not None])
        frames = frame_probability(logits).cpu() * sounding[:, None]  # [rows, frames, classes]
        on_frames(start, samples, frames.view(num_windows, channels, *frames.shape[1:]).amax(1).transpose(1, 2))
        return features, probability.view(num_windows, channels, -1).amax(1)

    @torch.no_grad()
    def _extract(self, start: int, windows: Tensor, refine_queries: RefineQueries, on_frames: OnFrames) -> Tensor:
        """Map windows ``[windows, channels, samples]`` to estimates ``[windows, queries, channels, samples]``."""
        num_windows, channels, samples = windows.shape
        features, probability = self._features(start, windows, on_frames)
        queries = refine_queries(probability).expand(num_windows, -1, -1).repeat_interleave(channels, dim=0)
        estimates = torch.zeros(*queries.shape[:2], samples)  # [rows, queries, samples]
        parts = (features, queries.split(self.rows_per_pass), estimates.split(self.rows_per_pass))
        for part, part_queries, part_estimates in zip(*parts, strict=True):
            for query, estimate in zip(part_queries.unbind(1), part_estimates.unbind(1), strict=True):
                rows = query.any(dim=1)  # the others stay silent
                if rows.any():
                    selected = part if rows.all() else part.select(rows.to(self.device))
                    with self._lowered():
                        sound = self.trained.network.extract(selected, query[rows].to(self.device))
                    estimate[rows] = sound.float().cpu()
        return estimates.view(num_windows, channels, -1, samples).transpose(1, 2)

    def _lowered(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16-mixed" else nullcontext()


def cut_windows(blocks: Iterable[Tensor], length: int, hop: int, at_once: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Cut a signal that arrives in blocks into windows.

    Every window is full: the last one starts less than a hop after the one before it, so that it ends with the signal.
    A signal shorter than a window is one window of its own length.

    Args:
        blocks: consecutive parts ``[..., samples]`` of any lengths.
        length: samples in a window.
        hop: samples from the start of a window to the start of the next one, at most ``length``.
        at_once: largest number of windows per yield.

    Yields:
        The start of the first of several windows, and these windows ``[windows, ..., samples]``, a hop apart.

    >>> [(start, len(windows)) for start, windows in cut_windows([torch.zeros(1, 11)], length=4, hop=2, at_once=3)]
    [(0, 3), (6, 1), (7, 1)]
    """
    buffer: Tensor | None = None
    begin = start = 0  # of the buffer, and of the next window
    for block in blocks:
        buffer = block if buffer is None else torch.cat([buffer, block], dim=-1)
        while begin + buffer.shape[-1] >= start + length + (at_once - 1) * hop:
            yield start, _unfold(buffer[..., start - begin :], length, hop)[:at_once]
            start += at_once * hop
        keep = max(begin, start - hop)  # the last window starts after the one before it
        buffer, begin = buffer[..., keep - begin :], keep
    if buffer is None:
        return
    end = begin + buffer.shape[-1]
    if end >= start + length:
        windows = _unfold(buffer[..., start - begin :], length, hop)
        yield start, windows
        start += len(windows) * hop
    covered = start - hop + length if start else 0
    if end > covered:
        last = max(0, end - length)
        yield last, buffer[None, ..., last - begin :]


def overlap_add(windows: Iterable[tuple[int, Tensor]], hop: int, overlap: int) -> Iterator[Tensor]:
    """Put a signal together from its windows, crossfaded where they overlap.

    Each window fades in and out along a squared sine. The sum is divided by the sum of the fades, so that they add up
    to one everywhere, also at the signal's ends and where the last window overlaps more.

    Args:
        windows: windows as :func:`cut_windows` yields them.
        hop: hop of the windows, samples.
        overlap: length of the crossfade, samples, at most the overlap of the windows.

    Yields:
        Consecutive parts of the signal, ``[..., samples]``.

    >>> windows = cut_windows([torch.arange(7.0)], length=4, hop=2)
    >>> torch.cat(list(overlap_add(windows, hop=2, overlap=2))).round(decimals=5)
    tensor([0., 1., 2., 3., 4., 5., 6.])
    """
    total: Tensor | None = None
    weight = torch.zeros(0)
    begin = 0  # of the sum that has not been yielded
    for start, group in windows:
        fade = _fade(group.shape[-1], overlap)
        for number, window in enumerate(group):
            offset = start + number * hop - begin
            total = window.new_zeros(*window.shape[:-1], 0) if total is None else total
            if offset > 0:  # no later window starts before this one
                yield total[..., :offset] / weight[:offset]
                total, weight, begin = total[..., offset:], weight[offset:], begin + offset
            longer = window.shape[-1] - len(weight)
            total = torch.nn.functional.pad(total, (0, longer))
            weight = torch.nn.functional.pad(weight, (0, longer))
            total += window * fade
            weight += fade
    if total is not None:
        yield total / weight


def _unfold(signal: Tensor, length: int, hop: int) -> Tensor:
    """Return all full windows of a signal, ``[windows, ..., length]``."""
    return signal.unfold(-1, length, hop).movedim(-2, 0)


def _fade(length: int, overlap: int) -> Tensor:
    """Return the weights of a window's samples, ``[length]``, in (0, 1]; fades of two neighbours add up to one."""
    position = torch.arange(length, dtype=torch.float64) + 0.5
    nearest_end = torch.minimum(position, length - position)
    return torch.sin(0.5 * math.pi * (nearest_end / max(1, overlap)).clamp(max=1.0)).square().float()
