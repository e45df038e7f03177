"""Synthesised sounds that come with the package: an experiment without a download."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tse_refine.data.corpora import synthesis
from tse_refine.data.corpora.base import SPLITS, Clip, Corpus

Synthesiser = Callable[[np.random.Generator, float], np.ndarray]


class _SynthesisedCorpus(Corpus):
    """Clips that are computed when read, each from its own name."""

    def __init__(self, synthesisers: Mapping[str, Synthesiser], instances: Mapping[str, int]) -> None:
        self._synthesisers = synthesisers
        self._instances = instances

    def clips(self) -> list[Clip]:
        """Return every instance of every sound; an instance is a recording of its own."""
        names = [
            (label, split, f"{label}/{split}/{number}")
            for label in sorted(self._synthesisers)
            for split in SPLITS
            for number in range(self._instances[split])
        ]
        return [Clip(name, label, split, recording=name) for label, split, name in names]

    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        """Synthesise a clip, ``[samples, 1]``, between 3 and 6 s long, with a peak of 0.5."""
        seed = int.from_bytes(hashlib.blake2b(clip.name.encode(), digest_size=8).digest(), "little")
        rng = np.random.default_rng(seed)
        seconds = round(rng.uniform(3.0, 6.0), 1)  # tenths: lengths with small factors, whose transforms are fast
        sound = self._synthesisers[clip.label](rng, seconds)
        sound = 0.5 * sound / np.abs(sound).max()
        return sound.astype(np.float32)[start:stop, None], synthesis.SAMPLE_RATE

    def fingerprints(self, clips: Sequence[Clip], cache_dir: Path) -> list[str]:
        """Return the clips' names together with a digest of the code that synthesises them."""
        code = hashlib.blake2b(
            Path(synthesis.__file__).read_bytes() + Path(__file__).read_bytes(), digest_size=8
        ).hexdigest()
        return [f"{code}/{clip.name}" for clip in clips]


class SyntheticSounds(_SynthesisedCorpus):
    """Twelve classes of synthesised foreground sounds, every instance with its own parameters.

    Args:
        train_instances: instances of a class in the training split.
        val_instances: instances of a class in the validation split.
        test_instances: instances of a class in the test split.

    >>> SyntheticSounds().classes()[:4]
    ['alarm', 'applause', 'bell', 'bird']
    """

    def __init__(self, train_instances: int = 60, val_instances: int = 15, test_instances: int = 25) -> None:
        instances = {"train": train_instances, "val": val_instances, "test": test_instances}
        super().__init__(synthesis.FOREGROUNDS, instances)


class SyntheticBackgrounds(_SynthesisedCorpus):
    """Three kinds of synthesised backgrounds: wind, ventilation and traffic.

    Args:
        train_instances: instances of a kind in the training split.
        val_instances: instances of a kind in the validation split.
        test_instances: instances of a kind in the test split.
    """

    def __init__(self, train_instances: int = 20, val_instances: int = 5, test_instances: int = 8) -> None:
        instances = {"train": train_instances, "val": val_instances, "test": test_instances}
        super().__init__(synthesis.BACKGROUNDS, instances)
