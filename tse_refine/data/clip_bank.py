"""Recordings decoded once: mono, at the model's rate, in one memory-mapped file that all workers share."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional
from tqdm import tqdm

from tse_refine.data.corpus import Clip, Corpus
from tse_refine.data.loudness import hop_energies, loudest_block
from tse_refine.errors import InputError
from tse_refine.files import write_text

FORMAT = 2  # a change of what is stored or how it is computed makes older banks unused
SILENCE_LUFS = -60.0


@dataclass(frozen=True)
class BankEntry:
    """One recording in the bank.

    Attributes:
        name: the clip's name in its corpus.
        offset: where its samples start in the file, samples.
        length: samples at the model's rate.
        scale: what a stored integer is multiplied with; the largest is 32767.
        hop_offset: where its hop energies start.
        hops: number of hop energies.
    """

    name: str
    offset: int
    length: int
    scale: float
    hop_offset: int
    hops: int


class ClipBank:
    """The clips of one corpus, decoded.

    Samples are stored as 16-bit integers relative to each clip's own peak, which keeps 90 dB below that peak and costs
    115 MB an hour at 16 kHz. A pickled bank carries only its path: worker processes map the same file again.

    Args:
        folder: a finished bank, as :func:`open_clip_bank` makes it.

    Attributes:
        sample_rate: Hz.
        digest: names the stored audio, whatever machine or path it came from.
        rejected: reason by clip name, for recordings that cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        table = json.loads((self.folder / "bank.json").read_text())
        self.sample_rate: int = table["sample_rate"]
        self.digest: str = table["digest"]
        self.rejected: dict[str, str] = table["rejected"]
        self._entries = [BankEntry(**entry) for entry in table["entries"]]
        self._position = {entry.name: number for number, entry in enumerate(self._entries)}
        self._map()

    def __contains__(self, name: str) -> bool:
        return name in self._position

    def __len__(self) -> int:
        return len(self._entries)

    def position(self, name: str) -> int:
        """Return the number by which recipes call a clip."""
        return self._position[name]

    def entry(self, clip: int) -> BankEntry:
        """Return the table row of a clip."""
        return self._entries[clip]

    def samples(self, clip: int) -> np.ndarray:
        """Return a clip's stored integers, ``[samples]``, without copying; multiply by the entry's scale."""
        entry = self._entries[clip]
        return self._samples[entry.offset : entry.offset + entry.length]

    def weighted_hops(self, clip: int) -> np.ndarray:
        """Return the K-weighted mean power of each 100 ms of a clip, ``[hops]``."""
        entry = self._entries[clip]
        return self._hops[0, entry.hop_offset : entry.hop_offset + entry.hops]

    def plain_hops(self, clip: int) -> np.ndarray:
        """Return the mean power of each 100 ms of a clip, ``[hops]``."""
        entry = self._entries[clip]
        return self._hops[1, entry.hop_offset : entry.hop_offset + entry.hops]

    def _map(self) -> None:
        num_samples = sum(entry.length for entry in self._entries)
        # numpy cannot map an empty file; a bank whose every clip was rejected is still a bank
        mapped = np.memmap(self.folder / "samples.i16", dtype=np.int16, mode="r") if num_samples else []
        self._samples = np.asarray(mapped, dtype=np.int16)  # as a plain array: slices of a memmap object are slow
        self._hops = np.load(self.folder / "hops.npy")

    def __getstate__(self) -> dict:
        return {"folder": self.folder}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["folder"])


def open_clip_bank(
    corpus: Corpus, sample_rate: int, cache_dir: Path, skip_unusable: bool, option: str, show_progress: bool = True
) -> ClipBank:
    """Open the bank of a corpus, decoding its recordings first where that has not been done.

    The bank's folder is named after the clips' fingerprints and the sample rate, so that a changed recording is never
    taken for the old one. It is built under a temporary name and renamed when it is whole.

    Args:
        corpus: the recordings.
        sample_rate: of the bank, Hz.
        cache_dir: folder of all banks.
        skip_unusable: leave out recordings that are missing, unreadable, empty or silent, and list them in
            ``rejected.csv`` in the bank's folder, instead of refusing them.
        option: name of the corpus's option, for messages.
        show_progress: draw a progress bar while building.

    Raises:
        InputError: recordings cannot be used and are not to be skipped, or none is left; every one is listed.
    """
    clips = corpus.clips()
    fingerprints = corpus.fingerprints(clips, cache_dir)
    identity = json.dumps([FORMAT, sample_rate, [[c.name, f] for c, f in zip(clips, fingerprints, strict=True)]])
    folder = Path(cache_dir) / f"bank-{hashlib.blake2b(identity.encode(), digest_size=10).hexdigest()}"
    if not (folder / "bank.json").exists():
        _build(corpus, clips, sample_rate, folder, show_progress)
    bank = ClipBank(folder)
    if bank.rejected and (not skip_unusable or not len(bank)):
        listed = "\n".join(f"  {name}: {reason}" for name, reason in bank.rejected.items())
        raise InputError(
            f"{option}: {len(bank.rejected)} of {len(clips)} recordings cannot be used:\n{listed}\n"
            "Repair or replace them, or leave them out with --data.skip_unusable true "
            f"(their list is {folder / 'rejected.csv'})."
        )
    return bank


@dataclass(frozen=True)
class _Decoded:
    """What a worker thread makes of one recording: its samples and measures, or the reason to reject it."""

    samples: np.ndarray
    scale: float
    hops: np.ndarray  # [2, hops], K-weighted and plain
    rejected: str = ""


def _decode(corpus: Corpus, clip: Clip, sample_rate: int) -> _Decoded:
    def reject(reason: str) -> _Decoded:
        return _Decoded(np.empty(0, np.int16), 0.0, np.empty((2, 0), np.float32), reason)

    try:
        recording, recorded_rate = corpus.read(clip)
    except (OSError, soundfile.LibsndfileError) as error:
        return reject(f"cannot be read ({' '.join(str(error).split())})")
    if not recording.size:
        return reject("has no samples")
    if not np.isfinite(recording).all():
        return reject("has samples that are not finite numbers")
    mono = torch.from_numpy(recording.mean(axis=1))
    hops = np.stack(hop_energies(mono, recorded_rate))
    if loudest_block(hops[0]) < SILENCE_LUFS:
        return reject(f"is silent (its loudest 400 ms have {loudest_block(hops[0]):.0f} LUFS)")
    waveform = audio_functional.resample(mono, recorded_rate, sample_rate).numpy()
    scale = float(np.abs(waveform).max()) / 32767.0
    return _Decoded(np.round(waveform / scale).astype(np.int16), scale, hops)


def _in_order(corpus: Corpus, clips: Sequence[Clip], sample_rate: int, ahead: int = 16) -> Iterator[_Decoded]:
    """Decode in threads, yield in order, and never hold more than a few recordings."""
    remaining = iter(clips)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # decoding, filters, resampling release the lock
        pending = [pool.submit(_decode, corpus, clip, sample_rate) for clip in islice(remaining, ahead)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(_decode, corpus, clip, sample_rate) for clip in islice(remaining, 1)]


def _build(corpus: Corpus, clips: Sequence[Clip], sample_rate: int, folder: Path, show_progress: bool) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own, since a killed build may have left one; mkdtemp would keep the bank from other users
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    partial.mkdir()
    try:
        _write(corpus, clips, sample_rate, partial, show_progress)
        try:
            os.rename(partial, folder)
        except OSError:
            if not (folder / "bank.json").exists():  # else another process finished the same bank first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(corpus: Corpus, clips: Sequence[Clip], sample_rate: int, folder: Path, show_progress: bool) -> None:
    entries: list[BankEntry] = []
    rejected: dict[str, str] = {}
    hops: list[np.ndarray] = [np.empty((2, 0), np.float32)]
    digest = hashlib.blake2b(digest_size=16)
    offset = hop_offset = 0
    decoded = tqdm(
        _in_order(corpus, clips, sample_rate),
        total=len(clips),
        desc="clip bank",
        unit="clip",
        disable=None if show_progress else True,  # None: only where a person looks on
    )
    with open(folder / "samples.i16", "wb") as file:
        for clip, one in zip(clips, decoded, strict=True):
            if one.rejected:
                rejected[clip.name] = one.rejected
                continue
            file.write(one.samples.tobytes())
            digest.update(clip.name.encode() + one.samples.tobytes() + one.hops.tobytes())
            entries.append(BankEntry(clip.name, offset, len(one.samples), one.scale, hop_offset, one.hops.shape[1]))
            hops.append(one.hops)
            offset += len(one.samples)
            hop_offset += one.hops.shape[1]
    np.save(folder / "hops.npy", np.concatenate(hops, axis=1))
    if rejected:
        with open(folder / "rejected.csv", "w", newline="", encoding="utf-8") as listing:
            csv.writer(listing).writerows([("recording", "reason"), *rejected.items()])
    table = {
        "format": FORMAT,
        "sample_rate": sample_rate,
        "digest": digest.hexdigest(),
        "rejected": rejected,
        "entries": [asdict(entry) for entry in entries],
    }
    write_text(folder / "bank.json", json.dumps(table))
