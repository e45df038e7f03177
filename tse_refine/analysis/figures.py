"""Figures of finished runs: for print and screen, readable for the colour-blind."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tse_refine.analysis.choices import choosable
from tse_refine.analysis.comparisons import mean_scores
from tse_refine.analysis.example import WorkedExample
from tse_refine.analysis.plotting import (
    COLOURS,
    MARKERS,
    add_legend,
    finish,
    new_figure,
    numbered_style,
    plot_spectrogram,
    refinement_styles,
    spectrogram_db,
)
from tse_refine.analysis.sweeps import SweptRun, by_value
from tse_refine.analysis.systems import System, in_display_order, methods
from tse_refine.evaluation.calibration import reliability
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED, Condition
from tse_refine.evaluation.metrics import SNRI
from tse_refine.evaluation.statistics import Interval
from tse_refine.refinement import Gate, NoRefinement, Oracle, Refinement, Threshold

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_snri_by_inactive(systems: Sequence[System], refinement: Refinement | None) -> Figure:
    """Plot the paper's Fig. 3: SNRi at (1:i) against i, a line for each of the ``methods``; 95 % intervals are shaded.

    Of several systems that refine, the upper bounds and gates are left out.
    """
    figure, panel = new_figure(6.4, 4.2)
    shown = methods(systems, refinement)
    if sum(system.has_classifier for system in systems) > 1:  # their lines would hide the others
        shown = [method for method in shown if not isinstance(method.refinement, Oracle | Gate)]
    for number, (label, system, rule) in enumerate(shown):
        _plot_by_inactive(panel, system, rule, label, numbered_style(number), alpha=0.12)
    panel.set_ylabel(SNRI.axis_label)
    finish(panel)
    add_legend(panel)
    return figure


def plot_refinements(systems: Sequence[System]) -> Figure:
    """Plot SNRi at (1:i) against i, one line per refinement, one panel per system; 95 % intervals are shaded."""
    columns = min(3, len(systems))
    rows = math.ceil(len(systems) / columns)
    figure, panels = new_figure(1.2 + 4.6 * columns, 4.0 * rows, columns, rows)
    panels = np.atleast_1d(panels).ravel()
    styles = refinement_styles(in_display_order(rule for system in systems for rule in system.refinements))
    for panel, system in zip(panels, systems, strict=False):
        for rule in system.refinements:
            _plot_by_inactive(panel, system, rule, rule.label, {"markersize": 5, **styles[rule.name]}, alpha=0.08)
        panel.set_title(system.name)
        panel.tick_params(labelbottom=True)  # also where no panel stands below
        finish(panel)
    for panel in panels[len(systems) :]:
        panel.set_visible(False)
    for panel in panels[::columns]:
        panel.set_ylabel(SNRI.axis_label)
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}  # systems may differ in them
    options = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5), "frameon": False}
    panels[columns - 1].legend(lines.values(), lines.keys(), title="refinement", **options)
    return figure


def plot_trade_off(systems: Sequence[System], partial: Condition = PARTIAL) -> Figure:
    """Plot what refinement loses on fully matched queries against what it gains on partially matched ones.

    One point per refinement, thresholds joined by a line; differences to the raw query are paired, bars are their 95 %
    intervals.

    Args:
        systems: systems of which those that refine are shown; tested with the raw query, at (1:0) and at ``partial``.
        partial: the partially matched condition.
    """
    figure, panel = new_figure(6.4, 4.2)
    labels: list[tuple[str, float, float]] = []
    raw, oracle = NoRefinement(), Oracle()
    for number, system in enumerate(system for system in systems if system.has_classifier):
        style = numbered_style(number)
        thresholds = [rule for rule in system.candidates if isinstance(rule, Threshold)]
        others = [rule for rule in system.candidates if rule not in thresholds]
        points = style | {"linestyle": "", "markerfacecolor": "white"}
        for rules, look in ((thresholds, style), (others, points)):
            losses, gains = ([system.difference(system, c, rule, raw) for rule in rules] for c in (MATCHED, partial))
            (x, x_bars), (y, y_bars) = _bars(losses), _bars(gains)
            label = system.name if rules is thresholds or not thresholds else None
            if rules:
                panel.errorbar(x, y, xerr=x_bars, yerr=y_bars, label=label, elinewidth=1, **look)
            labels += zip((rule.label for rule in rules), x, y, strict=True)
        if system.measured(partial, oracle):
            bound = system.difference(system, partial, oracle, raw).mean[0]
            panel.axhline(bound, color=style["color"], linestyle=":", linewidth=1)
            labels.append((oracle.label, 0.0, bound))
    panel.axvline(0.0, color="#999999", linewidth=0.8)
    panel.margins(x=0.12)
    _annotate(panel, labels)
    panel.set(
        xlabel=f"change of SNRi at {MATCHED.name}, fully matched (dB)",
        ylabel=f"change of SNRi at {partial.name}, partially matched (dB)",
    )
    finish(panel)
    add_legend(panel)
    return figure


def plot_attenuation(systems: Sequence[System], refinement: Refinement | None) -> Figure:
    """Plot the attenuation for queries that match nothing, one bar for each of the ``methods``, with 95 % intervals."""
    means = [(label, system.mean(UNMATCHED, rule)) for label, system, rule in methods(systems, refinement)]
    shown = [(label, interval) for label, interval in means if interval is not None]
    figure, panel = new_figure(6.4, 0.9 + 0.45 * len(shown))
    for number, (label, interval) in enumerate(shown):
        mean, bars = _bars([interval])
        colour = numbered_style(number)["color"]
        panel.barh(label, mean, xerr=bars, color=colour, height=0.6, error_kw={"elinewidth": 1})
    panel.invert_yaxis()
    panel.set_xlabel(f"attenuation at {UNMATCHED.name}, fully unmatched (dB)")
    finish(panel, grid="x")
    return figure


def plot_per_class(system: System, refinement: Refinement) -> Figure:
    """Plot for each class its SNRi at (1:3) without and with refinement, and the classifier's recall of it.

    All are means over the runs of a system that refines; the refinement decides class by class.
    """
    scores = sorted(mean_scores(system, refinement), key=lambda s: np.nan_to_num(s.snri_db_refined, nan=-np.inf))
    names = [score.name for score in scores]
    figure, (left, right) = new_figure(7.6, 1.2 + 0.28 * len(scores), columns=2)
    raw, refined = [score.snri_db_none for score in scores], [score.snri_db_refined for score in scores]
    left.hlines(names, raw, refined, color="#999999", linewidth=1)
    left.plot(raw, names, "o", color=COLOURS[1], label=NoRefinement().label, markersize=5)
    left.plot(refined, names, "s", color=COLOURS[0], label=f"refined, {refinement.label}", markersize=5)
    left.set_xlabel(f"SNRi at {PARTIAL.name} (dB)")
    left.legend(loc="lower right", frameon=False, fontsize=8)
    right.barh(names, [score.recall for score in scores], color=COLOURS[2], height=0.6)
    right.set(xlabel="recall of the classifier", xlim=(0.0, 1.0))
    for panel in (left, right):
        finish(panel, grid="x")
    return figure


def plot_reliability(systems: Sequence[System]) -> Figure:
    """Plot how often classes are active against the probability that they were given, all runs of a system together.

    The area of a dot grows with the number of decisions; the expected calibration error is in the legend.
    """
    figure, panel = new_figure(5.0, 4.6)
    panel.plot([0.0, 1.0], [0.0, 1.0], color="#999999", linewidth=0.8)
    for number, system in enumerate(systems):
        classifiers = [run.classifier for run in system.runs if run.classifier]
        found = reliability(
            np.concatenate([classifier.probability for classifier in classifiers]),
            np.concatenate([classifier.activity for classifier in classifiers]),
        )
        used = found.decisions > 0
        style = numbered_style(number)
        panel.plot(found.probability[used], found.frequency[used], color=style["color"], linewidth=1)
        sizes = 10 + 90 * found.decisions[used] / found.decisions.max()
        label = f"{system.name}: error {100 * found.error:.1f} %"
        panel.scatter(found.probability[used], found.frequency[used], sizes, color=style["color"], label=label)
    panel.set(xlabel="probability", ylabel="share of active classes", xlim=(0.0, 1.0), ylim=(0.0, 1.0))
    finish(panel)
    panel.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def plot_example(example: WorkedExample) -> Figure:
    """Plot the paper's Fig. 2: spectrograms of mixture, target and both extractions, on one scale of colours."""
    figure, panels = new_figure(9.0, 5.6, rows=2, columns=2)
    signals = {
        f"mixture: {', '.join(example.active)}": example.mixture,
        f"target: {', '.join(example.query[: example.condition.active])}": example.target,
        f"raw query: {', '.join(example.query)} (SNRi {example.raw_db:.1f} dB)": example.raw,
        f"refined query, {example.refinement.label}: {', '.join(example.refined_query)} "
        f"(SNRi {example.refined_db:.1f} dB)": example.refined,
    }
    loudest = spectrogram_db(example.mixture, example.sample_rate).max()
    for panel, (title, signal) in zip(panels.flat, signals.items(), strict=True):
        image = plot_spectrogram(panel, signal, example.sample_rate, loudest)
        panel.set_title(textwrap.fill(title, 60), loc="left", fontsize="small", parse_math=False)
    for panel in panels[-1]:
        panel.set_xlabel("time (s)")
    for panel in panels[:, 0]:
        panel.set_ylabel("frequency (kHz)")
    figure.colorbar(image, ax=panels, label="level (dB re full-scale sine)", extend="min")
    return figure


def plot_expected_snri(system: System, partial: Condition = PARTIAL) -> Figure:
    """Plot the expected SNRi, relative to the oracle, against the share of partially matched queries.

    One line per refinement: the higher, the better.

    Args:
        system: system that refines.
        partial: the partially matched condition; the other queries are fully matched.
    """
    figure, panel = new_figure(6.4, 4.2)
    rules, oracle = choosable(system), Oracle()
    styles = refinement_styles(rules)
    shares = np.linspace(0.0, 1.0, 5)  # the lines are straight; the points carry the markers
    for rule in rules:
        start, end = (float(system.difference(system, c, rule, oracle).mean[0]) for c in (MATCHED, partial))
        panel.plot(shares, start + shares * (end - start), label=rule.label, markersize=5, **styles[rule.name])
    panel.axhline(0.0, color="#000000", linestyle="--", linewidth=1)
    panel.annotate(oracle.label, (0.0, 0.0), (0, 3), textcoords="offset points", fontsize=8)
    panel.set(
        xlabel=f"share of queries that are partially matched, {partial.name}",
        ylabel="expected SNRi, relative to the oracle (dB)",
        title=system.name,
    )
    finish(panel)
    add_legend(panel, title="refinement", beside=True)
    return figure


def plot_swept(runs: Sequence[SweptRun], parameter: str, panels: Mapping[str, Mapping[str, str]]) -> Figure:
    """Plot metrics against a swept parameter: a dot per run, a line through the means.

    Args:
        runs: runs of one sweep.
        parameter: dotted name of a swept option.
        panels: what to plot by the label of the y axis with its unit: the logged metric's name by the line's label.
    """
    rows = math.ceil(len(panels) / 2)
    figure, axes = new_figure(8.8, 3.0 * rows, columns=2, rows=rows, sharey=False)
    for panel, (label, metrics) in zip(axes.flat, panels.items(), strict=False):
        for number, (line, metric) in enumerate(metrics.items()):
            values = by_value(runs, parameter, metric)
            places = _places(panel, list(values))
            style = numbered_style(number) | {"marker": ""}
            dots = style | {"marker": MARKERS[number], "linestyle": "", "markersize": 4, "alpha": 0.7}
            panel.plot(places, [members.mean() for members in values.values()], label=line, **style)
            for place, members in zip(places, values.values(), strict=True):
                panel.plot([place] * len(members), members, **dots)
        panel.set(xlabel=parameter, ylabel=label)
        panel.tick_params(labelbottom=True)  # below each, since the last row may have a gap
        finish(panel)
        add_legend(panel)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    return figure


def _plot_by_inactive(
    panel: Axes, system: System, refinement: Refinement, label: str, style: Mapping[str, Any], alpha: float
) -> None:
    """Plot SNRi against the inactive classes beside one active, its interval shaded."""
    conditions = sorted(condition for condition in system.runs[0].grid.conditions if condition.active == 1)
    means = [(c.inactive, mean) for c in conditions if (mean := system.mean(c, refinement, SNRI)) is not None]
    inactive = [number for number, _ in means]
    panel.plot(inactive, [interval.mean[0] for _, interval in means], label=label, **style)
    low, high = ([getattr(interval, end)[0] for _, interval in means] for end in ("low", "high"))
    panel.fill_between(inactive, low, high, color=style["color"], alpha=alpha, linewidth=0)
    panel.set_xticks([condition.inactive for condition in conditions])
    panel.set_xlabel("inactive classes in the query, beside one active")


def _bars(intervals: Sequence[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Return means, ``[intervals]``, and the lengths of the bars below and above them, ``[2, intervals]``."""
    mean, low, high = (np.array([getattr(interval, part)[0] for interval in intervals]) for part in Interval._fields)
    return mean, np.stack([mean - low, high - mean])


def _places(panel: Axes, values: list[Any]) -> list[Any]:
    """Return the places of an option's values on the x axis, whose scale suits them."""
    if not all(isinstance(value, int | float) for value in values):
        return [str(value) for value in values]  # words stand side by side
    positive = [value for value in values if value > 0]
    if positive and max(positive) / min(positive) >= 10 and min(values) >= 0:
        panel.set_xscale("symlog", linthresh=min(positive)) if 0 in values else panel.set_xscale("log")
    return values


def _annotate(panel: Axes, labels: Sequence[tuple[str, float, float]]) -> None:
    """Write labels beside points where no other one stands: above or below, right or left; none where all are taken."""
    taken: list[tuple[str, np.ndarray]] = []  # the lower left corner of each, in inches
    for text, x, y in labels:
        width, height = 0.07 * len(text), 0.14
        point = panel.transData.transform((x, y)) / panel.figure.dpi
        for right, above in ((True, True), (True, False), (False, True), (False, False)):
            corner = point + np.array([0.08 if right else -0.08 - width, 0.05 if above else -0.05 - height])
            if any(text == other or np.all(np.abs(corner - place) < (width, height)) for other, place in taken):
                continue
            taken.append((text, corner))
            offset = (6 if right else -6, 5 if above else -5)
            panel.annotate(
                text, (x, y), offset, textcoords="offset points", fontsize=8, ha="left" if right else "right",
                va="bottom" if above else "top",
            )  # fmt: skip
            break
