"""What is listened to: a recording that somebody gave, or a mixture made of known sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording or a generated mixture.

    Attributes:
        name: what it is called on the page, and how names of downloads begin.
        waveform: ``[channels, samples]``, float32.
        sample_rate: Hz.
        sources: of a generated mixture, the source of each active class, ``[channels, samples]``; empty for a
            recording, of which nobody knows what is in it.
    """

    name: str
    waveform: np.ndarray
    sample_rate: int
    sources: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.waveform.shape[-1] / self.sample_rate

    def target(self, query: tuple[str, ...]) -> np.ndarray | None:
        """Return the sum of the sources that a query asks for, silence if none is there; None for a recording."""
        if not self.sources:
            return None
        return sum((self.sources[name] for name in query if name in self.sources), np.zeros_like(self.waveform))
