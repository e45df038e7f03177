"""Decoded recordings: mono, at the model's rate, in one memory-mapped file that all workers share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from tse_refine.errors import InputError, listed
from tse_refine.files.atomic import write_text
from tse_refine.files.digests import digest_of
from tse_refine.files.documents import Fields, parse_json, read_text

FORMAT = 4  # increased with a change of the stored values, so that older banks are not used
TABLE, SAMPLES, HOPS, REJECTED = "bank.json", "samples.i16", "hops.f32", "rejected.csv"
CONTENTS, TABLE_DIGEST = "contents", "table"  # in the table: digests of the other files, and of the rest of the table
_MOST_SAMPLES = 2**50
_LOUDEST = 1e12  # mean power of samples of at most 1e6, K-weighted


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
        table = _read_table(self.folder)
        is_older = not {CONTENTS, TABLE_DIGEST} & table.values.keys()  # without digests
        if not is_older and table.get(TABLE_DIGEST, None) != _table_digest(table.values):
            raise _damaged(self.folder, f"{TABLE} has another content than when it was built")
        try:
            self._entries = _entries(table)
            self.sample_rate = table.whole("sample_rate", 1, 10**9)
            self.digest = table.text("digest")
            self.rejected: dict[str, str] = dict(table.fields("rejected").values)
            contents = Fields(table.get(CONTENTS, {}), CONTENTS)  # banks of earlier versions have none
            self._contents = {name: contents.text(name) for name in (SAMPLES, HOPS) if name in contents}
        except ValueError as error:
            raise _damaged(self.folder, f"{TABLE} cannot be read ({error})") from error
        self._position = {entry.name: number for number, entry in enumerate(self._entries)}
        self._samples = self._map(SAMPLES, np.int16, sum(entry.length for entry in self._entries))
        self._hops = self._map(HOPS, np.float32, sum(2 * entry.hops for entry in self._entries))
        if not ((self._hops >= 0.0) & (self._hops <= _LOUDEST)).all():  # false for NaN
            raise _damaged(self.folder, f"{HOPS} has energies that no recording has")

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

    def check_contents(self, digests: Callable[[Sequence[Path]], Sequence[str]]) -> None:
        """Compare the samples and energies on disk with those that were built.

        Args:
            digests: function that returns one digest per file.

        Raises:
            InputError: names the file that differs.
        """
        names = list(self._contents)
        for name, digest in zip(names, digests([self.folder / name for name in names]), strict=True):
            if digest != self._contents[name]:
                raise _damaged(self.folder, f"{name} has another content than when it was built")

    def verify(self) -> None:
        """Read the whole bank and compare it with what was built.

        Raises:
            InputError: names the file that differs.
        """
        self.check_contents(lambda paths: [content_digest(path) for path in paths])
        if combined(recording_digests(self.folder, self._entries)) != self.digest:
            raise _damaged(self.folder, f"{SAMPLES} or {HOPS} has another content than when it was built")

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
    table = _read_table(folder)
    try:
        pairs = [tuple(pair) for pair in table.items("recordings", _MOST_SAMPLES, [])]
        if not all(len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
            raise ValueError("recordings is not a list of names and digests")
        return BankIdentity(table.whole("sample_rate", 1, 10**9), pairs, table.whole("format", 0, 10**9))
    except (ValueError, TypeError) as error:
        raise _damaged(folder, f"{TABLE} cannot be read ({error})") from error


def write_table(folder: Path, table: dict[str, Any]) -> None:
    """Write the table of a bank whose other files are complete, with their digests and its own.

    Args:
        folder: folder of the bank.
        table: the table without them.
    """
    table = {**table, CONTENTS: {name: content_digest(folder / name) for name in (SAMPLES, HOPS)}}
    write_text(folder / TABLE, json.dumps({**table, TABLE_DIGEST: _table_digest(table)}))


def recording_digests(folder: Path, entries: Sequence[BankEntry]) -> Iterator[str]:
    """Yield the digest of every recording as it is stored: its name, its energies and its samples."""
    with open(folder / SAMPLES, "rb") as samples, open(folder / HOPS, "rb") as hops:
        for entry in entries:
            yield recording_digest(entry.name, hops.read(8 * entry.hops), samples.read(2 * entry.length))


def recording_digest(name: str, hops: bytes | memoryview, samples: bytes | memoryview) -> str:
    """Return the digest of one recording."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=16)
    digest.update(hops)
    digest.update(samples)
    return digest.hexdigest()


def combined(digests: Iterable[str]) -> str:
    """Return the digest of a bank, from those of its recordings."""
    return hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()


def content_digest(path: Path) -> str:
    """Return the digest of a file of a bank; empty where there is none."""
    return digest_of(path, hashlib.blake2b(digest_size=16)) if path.exists() else ""


def _read_table(folder: Path) -> Fields:
    try:
        return Fields(parse_json(read_text(folder / TABLE)), "the table")
    except ValueError as error:
        raise _damaged(folder, f"{TABLE} cannot be read ({error})") from error


def _table_digest(table: Mapping[str, Any]) -> str:
    table = {name: value for name, value in table.items() if name != TABLE_DIGEST}
    return hashlib.blake2b(json.dumps(table).encode(), digest_size=16).hexdigest()


def _entries(table: Fields) -> list[BankEntry]:
    """Return the recordings of a table; ValueError where they do not follow one another without gaps."""
    entries: list[BankEntry] = []
    names = {field.name for field in fields(BankEntry)}
    offset = hop_offset = 0
    for number, values in enumerate(table.items("entries", _MOST_SAMPLES)):
        entry = Fields(values, f"entry {number}")
        if entry.values.keys() != names:
            raise ValueError(f"entry {number} has other values than {', '.join(sorted(names))}")
        entry.whole("offset", offset, offset)
        entry.whole("hop_offset", hop_offset, hop_offset)
        entry.number("scale", 0.0, 1e6)
        entry.number("loudest_lufs", -200.0, 200.0)
        offset += entry.whole("length", 1, _MOST_SAMPLES)
        hop_offset += 2 * entry.whole("hops", 1, _MOST_SAMPLES)
        if not isinstance(entry.values["name"], str):
            raise ValueError(f"the name of entry {number} is not text")
        entries.append(BankEntry(**entry.values))
    if len({entry.name for entry in entries}) < len(entries):
        raise ValueError("two entries have the same name")
    return entries


def _damaged(folder: Path, finding: str) -> InputError:
    return InputError(f"data.cache_dir: {folder} is damaged: {finding}. Remove that folder; it will be built again.")
