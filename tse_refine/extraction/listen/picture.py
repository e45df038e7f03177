"""Spectrogram images without axes, which the page draws around them; all of a session on one colour scale."""

from __future__ import annotations

import base64
import math
from io import BytesIO

import numpy as np

from tse_refine.analysis.plotting import RANGE_DB, hop_samples, spectrogram_db

_COLUMNS = 1024  # at most: no screen shows more per spectrogram
_FRAMES_AT_ONCE = 4096  # half a minute, so that memory does not grow with the recording
_LOWEST_BRIGHTEST_DB = -100.0  # fainter than what 16 bits can hold


class Spectrograms:
    """Spectrogram images of a sound and its estimates, on the sound's colour scale.

    Args:
        waveform: the sound, ``[channels, samples]``.
        rate: Hz.
        top_hz: highest frequency that is shown.

    Attributes:
        brightest_db: level of the brightest colour, dB re full-scale sine.
    """

    def __init__(self, waveform: np.ndarray, rate: int, top_hz: float) -> None:
        self.top_hz = top_hz
        self._rate = rate
        self._waveform = waveform
        levels = level_image(waveform, rate, top_hz)
        self.brightest_db = max(_LOWEST_BRIGHTEST_DB, float(levels.max()))
        self._image = data_uri(levels, self.brightest_db)

    def image(self, waveform: np.ndarray) -> str:
        """Return the image of the sound or of an estimate, ``[channels, samples]``, as a data URI."""
        if waveform is self._waveform:
            return self._image
        return data_uri(level_image(waveform, self._rate, self.top_hz), self.brightest_db)


def level_image(waveform: np.ndarray, rate: int, top_hz: float) -> np.ndarray:
    """Return levels in dB re full-scale sine, ``[frequencies, columns]``, the lowest frequency first.

    Channels are averaged in power, and so are the frames of each column.

    Args:
        waveform: ``[channels, samples]``.
        rate: Hz.
        top_hz: highest frequency that is shown.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(80_000) / 8000).astype(np.float32)
    >>> levels = level_image(tone[None], 8000, 2000)
    >>> levels.shape, round(float(levels.max()), 1)
    ((65, 626), -0.0)
    """
    hop = hop_samples(rate)
    num_frames = 1 + waveform.shape[-1] // hop
    num_rows = 1 + min(2 * hop, int(top_hz * 4 * hop / rate))
    per_column = math.ceil(num_frames / _COLUMNS)
    step = per_column * max(1, _FRAMES_AT_ONCE // per_column)
    padded = np.pad(waveform, ((0, 0), (0, 4 * hop)))  # by a window: also the shortest sound has a spectrum
    parts = []
    for first in range(0, num_frames, step):
        count = min(step, num_frames - first)
        levels = [
            spectrogram_db(np.ascontiguousarray(channel), rate)[:num_rows, :count]
            for channel in padded[:, first * hop : (first + count + 3) * hop]
        ]
        power = np.mean([10.0 ** (0.1 * level) for level in levels], axis=0)
        starts = np.arange(0, count, per_column)
        parts.append(np.add.reduceat(power, starts, axis=1) / np.diff([*starts, count]))
    return 10.0 * np.log10(np.concatenate(parts, axis=1))


def data_uri(levels: np.ndarray, brightest_db: float) -> str:
    """Return levels as the data URI of a PNG image.

    Args:
        levels: ``[frequencies, columns]``, dB.
        brightest_db: level of the brightest colour; the darkest is 70 dB below.
    """
    from PIL import Image  # comes with matplotlib and Gradio, which the page needs

    shade = np.clip(1.0 + (levels - brightest_db) / RANGE_DB, 0.0, 1.0)
    pixels = np.round(255.0 * shade[::-1]).astype(np.uint8)
    image = Image.frombytes("P", pixels.shape[::-1], pixels.tobytes())
    image.putpalette(_colours().tobytes())
    file = BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def gradient() -> str:
    """Return the colour scale as a CSS gradient, from dark to bright."""
    stops = ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in _colours()[:: 255 // 5])
    return f"linear-gradient(to right, {stops})"


def _colours() -> np.ndarray:
    """Return viridis, ``[256, 3]``, from 0 to 255."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.arange(256), bytes=True)[:, :3]
