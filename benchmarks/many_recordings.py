"""Extracting from many short recordings: in one process, in several, in parts, and again after a stop.

::

    python benchmarks/many_recordings.py --recordings 2000

The recordings are noise, mono, 44.1 kHz, 16 bit, two seconds each. The shipped network extracts three classes that the
threshold 0 keeps, so that every recording needs its mask. Each row is the command as a user gives it, with the start of
its processes; *difference* is the largest of any sample from what the first row wrote, where full scale is 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import numpy as np
import soundfile
from measuring import machine, parser, report

from tse_refine.files.tables import Table

COMMAND = ("extract", "--checkpoint", "real53-small", "--query", "dog", "rain", "siren", "--threshold", "0")
RATE, SECONDS = 44_100, 2  # of each recording


def main() -> None:
    """Make the recordings, extract from them in each way, and print a table."""
    made = parser(__doc__, repeats=None)
    made.add_argument("--recordings", type=int, default=2000, help="number of recordings")
    options = made.parse_args()
    with TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    one = rows[0][1]
    table = [
        (way, f"{taken:.1f}", f"{60 * options.recordings / taken:.0f}", f"{taken / one:.2f}", f"{difference:.1e}")
        for way, taken, difference in rows
    ]
    head = ("extract", "seconds", "recordings per minute", "times one process", "difference")
    note = f"{machine()}; {options.recordings} recordings; {options.threads} threads, shared by the workers."
    report(Table(head, table, note), options, rows=rows)


def measure(options: Namespace, folder: Path) -> list[tuple[str, float, float]]:
    """Return for each way of extracting its name, seconds and difference from the first."""
    recordings = folder / "recordings"
    recordings.mkdir()
    generator = np.random.default_rng(0)
    for number in range(options.recordings):
        noise = 0.1 * generator.standard_normal(SECONDS * RATE)
        soundfile.write(recordings / f"{number:05}.wav", noise, RATE, subtype="PCM_16")
    workers = ("--workers", str(options.threads))
    rows: list[tuple[str, float, float]] = []

    def add(way: str, output: str, *runs: tuple[str, ...], threads: int = options.threads) -> float:
        start = monotonic()
        for words in runs:
            _extract(recordings, folder / output, words, threads)
        seconds = monotonic() - start
        rows.append((way, seconds, largest_difference(folder / "one", folder / output)))
        return seconds

    add("in one process", "one", ())
    add("in one process, one thread", "thread", (), threads=1)
    several = add(" ".join(workers), "workers", workers)
    add("--shard 1/2, then 2/2", "shards", ("--shard", "1/2"), ("--shard", "2/2"))
    _extract(recordings, folder / "stopped", workers, options.threads, stop_after=several / 2)
    kept = len(list((folder / "stopped").glob("*.wav")))
    add(f"--skip-existing, after a stop at {kept} of them", "stopped", (*workers, "--skip-existing"))
    add("--skip-existing, nothing left", "one", ("--skip-existing",))
    return rows


def largest_difference(reference: Path, folder: Path) -> float:
    """Return the largest difference of any sample of two folders with the same files."""
    names, others = ({path.name for path in each.iterdir()} for each in (reference, folder))
    assert names == others, f"{folder} has not the same files as {reference}"
    pairs = ((soundfile.read(reference / name)[0], soundfile.read(folder / name)[0]) for name in names)
    return max(float(np.abs(expected - actual).max()) for expected, actual in pairs)


def _extract(
    recordings: Path, output: Path, words: tuple[str, ...], threads: int, stop_after: float | None = None
) -> None:
    """Run the command to its end, or stop it by SIGTERM after some seconds."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "tse_refine", *COMMAND, f"--input={recordings}", f"--output={output}", *words]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if stop_after is not None:
        sleep(stop_after)
        running.send_signal(signal.SIGTERM)
    _, messages = running.communicate()
    # the second where it was stopped before the command itself had begun
    expected = (0,) if stop_after is None else (128 + signal.SIGTERM, -signal.SIGTERM)
    if running.returncode not in expected:
        raise SystemExit(f"{' '.join(command)}: status {running.returncode}, not of {expected}:\n{messages}")


if __name__ == "__main__":
    main()
