"""Impulse responses of rooms, prepared for convolution."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.files.digests import MISSING

_BEFORE_DIRECT_SECONDS = 0.0025  # kept before the largest sample: the rise of the direct sound


class ImpulseResponses(Corpus):
    """The recordings of a corpus as impulse responses; a label is a room.

    Each starts with its direct sound, so that what is convolved with it is not delayed, and has a peak of 1, so that a
    soft one is not taken for silence. Of several channels the first is used.

    Args:
        corpus: the recordings.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def clips(self) -> list[Clip]:
        """Return every response."""
        return self.corpus.clips()

    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        """Return samples of a response, ``[samples, 1]``, and its sample rate in Hz."""
        sound, rate = self.corpus.read(clip)
        response = sound[:, :1]
        level = np.abs(response)
        if level.any():
            first = max(0, int(level.argmax()) - round(_BEFORE_DIRECT_SECONDS * rate))
            response = response[first:] / level.max()
        return response[start:stop], rate

    def digests(self, clips: Sequence[Clip], cache_dir: Path) -> list[str]:
        """Return the recordings' digests, marked, since what is read differs from the recordings."""
        digests = self.corpus.digests(clips, cache_dir)
        return [digest if digest == MISSING else f"{digest}/impulse response" for digest in digests]

    def unlisted(self) -> list[str]:
        """Return the files that the corpus does not use."""
        return self.corpus.unlisted()
