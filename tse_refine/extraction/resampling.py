"""Resampling of a recording that arrives block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import torch
from torch import Tensor
from torchaudio.transforms import Resample

_FILTER_WIDTH, _ROLLOFF = 6, 0.99  # torchaudio's own, with which the training's recordings were resampled
_MOST_TERMS = 1_000_000  # product of a ratio's two terms: torchaudio's filter holds about as many numbers


def rate_ratio(source_rate: int, target_rate: int) -> Fraction:
    """Return how many samples of the target rate one of the source rate is.

    Rates without a large common divisor (44,101 and 16,000 Hz) would need a filter of gigabytes. Their ratio is rounded
    to a simpler one: the network then hears the recording up to 0.05 % (a hundredth of a semitone) higher or lower.
    Resampling back by the inverse puts every sample where it was.

    >>> rate_ratio(44_100, 16_000), rate_ratio(44_101, 16_000)
    (Fraction(160, 441), Fraction(554, 1527))
    """
    exact = Fraction(target_rate, source_rate)
    if exact.numerator * exact.denominator <= _MOST_TERMS:
        return exact
    return exact.limit_denominator(math.isqrt(int(_MOST_TERMS / exact)))


def resampled(blocks: Iterable[Tensor], ratio: Fraction) -> Iterator[Tensor]:
    """Resample a signal that arrives in blocks, as if it had come whole.

    The filter has a finite reach. Each block is resampled with that much of its neighbours, cut where a sample of the
    one rate falls on one of the other. Filters are symmetric, so nothing is delayed.

    Args:
        blocks: consecutive parts ``[..., samples]`` of any lengths.
        ratio: of :func:`rate_ratio`.

    Yields:
        Consecutive parts of the result, ``ceil(ratio * samples)`` long in all.

    >>> parts = resampled(torch.ones(1, 1000).split(300, dim=-1), Fraction(1, 2))
    >>> torch.cat(list(parts), dim=-1).shape
    torch.Size([1, 500])
    """
    if ratio == 1:
        yield from blocks
        return
    step, new_step = ratio.denominator, ratio.numerator  # so many samples become so many
    resample = Resample(step, new_step, lowpass_filter_width=_FILTER_WIDTH, rolloff=_ROLLOFF)
    reach = math.ceil(_FILTER_WIDTH / _ROLLOFF * max(1.0, float(1 / ratio)))
    margin = math.ceil(reach / step) + 1  # in steps
    buffer: Tensor | None = None
    before = 0  # steps at the beginning of the buffer that are done, and kept as context
    for block in blocks:
        buffer = block if buffer is None else torch.cat([buffer, block], dim=-1)
        steps = buffer.shape[-1] // step - before - margin
        if steps < 1:
            continue
        end = before + steps
        yield resample(buffer[..., : (end + margin) * step])[..., before * new_step : end * new_step]
        drop = max(0, end - margin)
        buffer, before = buffer[..., drop * step :], end - drop
    if buffer is not None and buffer.shape[-1] > before * step:
        yield resample(buffer)[..., before * new_step :]
