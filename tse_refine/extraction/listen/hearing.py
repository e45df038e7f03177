"""What the network makes of one sound: probabilities once, and an estimate for each query that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tse_refine.errors import InputError
from tse_refine.evaluation.metrics import attenuation_db, snri_db
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.sound import Sound
from tse_refine.refinement import refine

_MOST_BYTES = 256_000_000  # of estimates that are kept; the two that are heard are kept in any case


@dataclass(frozen=True, eq=False)
class Answer:
    """What one query of a sound gives.

    Attributes:
        query: the classes asked for.
        refined_query: those that are left; None where the network cannot refine.
        threshold: at which the query was refined.
        raw: extraction with the query as it is, ``[channels, samples]``.
        refined: extraction with the refined query; None where the network cannot refine.
        target: what a perfect extraction would be; None for a recording.
    """

    query: tuple[str, ...]
    refined_query: tuple[str, ...] | None
    threshold: float
    raw: np.ndarray
    refined: np.ndarray | None
    target: np.ndarray | None

    def score(self, estimate: np.ndarray, mixture: np.ndarray) -> str:
        """Return the SNRi of an extraction, for a silent target the attenuation; empty where there is no target."""
        if self.target is None:
            return ""
        x, s, e = (torch.from_numpy(signal).reshape(1, -1) for signal in (mixture, self.target, estimate))
        if self.target.any():
            return f"SNRi {float(snri_db(e, s, x)):+.1f} dB".replace("-", "−")
        energy = [signal.double().square().sum() for signal in (x, e)]
        return f"attenuation {float(attenuation_db(*energy)):.1f} dB"


class Hearing:
    """A sound, and what the network has made of it so far.

    Whether a class stays in the query is decided once for the whole sound, so that the page's table says what is heard.

    Args:
        extractor: does the work.
        sound: that is listened to.

    Attributes:
        sound: as given.
        probability: of each class, in [0, 1]; empty without a classifier.
    """

    def __init__(self, extractor: Extractor, sound: Sound) -> None:
        self.sound = sound
        self._extractor = extractor
        self.probability: dict[str, float] = {}
        if extractor.has_classifier:
            self.probability = extractor.probabilities(sound.waveform, sound.sample_rate)
        self._estimates: dict[tuple[str, ...], np.ndarray] = {(): np.zeros_like(sound.waveform)}

    def refined_query(self, query: Sequence[str], threshold: float) -> tuple[str, ...]:
        """Return the classes of a query that stay in it; all without a classifier. The network does not run.

        Args:
            query: names of classes.
            threshold: in [0, 1].
        """
        if not self.probability:
            return tuple(query)
        probability = torch.tensor([[self.probability[name] for name in query]])
        kept = refine(torch.ones_like(probability), probability, threshold)[0].tolist()
        return tuple(name for name, stays in zip(query, kept, strict=True) if stays)

    def answer(self, query: Sequence[str], threshold: float) -> Answer:
        """Extract with the query as it is and with the refined one; what was extracted before is not again.

        Args:
            query: names of classes.
            threshold: in [0, 1].

        Raises:
            InputError: nothing is asked for.
        """
        asked = tuple(query)
        if not asked:
            raise InputError("Nothing is asked for: tick one class or more.")
        refined = self.refined_query(asked, threshold) if self.probability else None
        found = self._extracted([asked] if refined is None else [asked, refined])
        return Answer(
            asked,
            refined,
            threshold,
            found[asked],
            None if refined is None else found[refined],
            self.sound.target(asked),
        )

    def _extracted(self, queries: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], np.ndarray]:
        missing = [query for query in dict.fromkeys(queries) if query not in self._estimates]
        if missing:
            # queries are refined already: at a threshold of 0 all classes stay, and nothing is decided in windows
            extractions = self._extractor.extract_each(
                self.sound.waveform, self.sound.sample_rate, missing, threshold=0.0
            )
            self._estimates |= {extraction.query: extraction.waveform for extraction in extractions}
        found = {query: self._estimates[query] for query in queries}
        for query in list(self._estimates):
            if sum(estimate.nbytes for estimate in self._estimates.values()) <= _MOST_BYTES:
                break
            if query and query not in found:  # the oldest first
                del self._estimates[query]
        return found
