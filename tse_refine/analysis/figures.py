"""Figures of finished runs: for print and screen, readable for the colour-blind."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from tse_refine.analysis.decision_tables import mean_scores
from tse_refine.analysis.example import WorkedExample
from tse_refine.analysis.plotting import require_matplotlib
from tse_refine.analysis.spectrogram import draw_spectrogram, spectrogram_db
from tse_refine.analysis.sweeps import SweptRun, by_value
from tse_refine.analysis.systems import SILENT_CONDITION, System, methods
from tse_refine.analysis.threshold_choice import MATCHED, PARTIAL, candidates
from tse_refine.evaluation.conditions import GATE, NONE, ORACLE, Condition, condition_name
from tse_refine.evaluation.results import PER_CLASS_CONDITION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito's
_WORD_STYLE = {
    NONE: {"color": "#000000", "linestyle": "-", "marker": "o"},
    ORACLE: {"color": "#000000", "linestyle": "--", "marker": ""},
    GATE: {"color": "#999999", "linestyle": ":", "marker": "s"},
}
_MARKERS = "osv^DPX"
_LINES = ("-", "--", ":", "-.")


def draw_snri_by_inactive(systems: Sequence[System], threshold: str | None) -> Figure:
    """Draw the paper's Fig. 3: SNRi at (1:i) against i, one line a method; 95 % intervals are shaded.

    Args:
        systems: to compare; those that refine have a line without and one with refinement, a single one also has its
            bound and its gate.
        threshold: at which queries are refined; None where no system refines.
    """
    figure, panel = _figure(6.4, 4.2)
    conditions = sorted(c for c in systems[0].runs[0].grid.conditions if c[0] == 1)
    shown = methods(systems, threshold)
    if sum(system.has_classifier for system in systems) > 1:  # bounds and gates of several would hide what they do
        shown = [one for one in shown if one[2] not in (ORACLE, GATE)]
    for number, (label, system, row) in enumerate(shown):
        points = [(c[1], interval) for c in conditions if (interval := system.mean(c, row)) is not None]
        inactive = [x for x, _ in points]
        style = _style(number)
        panel.plot(inactive, [interval.mean[0] for _, interval in points], label=label, **style)
        low, high = ([getattr(interval, end)[0] for _, interval in points] for end in ("low", "high"))
        panel.fill_between(inactive, low, high, color=style["color"], alpha=0.12, linewidth=0)
    panel.set(xlabel="inactive classes in the query, beside one active", ylabel="SNRi (dB)")
    panel.set_xticks([c[1] for c in conditions])
    return _finished(figure, panel)


def draw_thresholds(systems: Sequence[System]) -> Figure:
    """Draw SNRi at (1:i) against i, one line a threshold, one panel a system; 95 % intervals are shaded."""
    columns = min(3, len(systems))
    rows = math.ceil(len(systems) / columns)
    figure, panels = _figure(1.2 + 4.6 * columns, 4.0 * rows, columns=columns, rows=rows)
    styles = _threshold_styles([t for system in systems for t in system.runs[0].grid.thresholds])
    panels = np.atleast_1d(panels).ravel()
    for panel, system in zip(panels, systems, strict=False):
        _draw_thresholds_of(panel, system, styles)
        panel.set_title(system.name)
        panel.tick_params(labelbottom=True)  # also where no panel stands below
    for panel in panels[len(systems) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel("SNRi (dB)")
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}  # systems may differ in them
    panels[columns - 1].legend(
        lines.values(), lines.keys(), title="threshold δ", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False
    )
    return figure


def draw_trade_off(systems: Sequence[System], partial: Condition = (1, 3)) -> Figure:
    """Draw what refinement loses on fully matched queries against what it wins on partially matched ones.

    One point a threshold; differences to the raw query are paired, bars are their 95 % intervals.

    Args:
        systems: those that refine are drawn; tested with the raw query, at (1:0) and at ``partial``.
        partial: the partially matched condition.
    """
    figure, panel = _figure(6.4, 4.2)
    points: list[tuple[str, float, float]] = []
    for number, system in enumerate(system for system in systems if system.has_classifier):
        thresholds = system.thresholds
        loss = [system.difference(system, (1, 0), threshold, NONE) for threshold in thresholds]
        gain = [system.difference(system, partial, threshold, NONE) for threshold in thresholds]
        x, y = (np.array([one.mean[0] for one in side]) for side in (loss, gain))
        spread = [
            np.array([[m - o.low[0], o.high[0] - m] for m, o in zip(c, s, strict=True)]).T
            for c, s in ((x, loss), (y, gain))
        ]
        panel.errorbar(x, y, xerr=spread[0], yerr=spread[1], label=system.name, elinewidth=1, **_style(number))
        points += zip((f"δ = {threshold}" for threshold in thresholds), x, y, strict=True)
        if system.measured(partial, ORACLE):
            bound = system.difference(system, partial, ORACLE, NONE).mean[0]
            panel.axhline(bound, color=_style(number)["color"], linestyle=":", linewidth=1)
            points.append(("oracle", 0.0, bound))
    panel.axvline(0.0, color="#999999", linewidth=0.8)
    panel.margins(x=0.12)
    _annotate(panel, points)
    panel.set(
        xlabel=f"change of SNRi at {condition_name((1, 0))}, fully matched (dB)",
        ylabel=f"change of SNRi at {condition_name(partial)}, partially matched (dB)",
    )
    return _finished(figure, panel)


def draw_attenuation(systems: Sequence[System], threshold: str | None) -> Figure:
    """Draw the attenuation for queries that match nothing, one bar a method, with 95 % intervals."""
    measured = [(label, system.mean(SILENT_CONDITION, row)) for label, system, row in methods(systems, threshold)]
    shown = [(label, interval) for label, interval in measured if interval is not None]
    figure, panel = _figure(6.4, 0.9 + 0.45 * len(shown))
    for number, (label, interval) in enumerate(shown):
        mean = interval.mean[0]
        spread = [[mean - interval.low[0]], [interval.high[0] - mean]]
        panel.barh(label, mean, xerr=spread, color=_style(number)["color"], height=0.6, error_kw={"elinewidth": 1})
    panel.invert_yaxis()
    panel.set_xlabel(f"attenuation at {condition_name(SILENT_CONDITION)}, fully unmatched (dB)")
    panel.grid(axis="x", alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    return figure


def draw_per_class(system: System, threshold: str) -> Figure:
    """Draw for each class its SNRi at (1:3) without and with refinement, and the classifier's recall of it.

    Args:
        system: one that refines; means over its runs.
        threshold: at which queries are refined.
    """
    scores = sorted(mean_scores(system, threshold), key=lambda score: np.nan_to_num(score.snri_db_refined, nan=-np.inf))
    names = [score.name for score in scores]
    figure, (left, right) = _figure(7.6, 1.2 + 0.28 * len(scores), columns=2)
    raw, refined = ([getattr(s, f"snri_db_{word}") for s in scores] for word in ("none", "refined"))
    left.hlines(names, raw, refined, color="#999999", linewidth=1)
    left.plot(raw, names, "o", color=_COLOURS[1], label="raw query", markersize=5)
    left.plot(refined, names, "s", color=_COLOURS[0], label=f"refined, δ = {threshold}", markersize=5)
    left.set_xlabel(f"SNRi at {condition_name(PER_CLASS_CONDITION)} (dB)")
    left.legend(loc="lower right", frameon=False, fontsize=8)
    right.barh(names, [score.recall for score in scores], color=_COLOURS[2], height=0.6)
    right.set(xlabel="recall of the classifier", xlim=(0.0, 1.0))
    for panel in (left, right):
        panel.grid(axis="x", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def draw_example(example: WorkedExample) -> Figure:
    """Draw the paper's Fig. 2: spectrograms of mixture, target and both extractions, on one scale of colours."""
    figure, panels = _figure(9.0, 5.6, rows=2, columns=2)
    signals = {
        f"mixture: {', '.join(example.active)}": example.mixture,
        f"target: {', '.join(example.query[: example.condition[0]])}": example.target,
        f"asked for {', '.join(example.query)}: SNRi {example.raw_snri_db:.1f} dB": example.raw,
        f"refined at δ = {example.threshold} to {', '.join(example.refined_query)}: "
        f"SNRi {example.refined_snri_db:.1f} dB": example.refined,
    }
    loudest = spectrogram_db(example.mixture, example.sample_rate).max()
    for panel, (title, signal) in zip(panels.flat, signals.items(), strict=True):
        image = draw_spectrogram(panel, signal, example.sample_rate, loudest)
        panel.set_title(textwrap.fill(title, 60), loc="left", fontsize="small", parse_math=False)
    for panel in panels[-1]:
        panel.set_xlabel("time (s)")
    for panel in panels[:, 0]:
        panel.set_ylabel("frequency (kHz)")
    figure.colorbar(image, ax=panels, label="level (dB re full-scale sine)", extend="min")
    return figure


def draw_expected_snri(system: System, partial: Condition = PARTIAL) -> Figure:
    """Draw the SNRi to expect, relative to the oracle, against the share of partially matched queries.

    One line a threshold: the higher, the better.

    Args:
        system: one that refines.
        partial: the partially matched condition; the others are fully matched.
    """
    figure, panel = _figure(6.4, 4.2)
    thresholds = candidates(system)
    behind = np.array(
        [[system.difference(system, c, t, ORACLE).mean[0] for c in (MATCHED, partial)] for t in thresholds]
    )
    styles = _threshold_styles(thresholds)
    shares = np.linspace(0.0, 1.0, 5)  # the lines are straight; the points carry the markers
    for threshold, (start, end) in zip(thresholds, behind, strict=True):
        panel.plot(shares, start + shares * (end - start), label=threshold, markersize=5, **styles[threshold])
    panel.axhline(0.0, color="#000000", linestyle="--", linewidth=1)
    panel.annotate("oracle", (0.0, 0.0), (0, 3), textcoords="offset points", fontsize=8)
    panel.set(
        xlabel=f"share of queries that are partially matched, {condition_name(partial)}",
        ylabel="expected SNRi, relative to the oracle (dB)",
        title=system.name,
    )
    _finished(figure, panel)
    panel.legend(title="threshold δ", frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def draw_swept(runs: Sequence[SweptRun], parameter: str, panels: Mapping[str, Mapping[str, str]]) -> Figure:
    """Draw metrics against a swept parameter: a dot a run, a line through the means.

    Args:
        runs: of one sweep.
        parameter: dotted name of a swept option.
        panels: by the y axis's label with its unit, what to draw: the logged metric's name by the line's label.
    """
    rows = math.ceil(len(panels) / 2)
    figure, axes = _figure(8.8, 3.0 * rows, columns=2, rows=rows, sharey=False)
    for panel, (label, metrics) in zip(axes.flat, panels.items(), strict=False):
        for number, (line, metric) in enumerate(metrics.items()):
            values = by_value(runs, parameter, metric)
            places = _places(panel, list(values))
            look = _style(number) | {"marker": ""}
            panel.plot(places, [members.mean() for members in values.values()], label=line, **look)
            for place, members in zip(places, values.values(), strict=True):
                dots = {"marker": _MARKERS[number], "linestyle": "", "markersize": 4, "alpha": 0.7}
                panel.plot([place] * len(members), members, **look | dots)
        panel.set(xlabel=parameter, ylabel=label)
        panel.tick_params(labelbottom=True)  # below each, since the last row may have a gap
        _finished(figure, panel)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    return figure


def _threshold_styles(thresholds: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return how each threshold is drawn, the same in every panel."""
    numbers = [threshold for threshold in dict.fromkeys(thresholds) if threshold not in _WORD_STYLE]
    looks = zip(cycle((*_COLOURS[:-1], "#F0E442")), cycle("^vDPX<>"), strict=False)
    return _WORD_STYLE | {
        threshold: {"color": colour, "marker": marker}
        for threshold, (colour, marker) in zip(numbers, looks, strict=False)
    }


def _draw_thresholds_of(panel: Axes, system: System, styles: Mapping[str, dict[str, str]]) -> None:
    grid = system.runs[0].grid
    conditions = sorted(condition for condition in grid.conditions if condition[0] == 1)
    inactive = [condition[1] for condition in conditions]
    for threshold in grid.thresholds:
        means = [system.mean(condition, threshold) for condition in conditions]
        style = styles[threshold]
        panel.plot(inactive, [one.mean[0] for one in means], label=threshold, markersize=5, **style)
        low, high = ([getattr(one, end)[0] for one in means] for end in ("low", "high"))
        panel.fill_between(inactive, low, high, color=style["color"], alpha=0.08, linewidth=0)
    panel.set_xticks(inactive)
    panel.set_xlabel("inactive classes in the query, beside one active")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)


def _places(panel: Axes, values: list[Any]) -> list[Any]:
    """Return where the values of an option stand on the x axis, whose scale suits them."""
    if not all(isinstance(value, int | float) for value in values):
        return [str(value) for value in values]  # words stand side by side
    positive = [value for value in values if value > 0]
    if positive and max(positive) / min(positive) >= 10 and min(values) >= 0:
        panel.set_xscale("symlog", linthresh=min(positive)) if 0 in values else panel.set_xscale("log")
    return values


def _style(number: int) -> dict[str, Any]:
    looks = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    colour, marker, line = next(look for position, look in enumerate(looks) if position == number)
    return {"color": colour, "marker": marker, "linestyle": line, "markersize": 5}


def _annotate(panel: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Write words beside points, the first come first, and none where another one stands already."""
    taken: list[np.ndarray] = []
    for word, x, y in points:
        place = panel.transData.transform((x, y)) / panel.figure.dpi  # inches
        if all(np.any(np.abs(place - other) > (0.6, 0.14)) for other in taken):
            taken.append(place)
            panel.annotate(word, (x, y), (6, 5), textcoords="offset points", fontsize=8)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1, sharey: bool = True) -> tuple[Figure, Any]:
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, sharex=rows > 1, sharey=sharey)


def _finished(figure: Figure, panel: Axes) -> Figure:
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if len(panel.get_legend_handles_labels()[0]) > 6:
        figure.set_figwidth(1.35 * figure.get_figwidth())
        panel.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
    else:
        panel.legend(frameon=False, fontsize=8)
    return figure
