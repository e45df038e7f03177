"""The loudness of a scene's excerpts, measured in Scaper's order (scaper 1.6.5, ``_generate_audio``)."""

from __future__ import annotations

import math

import torch
import torchaudio.functional as audio_functional

from tse_refine.data.bank.loudness import integrated_loudness
from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.data.scaper.jams import SceneEvent


class ExcerptLoudness:
    """Measures excerpts of one corpus: cut at the recording's rate, channels averaged, resampled, then measured.

    Args:
        corpus: corpus of the recordings.
        repeated_to_seconds: duration up to which shorter backgrounds are repeated before they are measured.
    """

    def __init__(self, corpus: Corpus, repeated_to_seconds: float = 0.0) -> None:
        self.corpus = corpus
        self.repeated_to_seconds = repeated_to_seconds
        self._rates: dict[str, int] = {}

    def __call__(self, clip: Clip, event: SceneEvent, sample_rate: int) -> tuple[float, float, float]:
        """Return an excerpt's loudness in LUFS, and its start and length in seconds, 0 where the clip ends before it.

        Args:
            clip: recording of the excerpt.
            event: position of the excerpt in the recording.
            sample_rate: sample rate of the scene, Hz.
        """
        if clip.name not in self._rates:
            self._rates[clip.name] = self.corpus.read(clip, 0, 1)[1]
        rate = self._rates[clip.name]
        start, stop = int(event.source_time * rate), int((event.source_time + event.duration) * rate)
        excerpt, _ = self.corpus.read(clip, start, stop)
        if not len(excerpt):
            return 0.0, start / rate, 0.0
        mono = torch.from_numpy(excerpt.mean(axis=1))
        repeats = math.ceil(self.repeated_to_seconds * rate / len(mono))
        if repeats > 1:
            mono = mono.repeat(repeats)[:stop]
        resampled = audio_functional.resample(mono, rate, sample_rate)
        return integrated_loudness(resampled, sample_rate), start / rate, len(excerpt) / rate
