"""Time, memory and disk of building a clip bank, beside decoding alone, and the SNR of 16-bit storage.

Writes hours of noise in the format of TAU Urban Acoustic Scenes 2019 (48 kHz, 24 bit, stereo, 10 s per file) and three
long recordings, a quarter of the hours each, then builds the bank at 16 kHz and measures the anonymous memory of the
process::

    python benchmarks/clip_bank.py --hours 4

``decoded alone`` is the plain way: files are read, averaged and resampled one after another, and nothing is kept. A
bank also needs digests and energies, and uses all cores. Memory does not grow with the number of files; time and disk
of a larger corpus are proportional.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional
from measuring import machine, medians, parser, report

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora import LabelFolders, SyntheticSounds
from tse_refine.files.tables import Table

RATE = 48_000
BANK_RATE = 16_000
SECONDS_PER_FILE = 10
LONG_RECORDINGS = 3


class MemoryWatch:
    """Measures the largest anonymous memory (RssAnon) of this process while it is entered."""

    def __enter__(self) -> MemoryWatch:
        """Start measuring, every 20 ms."""
        self.before = self.peak = rss_anon()
        self._done = Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop measuring."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, rss_anon())


def rss_anon() -> int:
    """Return the anonymous memory of this process, bytes (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def write_noise(folder: Path, hours: float) -> None:
    """Write distinct files of noise."""
    noise = np.random.default_rng(0).normal(0.0, 0.05 * 2**31, (SECONDS_PER_FILE * RATE, 2)).clip(-(2**31), 2**31 - 1)
    noise = noise.astype(np.int32)
    for number in range(round(hours * 3600 / SECONDS_PER_FILE)):
        shifted = np.roll(noise, 1 + 37 * number, axis=0)
        path = folder / f"street{number % 10}" / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, shifted, RATE, subtype="PCM_24")


def write_long(folder: Path, hours: float) -> None:
    """Write a few long recordings of noise."""
    for number in range(LONG_RECORDINGS):
        path = folder / "street" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0.0, 0.05, (SECONDS_PER_FILE * RATE, 2))
        with soundfile.SoundFile(path, "w", RATE, 2, "PCM_24") as file:
            for _ in range(max(1, round(hours * 3600 / SECONDS_PER_FILE))):
                file.write(noise)


class Build:
    """Builds the bank of a folder anew at each call.

    Attributes:
        peak_gib: largest memory so far.
        size: bytes of the bank on disk.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.corpus, self.cache = LabelFolders(str(folder)), cache
        self.peak_gib, self.size = 0.0, 0

    def __call__(self) -> None:
        """Build."""
        shutil.rmtree(self.cache, ignore_errors=True)
        with MemoryWatch() as memory:
            bank = open_clip_bank(self.corpus, BANK_RATE, self.cache, False, "data.backgrounds")
        self.peak_gib = max(self.peak_gib, memory.peak / 2**30)
        self.size = sum(path.stat().st_size for path in bank.folder.iterdir())


def decode_alone(folder: Path) -> Callable[[], None]:
    """Return a function that decodes all files of a folder."""

    def once() -> None:
        for path in sorted(folder.rglob("*.wav")):
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
            audio_functional.resample(torch.from_numpy(sound.mean(axis=1)), rate, BANK_RATE)

    return once


def storage_snr_db() -> dict[str, float]:
    """Return the median SNR in dB of the synthetic sounds in two 16-bit formats."""
    snr: dict[str, list[float]] = {"int16, relative to the clip's peak": [], "float16": []}
    corpus = SyntheticSounds(4, 0, 0)
    for clip in corpus.clips():
        sound = corpus.read(clip)[0][:, 0].astype(np.float64)
        scale = np.abs(sound).max() / 32767
        stored = (np.round(sound / scale) * scale, sound.astype(np.float16).astype(np.float64))
        for values, approximation in zip(snr.values(), stored, strict=True):
            values.append(10 * np.log10(np.sum(sound**2) / np.sum((approximation - sound) ** 2)))
    return {name: float(np.median(values)) for name, values in snr.items()}


def main() -> None:
    """Measure and print."""
    options_parser = parser(__doc__, threads=os.cpu_count() or 1)
    options_parser.add_argument("--hours", type=float, default=4.0, help="hours of recordings in files of 10 s")
    options = options_parser.parse_args()
    torch.set_num_threads(options.threads)
    quarter, hours = options.hours / 4, options.hours
    with TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        write_noise(folder / "quarter", quarter)
        write_noise(folder / "all", hours)
        write_long(folder / "long", quarter)
        builds = {
            f"{quarter:g} h in files of 10 s": (quarter, Build(folder / "quarter", cache)),
            f"{hours:g} h in files of 10 s": (hours, Build(folder / "all", cache)),
            f"{LONG_RECORDINGS} recordings of {quarter:g} h": (
                LONG_RECORDINGS * quarter,
                Build(folder / "long", cache),
            ),
        }
        plain = f"{quarter:g} h in files of 10 s, decoded alone"
        runs = {label: build for label, (_, build) in builds.items()} | {plain: decode_alone(folder / "quarter")}
        seconds = medians(runs, options.repeats, warm_up=0)
    rows = [
        (
            label, f"{seconds[label]:.1f}", f"{seconds[label] / each_hours:.1f}", f"{build.peak_gib:.2f}",
            f"{build.size / 2**20:.0f}",
        )
        for label, (each_hours, build) in builds.items()
    ]  # fmt: skip
    rows.append((plain, f"{seconds[plain]:.1f}", f"{seconds[plain] / quarter:.1f}", "", ""))
    head = ("recordings", "time (s)", "seconds per hour", "peak RssAnon (GiB)", "on disk (MiB)")
    note = f"{machine()}; {options.threads} threads, medians of {options.repeats}, peaks of all."
    snr = storage_snr_db()
    stored = Table(("stored as", "median SNR (dB)"), [(label, f"{each:.0f}") for label, each in snr.items()])
    report([Table(head, rows, note), stored], options, seconds=seconds, snr_db=snr)


if __name__ == "__main__":
    main()
