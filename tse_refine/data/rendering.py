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
        interferer_bank: bank of the interferers, where there are any.
        response_bank: bank of the impulse responses, where there are any.
    """

    def __init__(
        self,
        foreground_bank: ClipBank,
        background_bank: ClipBank,
        interferer_bank: ClipBank | None = None,
        response_bank: ClipBank | None = None,
    ) -> None:
        self.foreground_bank = foreground_bank
        self.background_bank = background_bank
        self.interferer_bank = interferer_bank
        self.response_bank = response_bank
        self._ramps: dict[float, np.ndarray] = {}

    def render(
        self,
        recipe: Recipe,
        mixture: np.ndarray,
        target: np.ndarray,
        sources: np.ndarray | None = None,
        interferers: np.ndarray | None = None,
    ) -> None:
        """Write a mixture, its training target and, if requested, its sources and interferers.

        The mixture is the sum of its sources, its interferers and its background. The recipe's peak rule scales all
        signals together.

        Args:
            recipe: recipe to render.
            mixture: output, ``[samples]``, float32.
            target: output, ``[samples]``: sum of the sources in ``recipe.query``, silence if none is active.
            sources: output, ``[events or more, samples]``: sources in the recipe's order, silence in further rows.
            interferers: output, ``[interferers, samples]``: interferers in the recipe's order.
        """
        self._background(recipe.background, mixture)
        target.fill(0.0)
        for number, event in enumerate(recipe.events):
            source = None if sources is None else sources[number]
            sound = self._add(event, self.foreground_bank, recipe.fade_seconds, mixture, source)
            if event.class_index in recipe.query:
                target[event.onset : event.onset + event.length] += sound
        if sources is not None:
            sources[len(recipe.events) :] = 0.0
        for number, event in enumerate(recipe.interferers):
            assert self.interferer_bank is not None
            source = None if interferers is None else interferers[number]
            self._add(event, self.interferer_bank, recipe.fade_seconds, mixture, source)
        outputs = (mixture, target, sources, interferers)
        self._scale(recipe, [signal for signal in outputs if signal is not None])

    def _add(
        self,
        event: Event,
        bank: ClipBank,
        fade_seconds: tuple[float, float],
        mixture: np.ndarray,
        source: np.ndarray | None,
    ) -> np.ndarray:
        """Add an event to the mixture, and return its sound, ``[event.length]``; with its source, if requested."""
        end = event.onset + event.length
        place = slice(event.onset, end)
        # each sound is written once, directly into its source
        sound = np.empty(event.length, np.float32) if source is None else source[place]
        self._event(event, bank, fade_seconds, sound)
        mixture[place] += sound
        if source is not None:
            source[: event.onset] = 0.0
            source[end:] = 0.0
        return sound

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
        if any(event.response >= 0 for event in (*recipe.events, *recipe.interferers)):
            return np.inf  # an event's own peak is not known
        peak = recipe.background.gain * self.background_bank.entry(recipe.background.clip).scale
        peak += sum(event.gain * self.foreground_bank.entry(event.clip).scale for event in recipe.events)
        if self.interferer_bank is not None:
            peak += sum(event.gain * self.interferer_bank.entry(event.clip).scale for event in recipe.interferers)
        return 32767.0 * peak

    def _event(self, event: Event, bank: ClipBank, fade_seconds: tuple[float, float], out: np.ndarray) -> None:
        clip = bank.samples(event.clip)[event.start : event.start + event.length]
        out[:] = clip  # in two steps: numpy multiplies mixed types through a buffer, which is slower
        out *= np.float32(event.gain * bank.entry(event.clip).scale)
        if event.response >= 0:
            self._reverberate(event.response, out)
        half = event.length // 2  # the ramps of a very short sound are cut so that they do not overlap
        fade_in, fade_out = (self._ramp(seconds)[:half] for seconds in fade_seconds)
        out[: len(fade_in)] *= fade_in
        out[event.length - len(fade_out) :] *= fade_out[::-1]

    def _reverberate(self, response: int, sound: np.ndarray) -> None:
        """Convolve a sound with an impulse response, in place: as long and with as much energy as before.

        The end is cut off as it is from an excerpt of a recording in that room; the energy keeps the level that was
        drawn, whatever the response's own.
        """
        assert self.response_bank is not None
        dry, impulses = sound.astype(np.float64), self.response_bank.samples(response)[: len(sound)]
        size = _fast_length(len(dry) + len(impulses) - 1)
        wet = np.fft.irfft(np.fft.rfft(dry, size) * np.fft.rfft(impulses, size), size)[: len(dry)]
        energy = np.vdot(wet, wet)
        if energy > 0.0:
            sound[:] = wet * np.sqrt(np.vdot(dry, dry) / energy)

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


def _fast_length(least: int) -> int:
    """Return the shortest length from ``least`` on without a prime factor above 5, whose Fourier transform is fast.

    >>> _fast_length(76_799), _fast_length(76_801)
    (76800, 77760)
    """
    odd = (3**b * 5**c for b in range(12) for c in range(8))
    return min(factor << (-(-least // factor) - 1).bit_length() for factor in odd)
