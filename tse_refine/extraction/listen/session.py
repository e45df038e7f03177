"""Sessions of visitors: class probabilities, estimated once per sound, and one estimate per query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.picture import Spectrograms
from tse_refine.extraction.listen.sounds import Sound, SoundFiles
from tse_refine.refinement import refine

MOST_SESSIONS = 16  # whose sounds are kept in memory and on disk
MOST_ESTIMATE_BYTES = 256_000_000  # of a session; the estimates on the page are kept in any case


@dataclass(frozen=True, eq=False)
class Result:
    """Estimates for a query and its refined query.

    Attributes:
        query: queried classes.
        refined_query: queried classes that are kept; None without a classifier.
        threshold: decision threshold of the refinement.
        raw: estimate for the query as it is, ``[channels, samples]``.
        refined: estimate for the refined query; None without a classifier.
    """

    query: tuple[str, ...]
    refined_query: tuple[str, ...] | None
    threshold: float
    raw: np.ndarray
    refined: np.ndarray | None


class Session:
    """A visitor's sound, and what the network has estimated from it so far.

    A class is kept or removed once for the whole sound, so that the table describes what is played. Queries are class
    names, thresholds are decision thresholds in [0, 1].

    Args:
        extractor: checkpoint's extractor.
        sound: recording or test mixture.
        folder: served folder of all sessions.

    Attributes:
        sound: recording or test mixture.
        probability: probability of each class, in [0, 1]; empty without a classifier.
        result: last result; None before the first extraction.
        files: WAV files of the sounds on the page.
        network_rate: sample rate of the network, Hz.
    """

    sound: Sound
    probability: dict[str, float]
    result: Result | None
    files: SoundFiles
    network_rate: int

    def __init__(self, extractor: Extractor, sound: Sound, folder: Path) -> None:
        self.sound = sound
        self.probability = {}
        if extractor.has_classifier:
            self.probability = extractor.probabilities(sound.waveform, sound.sample_rate)
        self.result = None
        self.files = SoundFiles(folder)
        self.network_rate = extractor.sample_rate
        self._extractor = extractor
        self._estimates: dict[tuple[str, ...], np.ndarray] = {(): np.zeros_like(sound.waveform)}

    @cached_property
    def spectrograms(self) -> Spectrograms:
        """Spectrogram images, up to the highest frequency that both the sound and the network have."""
        rate = self.sound.sample_rate
        return Spectrograms(self.sound.waveform, rate, min(rate, self.network_rate) / 2)

    def refined_query(self, query: Sequence[str], threshold: float) -> tuple[str, ...]:
        """Return the queried classes that are kept, all without a classifier; the network does not run."""
        if not self.probability:
            return tuple(query)
        probability = torch.tensor([[self.probability[name] for name in query]])
        kept = refine(torch.ones_like(probability), probability, threshold)[0].tolist()
        return tuple(name for name, is_kept in zip(query, kept, strict=True) if is_kept)

    def extract(self, query: Sequence[str], threshold: float) -> Result:
        """Extract with the query as it is and with the refined query; earlier estimates are used again.

        Args:
            query: queried classes.
            threshold: decision threshold in [0, 1].

        Raises:
            InputError: the query is empty.
        """
        raw = tuple(query)
        if not raw:
            raise InputError("The query is empty: tick one class or more.")
        refined = self.refined_query(raw, threshold) if self.probability else None
        estimates = self._estimate([raw] if refined is None else [raw, refined])
        refined_estimate = None if refined is None else estimates[refined]
        self.result = Result(raw, refined, threshold, estimates[raw], refined_estimate)
        return self.result

    def _estimate(self, queries: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], np.ndarray]:
        missing = [query for query in dict.fromkeys(queries) if query not in self._estimates]
        if missing:
            # these queries are already refined: a threshold of 0 keeps all their classes in every window
            extractions = self._extractor.extract_each(
                self.sound.waveform, self.sound.sample_rate, missing, threshold=0.0
            )
            self._estimates |= {extraction.query: extraction.waveform for extraction in extractions}
        estimates = {query: self._estimates[query] for query in queries}
        for query in list(self._estimates):
            if sum(estimate.nbytes for estimate in self._estimates.values()) <= MOST_ESTIMATE_BYTES:
                break
            if query and query not in estimates:  # the oldest first
                del self._estimates[query]
        return estimates


class Sessions:
    """The sessions of all visitors; when there are too many, the oldest are closed.

    Args:
        extractor: checkpoint's extractor.
        folder: served folder of all sessions.
    """

    def __init__(self, extractor: Extractor, folder: Path) -> None:
        self._extractor = extractor
        self._folder = folder
        self._sessions: dict[str, Session] = {}
        self._lock = Lock()

    def open(self, visitor: str, sound: Sound) -> Session:
        """Return a new session, which replaces the visitor's earlier one.

        Args:
            visitor: name of the visitor.
            sound: recording or test mixture.

        Raises:
            InputError: the sound cannot be processed; an earlier session stays open.
        """
        session = Session(self._extractor, sound, self._folder)
        self.close(visitor)
        with self._lock:
            self._sessions[visitor] = session
            oldest = list(self._sessions)[:-MOST_SESSIONS]
        for name in oldest:
            self.close(name)
        return session

    def get(self, visitor: str) -> Session | None:
        """Return the visitor's session; None where there is none."""
        return self._sessions.get(visitor)

    def close(self, visitor: str) -> None:
        """Close the visitor's session, if there is one, and remove its files."""
        with self._lock:
            session = self._sessions.pop(visitor, None)
        if session is not None:
            session.files.clear()
