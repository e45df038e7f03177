"""Spectrograms of mixtures, sources and extractions, all on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_WINDOW_SECONDS = 0.032
RANGE_DB = 70.0  # below the loudest bin; what is fainter is drawn as the darkest colour


def spectrogram_db(signal: np.ndarray, rate: int) -> np.ndarray:
    """Return levels in dB re a sine of full scale, ``[frequencies, frames]``.

    Args:
        signal: ``[samples]``.
        rate: Hz.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    >>> spectrogram_db(tone, 8000).shape, bool(abs(spectrogram_db(tone, 8000).max()) < 0.01)
    ((129, 126), True)
    """
    window = torch.hann_window(4 * hop_samples(rate))
    spectrum = torch.stft(torch.from_numpy(signal), len(window), hop_samples(rate), window=window, return_complex=True)
    amplitude = spectrum.abs() * 2 / window.sum()
    return (20 * torch.log10(amplitude + 1e-10)).numpy()


def draw_spectrogram(panel: Axes, signal: np.ndarray, rate: int, loudest: float) -> AxesImage:
    """Draw a spectrogram; time in seconds, frequency in kHz.

    Args:
        panel: to draw in.
        signal: ``[samples]``.
        rate: Hz.
        loudest: level of the brightest colour, dB re a sine of full scale.
    """
    levels = spectrogram_db(signal, rate)
    bin_khz = rate / 2000 / (len(levels) - 1)
    hop_seconds = hop_samples(rate) / rate
    image = panel.imshow(
        levels,
        origin="lower",
        aspect="auto",
        extent=(-0.5 * hop_seconds, (levels.shape[1] - 0.5) * hop_seconds, -0.5 * bin_khz, rate / 2000 + 0.5 * bin_khz),
        cmap="viridis",
        vmin=loudest - RANGE_DB,
        vmax=loudest,
    )
    panel.set(xlim=(0, len(signal) / rate), ylim=(0, rate / 2000))
    return image


def hop_samples(rate: int) -> int:
    """Return how far apart frames are, in samples; a window is four times as long."""
    return round(_WINDOW_SECONDS / 4 * rate)
