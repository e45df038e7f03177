"""Overlapping windows of a signal that arrives block by block, and their sum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def cut_windows(blocks: Iterable[Tensor], length: int, hop: int, at_once: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Cut a signal that arrives in blocks into windows.

    Every window is full: the last one begins earlier than its turn, so that it ends with the signal. A signal shorter
    than a window is one window of its own length.

    Args:
        blocks: consecutive parts ``[..., samples]`` of any lengths.
        length: of a window, samples.
        hop: from a window's beginning to the next one's, samples, at most the length.
        at_once: windows that are given together.

    Yields:
        Where the first of some windows begins, and these windows ``[windows, ..., samples]``, a hop apart.

    >>> [(start, len(windows)) for start, windows in cut_windows([torch.zeros(1, 11)], length=4, hop=2, at_once=3)]
    [(0, 3), (6, 1), (7, 1)]
    """
    buffer: Tensor | None = None
    begin = turn = 0  # where the buffer begins, and the next window
    for block in blocks:
        buffer = block if buffer is None else torch.cat([buffer, block], dim=-1)
        while begin + buffer.shape[-1] >= turn + length + (at_once - 1) * hop:
            yield turn, _unfolded(buffer[..., turn - begin :], length, hop)[:at_once]
            turn += at_once * hop
        keep = max(begin, turn - hop)  # the last window begins after the one before it
        buffer, begin = buffer[..., keep - begin :], keep
    if buffer is None:
        return
    end = begin + buffer.shape[-1]
    if end >= turn + length:
        windows = _unfolded(buffer[..., turn - begin :], length, hop)
        yield turn, windows
        turn += len(windows) * hop
    covered = turn - hop + length if turn else 0
    if end > covered:
        start = max(0, end - length)
        yield start, buffer[None, ..., start - begin :]


def overlap_add(windows: Iterable[tuple[int, Tensor]], hop: int, overlap: int) -> Iterator[Tensor]:
    """Put a signal together from its windows, crossfaded where they overlap.

    Each window fades in and out along a squared sine. The sum is divided by the sum of the fades, so that they add up
    to one everywhere, also at the signal's ends and where the last window overlaps more.

    Args:
        windows: as :func:`cut_windows` gives them.
        hop: the same as there.
        overlap: over how many samples windows fade, at most their overlap.

    Yields:
        Consecutive parts of the signal, ``[..., samples]``.

    >>> windows = cut_windows([torch.arange(7.0)], length=4, hop=2)
    >>> torch.cat(list(overlap_add(windows, hop=2, overlap=2))).round(decimals=5)
    tensor([0., 1., 2., 3., 4., 5., 6.])
    """
    total: Tensor | None = None
    weight = torch.zeros(0)
    begin = 0  # of what has not been given yet
    for start, some in windows:
        fade = _fade(some.shape[-1], overlap)
        for place, window in enumerate(some):
            at = start + place * hop - begin
            total = window.new_zeros(*window.shape[:-1], 0) if total is None else total
            if at > 0:  # no later window begins before this one
                yield total[..., :at] / weight[:at]
                total, weight, begin = total[..., at:], weight[at:], begin + at
            longer = window.shape[-1] - len(weight)
            total = torch.nn.functional.pad(total, (0, longer))
            weight = torch.nn.functional.pad(weight, (0, longer))
            total += window * fade
            weight += fade
    if total is not None:
        yield total / weight


def _unfolded(signal: Tensor, length: int, hop: int) -> Tensor:
    """Return all full windows of a signal, ``[windows, ..., length]``."""
    return signal.unfold(-1, length, hop).movedim(-2, 0)


def _fade(length: int, overlap: int) -> Tensor:
    """Return a window's weights, ``[length]``, in (0, 1]: opposite fades of two neighbours add up to one."""
    place = torch.arange(length, dtype=torch.float64) + 0.5
    nearest_end = torch.minimum(place, length - place)
    return torch.sin(0.5 * math.pi * (nearest_end / max(1, overlap)).clamp(max=1.0)).square().float()
