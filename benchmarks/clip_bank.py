"""What building a clip bank costs: time, memory and disk, and what 16 bits cost in quality.

Writes hours of noise in the format of TAU Urban Acoustic Scenes 2019 (48 kHz, 24 bit, stereo, 10 s a file) and, beside
them, one recording of an hour, then builds the bank at 16 kHz while it watches the anonymous memory of the process::

    python benchmarks/clip_bank.py --hours 4

Memory does not grow with the number of files, so that time and disk of a larger corpus follow by proportion.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter

import numpy as np
import soundfile

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora import LabelFolders, SyntheticSounds

RATE = 48_000
BANK_RATE = 16_000
SECONDS_A_FILE = 10


class MemoryWatch:
    """Notes the largest anonymous memory (RssAnon) of this process while it is entered."""

    def __enter__(self) -> MemoryWatch:
        """Start watching, every 20 ms."""
        self.before = self.peak = rss_anon()
        self._done = Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop watching."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.peak = max(self.peak, rss_anon())


def rss_anon() -> int:
    """Return the anonymous memory of this process, bytes (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def write_noise(folder: Path, hours: float) -> None:
    """Write distinct files of noise."""
    noise = np.random.default_rng(0).normal(0.0, 0.05 * 2**31, (SECONDS_A_FILE * RATE, 2)).clip(-(2**31), 2**31 - 1)
    noise = noise.astype(np.int32)
    for number in range(round(hours * 3600 / SECONDS_A_FILE)):
        shifted = np.roll(noise, 1 + 37 * number, axis=0)
        path = folder / f"street{number % 10}" / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, shifted, RATE, subtype="PCM_24")


def build(corpus: LabelFolders, cache: Path) -> tuple[float, float, int]:
    """Build a bank; return seconds, peak memory in GiB and its bytes on disk."""
    with MemoryWatch() as memory:
        start = perf_counter()
        bank = open_clip_bank(corpus, BANK_RATE, cache, False, "data.backgrounds")
        seconds = perf_counter() - start
    return seconds, memory.peak / 2**30, sum(path.stat().st_size for path in bank.folder.iterdir())


def storage_snr_db() -> dict[str, float]:
    """Return the median signal-to-noise ratio, in dB, of the synthetic sounds stored in 16 bits in either way."""
    found: dict[str, list[float]] = {"int16, relative to the clip's peak": [], "float16": []}
    corpus = SyntheticSounds(4, 0, 0)
    for clip in corpus.clips():
        sound = corpus.read(clip)[0][:, 0].astype(np.float64)
        scale = np.abs(sound).max() / 32767
        stored = (np.round(sound / scale) * scale, sound.astype(np.float16).astype(np.float64))
        for values, one in zip(found.values(), stored, strict=True):
            values.append(10 * np.log10(np.sum(sound**2) / np.sum((one - sound) ** 2)))
    return {name: float(np.median(values)) for name, values in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=4.0, help="of recordings in files of 10 s")
    options = parser.parse_args()
    for name, snr in storage_snr_db().items():
        print(f"stored as {name}: SNR {snr:.0f} dB")
    with TemporaryDirectory() as name:
        folder = Path(name)
        for hours in (options.hours / 4, options.hours):
            write_noise(folder / f"{hours:g}", hours)
            corpus = LabelFolders(str(folder / f"{hours:g}"))
            seconds, peak, size = build(corpus, folder / "cache")
            print(
                f"{hours:g} h in files of 10 s: {seconds:.0f} s on {os.cpu_count()} cores, "
                f"peak RssAnon {peak:.2f} GiB, "
                f"{size / 2**20 / hours:.0f} MiB an hour on disk; 40 h: {seconds / hours * 40 / 60:.0f} min, "
                f"{size / hours * 40 / 2**30:.1f} GiB"
            )
        long = folder / "long" / "street"
        for number in range(3):
            path = long / f"{number}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with soundfile.SoundFile(path, "w", RATE, 2, "PCM_24") as file:
                noise = np.random.default_rng(number).normal(0.0, 0.05, (60 * RATE, 2))
                for _ in range(60):
                    file.write(noise)
        seconds, peak, _ = build(LabelFolders(str(folder / "long")), folder / "cache")
        print(f"3 recordings of an hour: {seconds:.0f} s, peak RssAnon {peak:.2f} GiB")


if __name__ == "__main__":
    main()
