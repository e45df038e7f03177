"""Resampling of a recording that arrives block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import torch
from torch import Tensor
from torchaudio.transforms import Resample

_FILTER_WIDTH, _ROLLOFF = 6, 0.99  # torchaudio's defaults, with which the training's recordings were resampled
_MOST_TERMS = 1_000_000  # product of a ratio's two terms, which is about the size of torchaudio's filter


def rate_ratio(source_rate: int, target_rate: int) -> Fraction:
    """Return the number of samples of the target rate per sample of the source rate.

    Rates without a large common divisor (44,101 and 16,000 Hz) would need a filter of gigabytes. Their ratio is rounded
    to a simpler one, which raises or lowers the pitch by up to 0.05 % (a hundredth of a semitone). Resampling back by
    the inverse restores the position of every sample.

    >>> rate_ratio(44_100, 16_000), rate_ratio(44_101, 16_000)
    (Fraction(160, 441), Fraction(554, 1527))
    """
    exact = Fraction(target_rate, source_rate)
    if exact.numerator * exact.denominator <= _MOST_TERMS:
        return exact
    return exact.limit_denominator(math.isqrt(int(_MOST_TERMS / exact)))


def resample(blocks: Iterable[Tensor], ratio: Fraction) -> Iterator[Tensor]:
    """Resample a signal that arrives in blocks, as if it were resampled whole.

    The filter has a finite reach. Each block is resampled with that much of its neighbours, cut where a sample of one
    rate coincides with one of the other. The filter is symmetric, so nothing is delayed.

    Args:
        blocks: consecutive parts ``[..., samples]`` of any lengths.
        ratio: ratio of the rates, from :func:`rate_ratio`.

    Yields:
        Consecutive parts of the result, ``ceil(ratio * samples)`` long in all.

    >>> parts = resample(torch.ones(1, 1000).split(300, dim=-1), Fraction(1, 2))
    >>> torch.cat(list(parts), dim=-1).shape
    torch.Size([1, 500])
    """
    if ratio == 1:
        yield from blocks
        return
    step, new_step = ratio.denominator, ratio.numerator  # samples per step, before and after
    resampler = Resample(step, new_step, lowpass_filter_width=_FILTER_WIDTH, rolloff=_ROLLOFF)
    reach = math.ceil(_FILTER_WIDTH / _ROLLOFF * max(1.0, float(1 / ratio)))
    margin = math.ceil(reach / step) + 1  # steps
    buffer: Tensor | None = None
    done = 0  # steps at the start of the buffer that have been resampled, and are kept as context
    for block in blocks:
        buffer = block if buffer is None else torch.cat([buffer, block], dim=-1)
        steps = buffer.shape[-1] // step - done - margin
        if steps < 1:
            continue
        end = done + steps
        yield resampler(buffer[..., : (end + margin) * step])[..., done * new_step : end * new_step]
        drop = max(0, end - margin)
        buffer, done = buffer[..., drop * step :], end - drop
    if buffer is not None and buffer.shape[-1] > done * step:
        yield resampler(buffer)[..., done * new_step :]
