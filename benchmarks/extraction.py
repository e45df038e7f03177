"""Seconds and memory of extracting from a file, beside torchaudio's Conv-TasNet on the same windows, in one run.

::

    python benchmarks/extraction.py
    python benchmarks/extraction.py --model small --seconds 1800 --refine file

The recording is noise, mono, 44.1 kHz, 16 bit. Networks have random weights, 41 classes, 16 kHz and windows of 6 s; one
class is queried, and the threshold 0 keeps it, so that every window needs its mask. Each network works from file to
file as the command does, in a process of its own with as many cores as threads. A peer stands in the network's place:
reading, resampling, windows, crossfades and writing are the same.

The real-time factor is the time per second of the recording (less than 1 is faster than the sound lasts), without the
start of the process and the loading of the checkpoint. Memory is the largest of the process, interpreter and libraries
included. GFLOP/s count two operations per multiply-accumulate of the windows, which overlap by a quarter; the share is
of the machine's product of large matrices on as many threads in the same precision.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from math import ceil
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch
from measuring import (
    CLASSES,
    RATE,
    Seconds,
    gmac_per_second,
    larger_limits,
    limits_text,
    machine,
    machine_limits,
    medians,
    network,
    network_config,
    parser,
    peers,
    report,
    timed,
)
from torch import Tensor, nn

from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.file_extraction import extract_file
from tse_refine.extraction.outputs import plan_outputs
from tse_refine.extraction.windows import WindowedNetwork
from tse_refine.files.tables import Table
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.model.network import Features

RECORDING_RATE = 44_100  # Hz
NAMES = tuple(f"class{number}" for number in range(CLASSES))
OURS = {"tse_refine": True, "without classifier": False}
HEAD = (
    "model", "cores", "network", "real-time factor", "times real time", "times torchaudio", "GFLOP/s", "of limit",
    "peak memory (MB)",
)  # fmt: skip
PUBLISHED = (
    "Published, on another machine and for a causal network of other sizes: Waveformer (Veluri et al. 2023), 41 "
    "classes, 44.1 kHz, chunks of about 10 ms: real-time factors of 0.66 to 0.94 on one thread of a Core i5 "
    "(README of https://github.com/vb000/Waveformer)."
)


def main() -> None:
    """Measure and print a table."""
    options_parser = parser(__doc__)
    options_parser.add_argument("--model", nargs="+", default=["paper", "small"], help="names of configs/model")
    options_parser.add_argument("--seconds", type=float, default=19.5, help="of the recording; 19.5 are four windows")
    options_parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    options_parser.add_argument("--compile", action="store_true", help="compile our networks, but no peer")
    options_parser.add_argument("--refine", choices=("window", "file"), default="window", help="as in the command")
    options = options_parser.parse_args()
    counts = sorted({1, options.threads})
    limits = {threads: limits_of(threads) for threads in counts}
    with TemporaryDirectory() as name:
        recording = Path(name) / "recording.wav"
        noise = 0.1 * np.random.default_rng(0).standard_normal(round(options.seconds * RECORDING_RATE))
        soundfile.write(recording, noise.astype(np.float32), RECORDING_RATE, "PCM_16")
        figures = [row for model in options.model for row in measure_model(model, counts, recording, options)]
    limits = {threads: larger_limits(limits[threads], limits_of(threads)) for threads in counts}
    precision = {"32-true": "float32", "bf16-mixed": "bfloat16"}[options.precision]
    rows = [
        (
            row["model"], str(row["cores"]), row["network"], f"{row['real_time_factor']:.4f}",
            f"{1 / row['real_time_factor']:.1f}", f"{row['times_torchaudio']:.2f}", f"{row['gflop_per_second']:.0f}",
            f"{row['gflop_per_second'] / limits[row['cores']][precision]:.0%}", f"{row['peak_mb']:.0f}",
        )
        for row in figures
    ]  # fmt: skip
    on_cores = " ".join(f"Threads: {threads}. {limits_text(limits[threads])}" for threads in counts)
    note = (
        f"{machine()}; {options.seconds:g} s of one channel, {precision}{', compiled' * options.compile}, refined per "
        f"{options.refine}, medians of {options.repeats}. {on_cores} {PUBLISHED}"
    )
    report(Table(HEAD, rows, note, num_left=3), options, limits=limits, rows=figures, published=PUBLISHED)


def limits_of(threads: int) -> dict[str, float]:
    """Return the machine's limits on so many threads."""
    torch.set_num_threads(threads)
    return machine_limits()


def measure_model(
    name: str, thread_counts: list[int], recording: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each number of cores and network."""
    modules = {label: network(name, classifier) for label, classifier in OURS.items()} | peers(network_config(name))
    gmac = {label: gmac_per_second(module, name) for label, module in modules.items()}
    for label in OURS:
        untrained(modules[label]).save(checkpoint(recording, name, label))
    windows = WindowedNetwork(untrained(modules["tse_refine"]))
    num_windows = 1 + max(0, ceil((options.seconds * RATE - windows.length) / windows.hop))
    in_windows = num_windows * min(options.seconds, windows.length / RATE)  # seconds
    gflop = {label: 2.0 * each * in_windows for label, each in gmac.items()}
    tasks = {
        (threads, label): Task(
            name, label, threads, recording, options.precision, options.compile and label in OURS, options.refine
        )
        for threads, label in product(thread_counts, gmac)
    }
    del modules
    workers = {key: Worker(task) for key, task in tasks.items()}
    seconds = medians(workers, options.repeats, warm_up=1)
    peaks = {key: worker.finish() for key, worker in workers.items()}
    return [
        {
            "model": name, "cores": threads, "network": label,
            "real_time_factor": taken / options.seconds,
            "times_torchaudio": seconds[threads, "torchaudio"] / taken,
            "gflop_per_second": gflop[label] / taken,
            "peak_mb": peaks[threads, label],
        }
        for (threads, label), taken in seconds.items()
    ]  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What a process extracts with.

    Attributes:
        model: name in ``configs/model``.
        label: ``tse_refine``, ``without classifier``, or a peer.
        threads: number of threads and of cores.
        recording: sound file; checkpoints and estimates lie beside it.
        precision: ``32-true`` or ``bf16-mixed``.
        compiled: compile the network.
        scope: ``window`` or ``file``.
    """

    model: str
    label: str
    threads: int
    recording: Path
    precision: str
    compiled: bool
    scope: str


class Worker:
    """A process that extracts when it is called, so that its largest memory is that of one network."""

    def __init__(self, task: Task) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(task, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that an end of the process is noticed

    def __call__(self) -> Seconds:
        """Extract once, and return the seconds."""
        self._pipe.send(True)
        return Seconds(self._pipe.recv())

    def finish(self) -> float:
        """End the process, and return its largest memory, MB."""
        self._pipe.send(False)
        peak = self._pipe.recv()
        self._process.join()
        return peak


def work(task: Task, pipe: Connection) -> None:
    """Extract as often as is asked for; then tell the largest memory."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    torch.set_num_threads(task.threads)
    extract = prepare(task)
    while pipe.recv():
        pipe.send(timed(extract))
    # ru_maxrss is at least the memory of the process that forked
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    pipe.send(int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000)


def prepare(task: Task) -> Callable[[], None]:
    """Return a function that extracts from the recording once."""
    if task.label in OURS:
        trained = load_network(checkpoint(task.recording, task.model, task.label))
    else:
        sizes = network_config(task.model)
        trained = untrained(PeerNetwork(peers(sizes)[task.label], round(sizes.window_ms * RATE / 2000)))
    if task.compiled:
        trained.network.compile_stacks()
    extractor = Extractor(trained, task.precision)
    output = task.recording.with_name(f"{task.model}.{task.label}.{task.threads}.wav")
    (plan,) = plan_outputs([task.recording], output, NAMES[:1])

    def once() -> None:
        extract_file(extractor, plan, NAMES[:1], 0.0, task.scope, overwrite=True)

    return once


def untrained(module: nn.Module) -> TrainedNetwork:
    """Return a network as if a training had left it."""
    return TrainedNetwork(module.eval(), NAMES, RATE)


def checkpoint(recording: Path, model: str, label: str) -> Path:
    """Return the path of a network's checkpoint."""
    return recording.with_name(f"{model}.{label}.ckpt")


class PeerNetwork(nn.Module):
    """A peer in the place of the network; it has neither queries nor a classifier.

    Args:
        peer: network for mixtures ``[batch, samples]``.
        stride: samples from frame to frame.
    """

    classifier = None

    def __init__(self, peer: nn.Module, stride: int) -> None:
        super().__init__()
        self.peer = peer
        self.stride = stride

    def features(self, mixture: Tensor) -> Features:
        """Return the mixture itself, ``[batch, 1, samples]``."""
        return Features(mixture[:, None], mixture[:, None], None, mixture.shape[-1])

    def extract(self, features: Features, query: Tensor) -> Tensor:
        """Return the estimate of the only source, ``[batch, samples]``."""
        return self.peer(features.encoded[:, 0]).flatten(1)[:, : features.length]


if __name__ == "__main__":
    main()
