"""Renders recipes to waveforms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.recipes import Event, Recipe


class Renderer:
    """Renders recipes: excerpt, gain, fades, onset, sum and peak rule, in Scaper's order.

    Args:
        foreground_bank: bank of the events' clips.
        background_bank: bank of the backgrounds.
    """

    def __init__(self, foreground_bank: ClipBank, background_bank: ClipBank) -> None:
        self.foreground_bank = foreground_bank
        self.background_bank = background_bank
        self._ramps: dict[float, np.ndarray] = {}

    def render(
        self, recipe: Recipe, mixture: np.ndarray, target: np.ndarray, sources: np.ndarray | None = None
    ) -> None:
        """Write a mixture, its training target and, if requested, its sources.

        The mixture is the sum of its sources and its background. The recipe's peak rule scales mixture, target and
        sources together.

        Args:
            recipe: recipe to render.
            mixture: output, ``[samples]``, float32.
            target: output, ``[samples]``: sum of the sources in ``recipe.query``, silence if none is active.
            sources: output, ``[events or more, samples]``: sources in the recipe's order, silence in further rows.
        """
        self._background(recipe.background, mixture)
        target.fill(0.0)
        for number, event in enumerate(recipe.events):
            end = event.onset + event.length
            place = slice(event.onset, end)
            # each sound is written once, directly into its source
            sound = np.empty(event.length, np.float32) if sources is None else sources[number, place]
            self._event(event, recipe.fade_seconds, sound)
            mixture[place] += sound
            if event.class_index in recipe.query:
                target[place] += sound
            if sources is not None:
                sources[number, : event.onset] = 0.0
                sources[number, end:] = 0.0
        if sources is not None:
            sources[len(recipe.events) :] = 0.0
        self._scale(recipe, (mixture, target) if sources is None else (mixture, target, sources))

    def _scale(self, recipe: Recipe, signals: Sequence[np.ndarray]) -> None:
        """Apply the peak rule to all signals of a mixture; the first is the mixture."""
        if recipe.peak_rule == "none" or (recipe.peak_rule == "limit" and self._highest_peak(recipe) < 0.999):
            return
        peak = max(signals[0].max(), -signals[0].min())
        if peak > 1.0 or recipe.peak_rule == "normalize":
            scale = np.float32(1.0 / (peak + 1e-10))
            for signal in signals:
                signal *= scale

    def _highest_peak(self, recipe: Recipe) -> float:
        """Upper bound of the mixture's peak (sum of the clips' peaks), which saves two passes over the mixture."""
        return 32767.0 * (
            recipe.background.gain * self.background_bank.entry(recipe.background.clip).scale
            + sum(event.gain * self.foreground_bank.entry(event.clip).scale for event in recipe.events)
        )

    def _event(self, event: Event, fade_seconds: tuple[float, float], out: np.ndarray) -> None:
        clip = self.foreground_bank.samples(event.clip)[event.start : event.start + event.length]
        out[:] = clip  # in two steps: numpy multiplies mixed types through a buffer, which is slower
        out *= np.float32(event.gain * self.foreground_bank.entry(event.clip).scale)
        half = event.length // 2  # the ramps of a very short sound are cut so that they do not overlap
        fade_in, fade_out = (self._ramp(seconds)[:half] for seconds in fade_seconds)
        out[: len(fade_in)] *= fade_in
        out[event.length - len(fade_out) :] *= fade_out[::-1]

    def _ramp(self, seconds: float) -> np.ndarray:
        """Return a quarter of a sine from 0 to 1, both ends included, as Scaper's fades."""
        if seconds not in self._ramps:
            length = round(seconds * self.foreground_bank.sample_rate)
            self._ramps[seconds] = np.sin(np.linspace(0.0, np.pi / 2, length)).astype(np.float32)
        return self._ramps[seconds]

    def _background(self, event: Event, out: np.ndarray) -> None:
        clip = self.background_bank.samples(event.clip)[event.start : event.start + event.length]
        gain = np.float32(event.gain * self.background_bank.entry(event.clip).scale)
        for begin in range(0, len(out), len(clip)):  # once, unless the clip is shorter than the mixture
            piece = out[begin : begin + len(clip)]
            piece[:] = clip[: len(piece)]
        out *= gain
