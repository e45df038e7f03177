"""The files of a clip bank, and the digests and journals beside it."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np

from tests.fuzz.mutating import damaged_bytes, damaged_json
from tests.fuzz.targets import read_all, scratch
from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.bank.clip_bank import ClipBank, read_identity
from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.files.digests import FileDigests

INPUTS = 0.2


class _Noises(Corpus):
    def clips(self) -> list[Clip]:
        return [Clip(name, "noise", "train", name) for name in ("a", "b")]

    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        noise = np.random.default_rng(ord(clip.name)).standard_normal((4000, 1), np.float32)
        return 0.1 * noise[start:stop], 4000

    def digests(self, clips: list[Clip], cache_dir: Path) -> list[str]:
        return [clip.name for clip in clips]


@lru_cache
def _valid() -> Path:
    return open_clip_bank(_Noises(), 4000, scratch("bank") / "cache", False, "data.foregrounds").folder


def seeds() -> list[bytes]:
    return [f"{path.name}\n".encode() + path.read_bytes() for path in sorted(_valid().iterdir())]


def mutate(data: bytes, rng: Random) -> bytes:
    """Damage the file below the line with its name."""
    name, _, content = data.partition(b"\n")
    return name + b"\n" + (damaged_json if name == b"bank.json" else damaged_bytes)(content, rng)


def check(data: bytes) -> None:
    name, _, content = data.partition(b"\n")
    if name not in (b"bank.json", b"samples.i16", b"hops.f32"):
        return
    folder = scratch("bank") / "damaged"
    if not folder.exists():
        shutil.copytree(_valid(), folder)
    path = folder / name.decode()
    valid = path.read_bytes()
    try:
        path.write_bytes(content)
        if name == b"bank.json":
            (folder / "fingerprints.json").write_bytes(content)  # only a memory: never an error
            FileDigests(folder)([folder / "hops.f32"])
        read_all(lambda: read_identity(folder), lambda: _use(folder))
    finally:
        path.write_bytes(valid)


def _use(folder: Path) -> None:
    bank = ClipBank(folder)
    for clip in range(len(bank)):
        assert len(bank.samples(clip)) == bank.entry(clip).length
        assert np.isfinite(bank.weighted_hops(clip)).all()
        assert np.isfinite(bank.plain_hops(clip)).all()
    bank.verify()
    valid = ClipBank(_valid())
    assert all(bank.entry(clip) == valid.entry(clip) for clip in range(len(valid)))
