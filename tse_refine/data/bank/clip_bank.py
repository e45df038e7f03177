"""Decoded recordings: mono, at the model's rate, in one memory-mapped file that all workers share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tse_refine.errors import InputError, listed

FORMAT = 4  # increased with a change of the stored values, so that older banks are not used
TABLE, SAMPLES, HOPS, REJECTED = "bank.json", "samples.i16", "hops.f32", "rejected.csv"


@dataclass(frozen=True)
class BankIdentity:
    """Recordings and format that a bank was made from.

    Attributes:
        sample_rate: sample rate of the bank, Hz.
        recordings: name and digest of every clip of the corpus, in its order.
        format: number of the bank's file format.
    """

    sample_rate: int
    recordings: Sequence[tuple[str, str]]
    format: int = FORMAT

    def differences(self, other: BankIdentity) -> list[str]:
        """Describe the differences of another identity, one phrase per difference."""
        phrases = []
        if other.format != self.format:
            phrases.append(f"format {other.format} instead of {self.format}")
        if other.sample_rate != self.sample_rate:
            phrases.append(f"{other.sample_rate} Hz instead of {self.sample_rate} Hz")
        mine, theirs = dict(self.recordings), dict(other.recordings)
        for verb, names in (
            ("lacks", sorted(mine.keys() - theirs.keys())),
            ("has in addition", sorted(theirs.keys() - mine.keys())),
            ("has another version of", sorted(n for n in mine.keys() & theirs.keys() if mine[n] != theirs[n])),
        ):
            if names:
                phrases.append(f"it {verb} {len(names)} recordings ({listed(names, most=3)})")
        if not phrases and list(self.recordings) != list(other.recordings):
            phrases.append("the recordings are in another order")
        return phrases


@dataclass(frozen=True)
class BankEntry:
    """One recording in the bank.

    Attributes:
        name: the clip's name in its corpus.
        offset: position of its first sample in the file, samples.
        length: number of samples at the model's rate.
        scale: factor of the stored integers, whose largest is 32767.
        hop_offset: position of its hop energies in the file, numbers: first the weighted, then the plain ones.
        hops: number of hops.
        loudest_lufs: loudness of its loudest 400 ms.
    """

    name: str
    offset: int
    length: int
    scale: float
    hop_offset: int
    hops: int
    loudest_lufs: float


class ClipBank:
    """The decoded clips of one corpus.

    Samples are stored as 16-bit integers relative to each clip's own peak, which keeps 90 dB below that peak and takes
    115 MB per hour at 16 kHz. A pickled bank contains only its path: worker processes map the same file again.

    Args:
        folder: folder of a complete bank, as made by :func:`tse_refine.data.bank.builder.open_clip_bank`.

    Attributes:
        sample_rate: Hz.
        digest: digest of the stored audio, the same on every machine and path.
        rejected: reason by clip name, for recordings that cannot be used.

    Raises:
        InputError: the folder's files are not those of one bank.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        try:
            table = json.loads((self.folder / TABLE).read_text(encoding="utf-8"))
            self._entries = [BankEntry(**entry) for entry in table["entries"]]
            self.sample_rate: int = table["sample_rate"]
            self.digest: str = table["digest"]
            self.rejected: dict[str, str] = table["rejected"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self.folder, f"{TABLE} cannot be read ({error})") from error
        self._position = {entry.name: number for number, entry in enumerate(self._entries)}
        self._samples = self._map(SAMPLES, np.int16, sum(entry.length for entry in self._entries))
        self._hops = self._map(HOPS, np.float32, sum(2 * entry.hops for entry in self._entries))

    def __contains__(self, name: str) -> bool:
        return name in self._position

    def __len__(self) -> int:
        return len(self._entries)

    def position(self, name: str) -> int:
        """Return the number of a clip, by which recipes identify it."""
        return self._position[name]

    def entry(self, clip: int) -> BankEntry:
        """Return the table row of a clip."""
        return self._entries[clip]

    def samples(self, clip: int) -> np.ndarray:
        """Return a clip's stored integers, ``[samples]``, without a copy; their factor is the entry's scale."""
        entry = self._entries[clip]
        return self._samples[entry.offset : entry.offset + entry.length]

    def weighted_hops(self, clip: int) -> np.ndarray:
        """Return the K-weighted mean power of each 100 ms of a clip, ``[hops]``."""
        entry = self._entries[clip]
        return self._hops[entry.hop_offset : entry.hop_offset + entry.hops]

    def plain_hops(self, clip: int) -> np.ndarray:
        """Return the mean power of each 100 ms of a clip, ``[hops]``."""
        entry = self._entries[clip]
        return self._hops[entry.hop_offset + entry.hops : entry.hop_offset + 2 * entry.hops]

    def _map(self, name: str, dtype: type, length: int) -> np.ndarray:
        path = self.folder / name
        size, expected = path.stat().st_size if path.exists() else 0, length * np.dtype(dtype).itemsize
        if size != expected:
            raise _damaged(self.folder, f"{name} has {size} bytes instead of {expected}")
        if not length:  # a bank whose every clip was rejected; numpy cannot map an empty file
            return np.empty(0, dtype)
        return np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # a plain array: slices of a memmap object are slow

    def __reduce__(self) -> tuple[type[ClipBank], tuple[Path]]:
        return ClipBank, (self.folder,)


def read_identity(folder: Path) -> BankIdentity:
    """Return the recordings and the format that a bank was made from.

    Args:
        folder: folder of a bank.

    Raises:
        InputError: the table cannot be read.
    """
    try:
        table = json.loads((folder / TABLE).read_text(encoding="utf-8"))
        recordings = [(name, digest) for name, digest in table.get("recordings", [])]
        return BankIdentity(table["sample_rate"], recordings, table["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"{TABLE} cannot be read ({error})") from error


def _damaged(folder: Path, finding: str) -> InputError:
    return InputError(f"data.cache_dir: {folder} is damaged: {finding}. Remove that folder; it will be built again.")
