"""Sessions of visitors: class probabilities, estimated once per sound, and one estimate per query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import numpy as np
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.events import Event
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.picture import Spectrograms
from tse_refine.extraction.listen.sounds import CLOSED, Sound, SoundFiles
from tse_refine.refinement import KEPT_WEIGHT, NoRefinement, Refinement

MOST_SESSIONS = 16  # whose sounds are kept in memory and on disk
MOST_ESTIMATE_BYTES = 256_000_000  # of a session; the estimates on the page are kept in any case

_WeightedQuery = tuple[tuple[str, float], ...]  # class names with their weights, in (0, 1]


@dataclass(frozen=True, eq=False)
class Result:
    """Estimates for a query and its refined query.

    Attributes:
        query: queried classes.
        refinement: rule that refined the query; none without a classifier.
        weight: weight of each queried class in the refined query, in [0, 1].
        raw: estimate for the query as it is, ``[channels, samples]``.
        refined: estimate for the refined query; None without a classifier.
    """

    query: tuple[str, ...]
    refinement: Refinement
    weight: Mapping[str, float]
    raw: np.ndarray
    refined: np.ndarray | None

    @property
    def refined_query(self) -> tuple[str, ...]:
        """Queried classes that are kept: those with a weight of at least 0.5."""
        return tuple(name for name, weight in self.weight.items() if weight >= KEPT_WEIGHT)


class Session:
    """A visitor's sound, and what the network has estimated from it so far.

    A query is refined once for the whole sound, so that the table describes what is played. Queries are class names;
    thresholds are numbers in [0, 1], names of other refinements, or refinements.

    Args:
        extractor: checkpoint's extractor.
        sound: recording or test mixture.
        folder: served folder of all sessions.

    Attributes:
        probability: probability of each class, in [0, 1]; empty without a classifier.
        events: when classes sound, as :attr:`Extraction.events`; empty without a classifier.
        result: last result; None before the first extraction.
        files: WAV files of the sounds on the page.
        network_rate: sample rate of the network, Hz.
    """

    def __init__(self, extractor: Extractor, sound: Sound, folder: Path) -> None:
        self.sound = sound
        self.probability: Mapping[str, float] = {}
        self.events: tuple[Event, ...] = ()
        if extractor.has_classifier:
            self.probability, self.events = extractor.detect(sound.waveform, sound.sample_rate)
        self.result: Result | None = None
        self.files = SoundFiles(folder)
        self.network_rate = extractor.sample_rate
        self._extractor = extractor
        self._estimates: dict[_WeightedQuery, np.ndarray] = {(): np.zeros_like(sound.waveform)}

    @cached_property
    def spectrograms(self) -> Spectrograms:
        """Spectrogram images, up to the highest frequency that both the sound and the network have."""
        rate = self.sound.sample_rate
        return Spectrograms(self.sound.waveform, rate, min(rate, self.network_rate) / 2)

    def weight(self, query: Sequence[str], threshold: float | str | Refinement) -> dict[str, float]:
        """Return the weight of each class in the refined query, in [0, 1]; the network does not run."""
        refinement = self._extractor.refinement(threshold)
        if isinstance(refinement, NoRefinement) or not query:
            return dict.fromkeys(query, 1.0)
        probability = torch.tensor([[self.probability[name] for name in query]])
        weights = refinement(torch.ones_like(probability), probability)[0].tolist()
        return dict(zip(query, weights, strict=True))

    def extract(self, query: Sequence[str], threshold: float | str | Refinement) -> Result:
        """Extract with the query as it is and with the refined query; earlier estimates are used again.

        Args:
            query: queried classes.
            threshold: refinement of the query.

        Raises:
            InputError: the query is empty, or the threshold is not a valid refinement.
        """
        if not query:
            raise InputError("The query is empty: tick one class or more.")
        refinement, weight = self._extractor.refinement(threshold), self.weight(query, threshold)
        raw = tuple((name, 1.0) for name in query)
        refined = tuple((name, value) for name, value in weight.items() if value > 0.0)
        self._estimate([raw, refined], refinement)  # one and the same without a classifier
        refined_estimate = self._estimates[refined] if self.probability else None
        self.result = Result(tuple(query), refinement, weight, self._estimates[raw], refined_estimate)
        return self.result

    def _estimate(self, queries: Sequence[_WeightedQuery], refinement: Refinement) -> None:
        """Add the estimates of queries that are missing, and discard the oldest of too many others."""
        waveform, rate = self.sound.waveform, self.sound.sample_rate
        missing = [query for query in dict.fromkeys(queries) if query not in self._estimates]
        whole = [query for query in missing if all(weight == 1.0 for _, weight in query)]
        if whole:
            names = [tuple(name for name, _ in query) for query in whole]
            extractions = self._extractor.extract_each(waveform, rate, names, NoRefinement())
            self._estimates |= {query: part.waveform for query, part in zip(whole, extractions, strict=True)}
        for query in (query for query in missing if query not in whole):  # only the rule itself gives other weights
            classes = [name for name, _ in query]
            self._estimates[query] = self._extractor.extract(waveform, rate, classes, refinement, "file").waveform
        for query in list(self._estimates):
            if sum(estimate.nbytes for estimate in self._estimates.values()) <= MOST_ESTIMATE_BYTES:
                break
            if query and query not in queries:
                del self._estimates[query]


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
        self._opening: dict[str, object] = {}
        self._lock = Lock()

    def open(self, visitor: str, read: Callable[[], Sound]) -> Session:
        """Return a new session, which replaces the visitor's earlier one.

        Args:
            visitor: name of the visitor.
            read: reads the recording or test mixture.

        Raises:
            InputError: the sound cannot be read or processed, and an earlier session stays open; or the visitor left
                meanwhile.
        """
        with self._lock:
            self._opening[visitor] = opening = object()
        session = Session(self._extractor, read(), self._folder)
        with self._lock:
            if self._opening.get(visitor) is not opening:
                raise InputError(CLOSED)
            del self._opening[visitor]
            closed = [self._sessions.pop(visitor, None)]
            self._sessions[visitor] = session
            closed += [self._sessions.pop(name) for name in list(self._sessions)[:-MOST_SESSIONS]]
        for other in filter(None, closed):
            other.files.clear()
        return session

    def get(self, visitor: str) -> Session | None:
        """Return the visitor's session; None where there is none."""
        return self._sessions.get(visitor)

    def close(self, visitor: str) -> None:
        """Close the visitor's session, if there is one, and remove its files."""
        with self._lock:
            self._opening.pop(visitor, None)
            session = self._sessions.pop(visitor, None)
        if session is not None:
            session.files.clear()
