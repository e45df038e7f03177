"""What figures share: matplotlib where it is installed, panels, colours, and spectrograms on one scale."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tse_refine.errors import InputError
from tse_refine.refinement import Gate, NoRefinement, Oracle, Refinement, Threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito's
MARKERS = "osv^DPX"
RANGE_DB = 70.0  # below the loudest bin; fainter bins have the darkest colour
_LINES = ("-", "--", ":", "-.")
_REFERENCE_STYLES: dict[type[Refinement], dict[str, Any]] = {
    NoRefinement: {"color": "#000000", "linestyle": "-", "marker": "o"},
    Oracle: {"color": "#000000", "linestyle": "--", "marker": ""},
    Gate: {"color": "#999999", "linestyle": ":", "marker": "s"},
}
_WINDOW_SECONDS = 0.032


def require_matplotlib() -> None:
    """Raise an :class:`InputError` that names the package to install where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise InputError(
            "Figures need matplotlib, which is not installed; install it with `pip install 'tse-refine[report]'`."
        ) from None


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1, sharey: bool = True) -> tuple[Figure, Any]:
    """Return a figure and its panel, or an array of its panels.

    Args:
        width: width in inches.
        height: height in inches.
        columns: panels side by side.
        rows: panels below one another, which share their x axis.
        sharey: whether panels share their y axis.

    Raises:
        InputError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=rows > 1, sharey=sharey)


def finish(panel: Axes, grid: str = "both") -> None:
    """Give a panel its grid lines, ``x`` or ``both``, and remove its upper and right frame."""
    panel.grid(axis=grid, alpha=0.3)  # type: ignore[arg-type]
    panel.spines[["top", "right"]].set_visible(False)


def add_legend(panel: Axes, title: str | None = None, beside: bool = False) -> None:
    """Add a legend to a panel, beside it on request or with more than six lines."""
    options: dict[str, Any] = {"frameon": False, "fontsize": 8, "title": title}
    figure = panel.get_figure(root=True)
    if figure is not None and (beside or len(panel.get_legend_handles_labels()[0]) > 6):
        figure.set_figwidth(1.35 * figure.get_figwidth())
        options |= {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
    panel.legend(**options)


def numbered_style(number: int) -> dict[str, Any]:
    """Return the look of the line of a method or system by its number, from 0."""
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": _LINES[number % len(_LINES)], "markersize": 5}


def refinement_styles(refinements: Iterable[Refinement]) -> dict[str, dict[str, Any]]:
    """Return the look of the line of each refinement by its name, the same in every panel."""
    colours = (*COLOURS[:-1], "#F0E442")  # black is the raw query's
    thresholds, others = (zip(cycle(colours), cycle(markers), strict=False) for markers in ("^vDPX<", "<X>vPD"))
    styles: dict[str, dict[str, Any]] = {}
    for rule in refinements:
        if type(rule) in _REFERENCE_STYLES:
            styles[rule.name] = _REFERENCE_STYLES[type(rule)]
        elif rule.name not in styles:
            colour, marker = next(thresholds if isinstance(rule, Threshold) else others)
            styles[rule.name] = {"color": colour, "marker": marker}
            if not isinstance(rule, Threshold):
                styles[rule.name] |= {"linestyle": "-.", "markerfacecolor": "white"}
    return styles


def spectrogram_db(signal: np.ndarray, rate: int) -> np.ndarray:
    """Return levels in dB re a sine of full scale, ``[frequencies, frames]``.

    Args:
        signal: waveform, ``[samples]``.
        rate: sample rate, Hz.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000).astype(np.float32)
    >>> spectrogram_db(tone, 8000).shape, bool(abs(spectrogram_db(tone, 8000).max()) < 0.01)
    ((129, 126), True)
    """
    window = torch.hann_window(4 * hop_samples(rate))
    spectrum = torch.stft(torch.from_numpy(signal), len(window), hop_samples(rate), window=window, return_complex=True)
    amplitude = spectrum.abs() * 2 / window.sum()
    return (20 * torch.log10(amplitude + 1e-10)).numpy()


def plot_spectrogram(panel: Axes, signal: np.ndarray, rate: int, loudest: float) -> AxesImage:
    """Plot a spectrogram; time in seconds, frequency in kHz.

    Args:
        panel: panel to plot in.
        signal: waveform, ``[samples]``.
        rate: sample rate, Hz.
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
    """Return the distance between frames in samples; a window is four times as long."""
    return round(_WINDOW_SECONDS / 4 * rate)
