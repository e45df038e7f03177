"""Memory, open files and speed of a long training, which must not drift: the figure of ``docs/reliability.md``.

::

    python benchmarks/endurance.py --minutes 60 --output benchmarks/results/endurance.json

A training, by default the demo's with two workers, runs in a process of its own; ``--watch RUN --process PID`` measures
one that runs already, of any length, and ends when it does. Memory is what the process and its workers have to
themselves, plus their share of what they have in common (PSS), without files that are mapped; steps are those of
``metrics.csv``. The figure lies beside the output, as a PNG file. Linux only.
"""

from __future__ import annotations

import csv
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import NamedTuple

import matplotlib.pyplot as plt
from measuring import parser, report

from tse_refine.files.tables import Table

TRAINING = "-c experiment/proposed -c model/small -c data/synthetic -c budget/demo --data.num_workers=2"


class Sample(NamedTuple):
    """What was measured at one moment.

    Attributes:
        minutes: since the first step.
        memory_mib: of all processes.
        files: open files of all processes.
        step: number of the last step that was logged.
    """

    minutes: float
    memory_mib: float
    files: int
    step: int


def main() -> None:
    """Train for some time, print what drifted and plot it."""
    made = parser(__doc__, repeats=None)
    made.add_argument("--minutes", type=float, default=60.0, help="length of the measurement")
    made.add_argument("--every", type=float, default=10.0, help="seconds between samples")
    made.add_argument("--training", default=TRAINING, help="options of the training")
    made.add_argument("--watch", type=Path, metavar="RUN", help="folder of a training that runs already")
    made.add_argument("--process", type=int, metavar="PID", help="its main process")
    options = made.parse_args()
    if (options.watch is None) != (options.process is None):
        made.error("--watch and --process belong together")
    if options.watch is None:
        with tempfile.TemporaryDirectory() as folder:
            samples = list(_train(options, Path(folder) / "run"))
    else:
        samples = list(_watch(options, options.watch, lambda: Path(f"/proc/{options.process}").exists()))
    settled = samples[len(samples) // 10 :]  # without the first tenth, in which caches fill
    third = max(1, len(settled) // 3)
    first, last = settled[:third], settled[-third:]
    rows = [
        (name, f"{before:.0f}", f"{after:.0f}", f"{100 * (after / before - 1):+.1f} %" if before else "")
        for name, before, after in (
            ("memory (MiB)", *(median(s.memory_mib for s in part) for part in (first, last))),
            ("open files", *(median(s.files for s in part) for part in (first, last))),
            ("steps per minute", *(_steps_per_minute(part) for part in (first, last))),
        )
    ]
    note = f"Medians over {len(settled)} samples in {samples[-1].minutes:.0f} minutes, the first tenth left out."
    table = Table(("training", "first third", "last third", "change"), rows, note=note)
    report(table, options, samples=[sample._asdict() for sample in samples])
    if options.output:
        _plot(samples, options.output.with_suffix(".png"))


def _train(options: Namespace, run: Path) -> Iterator[Sample]:
    """Yield samples of a training of its own."""
    words = shlex.split(options.training)
    endless = ["--trainer.max_epochs=100000", "--trainer.enable_progress_bar=false", "--data.redraw=true"]
    command = [sys.executable, "-m", "tse_refine", "fit", *words, *endless, f"--trainer.default_root_dir={run}"]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    with (run.parent / "log").open("w") as log:
        training = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    options.process = training.pid
    try:
        yield from _watch(options, run, lambda: training.poll() is None)
        if training.poll() is not None:
            raise SystemExit(f"the training ended:\n{(run.parent / 'log').read_text()}")
    finally:
        if training.poll() is None:
            os.killpg(training.pid, signal.SIGTERM)
            training.wait()


def _watch(options: Namespace, run: Path, is_running: Callable[[], bool]) -> Iterator[Sample]:
    """Yield a sample every few seconds, from the first step that is logged on, while the training runs."""
    start = None
    while start is None or monotonic() - start < 60 * options.minutes:
        sleep(options.every)
        if not is_running():
            return
        step = _last_step(run / "metrics.csv")
        if step is not None:
            start = start or monotonic()
            try:
                resources = _resources(options.process)
            except OSError:  # it has ended since
                return
            yield Sample((monotonic() - start) / 60, *resources, step)


def _last_step(path: Path) -> int | None:
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as file:
        steps = [row["step"] for row in csv.DictReader(file)]
    return int(steps[-1]) if steps else None


def _resources(process: int) -> tuple[float, int]:
    """Return the memory in MiB and the open files of a process and its children; OSError where it has ended."""
    memory, files = 0.0, 0
    children = [
        int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    ]
    for number in (process, *children):
        try:
            lines = Path(f"/proc/{number}/smaps_rollup").read_text(encoding="utf-8").splitlines()
            files += len(os.listdir(f"/proc/{number}/fd"))
        except OSError:
            if number == process:
                raise
            continue  # a worker that has just ended
        # not of files: a share of PyTorch's libraries changes with every other program that has loaded them
        memory += sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024
    return memory, files


def _steps_per_minute(samples: list[Sample]) -> float:
    return (samples[-1].step - samples[0].step) / max(samples[-1].minutes - samples[0].minutes, 1e-9)


def _plot(samples: list[Sample], path: Path) -> None:
    figure, axes = plt.subplots(3, 1, sharex=True, figsize=(7, 6), layout="constrained")
    minutes = [sample.minutes for sample in samples]
    axes[0].plot(minutes, [sample.memory_mib for sample in samples])
    axes[0].set_ylabel("memory (MiB)")
    axes[1].plot(minutes, [sample.files for sample in samples])
    axes[1].set_ylabel("open files")
    spans = list(zip(samples, samples[6:], strict=False))  # a minute each: validations take several samples
    axes[2].plot([after.minutes for _, after in spans], [_steps_per_minute(list(span)) for span in spans])
    axes[2].set_ylabel("steps per minute")
    axes[2].set_xlabel("minutes of training")
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
