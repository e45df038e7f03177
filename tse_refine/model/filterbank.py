"""First weights of the encoder and decoder: windowed sinusoids instead of noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_filters(num_filters: int, window: int, sample_rate: int) -> Tensor:
    """Return Hann-windowed sinusoids of random phase, their frequencies evenly spaced on the mel scale.

    An encoder that starts from them resolves frequencies from the first step; one that starts from noise has to learn
    that first. (Compare the multi-phase gammatone filters of Ditter and Gerkmann 2020, arXiv 1910.11615.)

    Args:
        num_filters: number of filters.
        window: length of the filters in samples.
        sample_rate: Hz.

    Returns:
        ``[filters, 1, window]``, each of norm 1 / sqrt(3), as torch's own initialisation of a convolution gives.

    >>> sinusoidal_filters(4, 80, 8000).square().sum(-1).flatten()
    tensor([0.3333, 0.3333, 0.3333, 0.3333])
    """
    half_width = sample_rate / window  # Hz: a filter cannot be centred nearer to 0 or to the Nyquist frequency
    edges = torch.tensor([half_width, sample_rate / 2 - half_width]).clamp(min=1.0)
    low, high = (2595.0 * torch.log10(1.0 + edges / 700.0)).tolist()
    mel = torch.linspace(low, high, num_filters)
    frequency = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)  # [filters]
    phase = 2 * math.pi * torch.rand(num_filters)
    time = torch.arange(window) / sample_rate
    filters = torch.hann_window(window) * torch.cos(2 * math.pi * frequency[:, None] * time + phase[:, None])
    return (filters / filters.norm(dim=1, keepdim=True) / math.sqrt(3.0))[:, None]
