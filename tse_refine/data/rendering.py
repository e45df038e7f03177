"""From a recipe to sound."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.recipes import Event, Recipe


class Renderer:
    """Renders recipes: excerpt, gain, fades, onset, sum and the peak rule, in Scaper's order.

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
        """Write a mixture, its training target and, where asked for, its sources.

        The mixture is the sum of its sources and its background. Where the recipe's peak rule scales it, mixture,
        target and sources are scaled together.

        Args:
            recipe: what to render.
            mixture: out, ``[samples]``, float32.
            target: out, ``[samples]``: the sum of the sources that ``recipe.query`` asks for, silence if none is there.
            sources: out, ``[events or more, samples]``: the sources in the recipe's order, silence in further rows.
        """
        self._background(recipe.background, mixture)
        target.fill(0.0)
        for number, event in enumerate(recipe.events):
            end = event.onset + event.length
            place = slice(event.onset, end)
            # each sound is written once, where it will stay
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
        """Return what the peak would be if those of all clips met: a bound that spares two passes over the mixture."""
        return 32767.0 * (
            recipe.background.gain * self.background_bank.entry(recipe.background.clip).scale
            + sum(event.gain * self.foreground_bank.entry(event.clip).scale for event in recipe.events)
        )

    def _event(self, event: Event, fade_seconds: tuple[float, float], out: np.ndarray) -> None:
        clip = self.foreground_bank.samples(event.clip)[event.start : event.start + event.length]
        out[:] = clip  # in two steps: numpy multiplies mixed types through a buffer, which takes longer
        out *= np.float32(event.gain * self.foreground_bank.entry(event.clip).scale)
        half = event.length // 2  # the ramp of a very short sound is cut, never overlapped
        fade_in, fade_out = (self._ramp(seconds)[:half] for seconds in fade_seconds)
        out[: len(fade_in)] *= fade_in
        out[event.length - len(fade_out) :] *= fade_out[::-1]

    def _ramp(self, seconds: float) -> np.ndarray:
        """Return a quarter of a sine from 0 to 1, both ends included, as Scaper fades."""
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
