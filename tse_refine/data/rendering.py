"""From a recipe to sound."""

from __future__ import annotations

import numpy as np

from tse_refine.data.clip_bank import ClipBank
from tse_refine.data.recipes import Event, Recipe

FADE_SECONDS = 0.01


class Renderer:
    """Renders recipes: excerpt, gain, fades, onset, sum and the peak rule, in Scaper's order.

    Args:
        foreground_bank: bank of the events' clips.
        background_bank: bank of the backgrounds.
    """

    def __init__(self, foreground_bank: ClipBank, background_bank: ClipBank) -> None:
        self.foreground_bank = foreground_bank
        self.background_bank = background_bank
        length = round(FADE_SECONDS * foreground_bank.sample_rate)
        self._fade = np.sin(np.pi / 2 * np.arange(length, dtype=np.float32) / length)

    def render(
        self, recipe: Recipe, mixture: np.ndarray, target: np.ndarray, sources: np.ndarray | None = None
    ) -> None:
        """Write a mixture, its training target and, where asked for, its sources.

        The mixture is the sum of its sources and its background. Where its peak would exceed 1, mixture, target and
        sources are scaled down together.

        Args:
            recipe: what to render.
            mixture: out, ``[samples]``, float32.
            target: out, ``[samples]``: the sum of the sources that ``recipe.query`` asks for, silence if none is there.
            sources: out, ``[events or more, samples]``: the sources in the recipe's order, silence in further rows.
        """
        self._background(recipe.background, mixture)
        target.fill(0.0)
        if sources is not None:
            sources.fill(0.0)
        for number, event in enumerate(recipe.events):
            sound = self._event(event)
            place = slice(event.onset, event.onset + event.length)
            mixture[place] += sound
            if event.class_index in recipe.query:
                target[place] += sound
            if sources is not None:
                sources[number, place] = sound
        peak = max(mixture.max(), -mixture.min())
        if peak > 1.0:
            scale = np.float32(1.0 / (peak + 1e-10))
            for signal in (mixture, target, *(() if sources is None else (sources,))):
                signal *= scale

    def _event(self, event: Event) -> np.ndarray:
        clip = self.foreground_bank.samples(event.clip)[event.start : event.start + event.length]
        sound = clip * np.float32(event.gain * self.foreground_bank.entry(event.clip).scale)
        fade = self._fade[: event.length // 2]  # the ramp of a very short sound is cut, never overlapped
        sound[: len(fade)] *= fade
        sound[event.length - len(fade) :] *= fade[::-1]
        return sound

    def _background(self, event: Event, out: np.ndarray) -> None:
        clip = self.background_bank.samples(event.clip)[event.start : event.start + event.length]
        gain = np.float32(event.gain * self.background_bank.entry(event.clip).scale)
        for begin in range(0, len(out), len(clip)):  # once, unless the clip is shorter than the mixture
            piece = out[begin : begin + len(clip)]
            np.multiply(clip[: len(piece)], gain, out=piece)
