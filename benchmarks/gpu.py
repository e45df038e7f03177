"""Everything that the documentation states about GPUs, in one run of at most eight minutes.

::

    python benchmarks/gpu.py                                   # or `make gpu`
    python benchmarks/gpu.py --parts compiled                  # again, or what a first run had no time for
    python benchmarks/gpu.py --table benchmarks/results/gpu.json
    python benchmarks/gpu.py --device cpu --tiny               # a rehearsal without a GPU

Measured are, in this order: the machine's limits; the agreement of estimates, probabilities and gradients with the
CPU's; the commands from end to end; training steps and inference beside torchaudio's ConvTasNet; the largest batch; the
loader, and what training waits for it; the evaluation; last what is compiled. The JSON file is written after each part.
A part that is not expected to end within the budget is skipped, and one that does not is cut off; both are listed.
``--parts`` keeps what the file has of the other parts, if it was measured on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import checkout  # noqa: F401
import torch
from gpu_agreement import agreement
from gpu_commands import commands
from gpu_parts import compiled, evaluation, free_memory, largest_batch, limits, loader, steps
from gpu_setting import FULL, PUBLISHED, TINY, Setting, Sizes
from gpu_tables import hours, report_text
from measuring import ROOT, machine, parser

from tse_refine.files.atomic import write_text


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes:
        name: key in the file.
        seconds: expected duration with the published sizes on an H200.
        run: measures and returns figures.
    """

    name: str
    seconds: float
    run: Callable[[Setting], Any]


def parts_of(sizes: Sizes) -> list[Part]:
    """Return all parts in their order: what is compiled comes last, the networks' training in bfloat16 first of it."""
    return [
        Part("limits", 5, limits),
        Part("agreement", 25, agreement),
        *(Part(f"commands_{each}", 25, partial(commands, each, False)) for each in ("32-true", "bf16-mixed")),
        *(Part(f"steps_{name}", 25, partial(steps, name)) for name in sizes.models),
        *(Part(f"largest_batch_{name}", 30, partial(largest_batch, name)) for name in sizes.models),
        Part("loader", 45, loader),
        Part("evaluation", 15, evaluation),
        Part("compiled_training_bfloat16", 115, partial(compiled, "training step", "bfloat16")),
        Part("commands_compiled", 90, partial(commands, "bf16-mixed", True)),
        Part("compiled_training_float32", 115, partial(compiled, "training step", "float32")),
        Part("compiled_inference_float32", 70, partial(compiled, "inference", "float32")),
        Part("compiled_inference_bfloat16", 70, partial(compiled, "inference", "bfloat16")),
    ]


class OutOfTime(BaseException):
    """The budget ended within a part; not an ``Exception``, so that no library takes it for an error of its own."""


class Budget:
    """Seconds that a run may take.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.start = perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return perf_counter() - self.start

    @property
    def left(self) -> float:
        """Seconds to the end, at least 0."""
        return max(0.0, self.seconds - self.elapsed)

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Raise :class:`OutOfTime` in a block that does not end in time."""

        def stop(*_: Any) -> None:
            raise OutOfTime

        before = signal.signal(signal.SIGALRM, stop)
        timer = signal.setitimer(signal.ITIMER_REAL, max(self.left, 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            signal.setitimer(signal.ITIMER_REAL, *timer)  # of a test, such as pytest-timeout's


def main() -> None:
    """Measure, write the file part by part and print the tables."""
    options = parse_options()
    if options.table:
        print(report_text(json.loads(options.table.read_text(encoding="utf-8"))))
        return
    torch.set_num_threads(options.threads)
    sizes = TINY if options.tiny else FULL
    record = begin(options, sizes)
    budget = Budget(options.budget)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # a compiler that was cut off may still write
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "inductor")  # compilation is timed without a cache
        setting = Setting(options.device, sizes, options.repeats, Path(folder))
        for part in parts_of(sizes):
            if not options.parts or part.name.startswith(tuple(options.parts)):
                outcome = run_part(part, setting, budget)
                if outcome["state"] != "skipped" or part.name not in record["parts"]:
                    record["parts"][part.name] = outcome
                record["elapsed_seconds"] = budget.elapsed
                record["hours"] = hours(record)
                write_text(options.output, json.dumps(record, indent=1, default=str) + "\n")
    print(f"\n{report_text(record)}\nWritten to {options.output}")
    if any(outcome["state"] == "failed" for outcome in record["parts"].values()):
        raise SystemExit(1)


def parse_options() -> argparse.Namespace:
    """Parse the command line, and reject a device that is not there."""
    options_parser = parser(__doc__, threads=len(os.sched_getaffinity(0)))
    add = options_parser.add_argument
    add("--device", default="cuda", help="cuda (default) or cpu")
    add("--tiny", action="store_true", help="a small network, short mixtures, few steps: to rehearse")
    add("--budget", type=float, default=480.0, metavar="SECONDS", help="by default 480")
    add("--parts", nargs="+", default=[], metavar="NAME", help="only the parts whose names begin so")
    add("--table", type=Path, metavar="FILE", help="print the tables of a file, and measure nothing")
    options_parser.set_defaults(output=ROOT / "benchmarks" / "results" / "gpu.json")
    options = options_parser.parse_args()
    if not options.table and options.device != "cpu" and not torch.cuda.is_available():
        options_parser.error("there is no GPU here; rehearse with --device cpu --tiny")
    names = [part.name for part in parts_of(TINY if options.tiny else FULL)]
    unknown = [word for word in options.parts if not any(name.startswith(word) for name in names)]
    if unknown:
        options_parser.error(f"no part begins with {unknown[0]}; the parts are {', '.join(names)}")
    return options


def begin(options: argparse.Namespace, sizes: Sizes) -> dict[str, Any]:
    """Return the record of a run without parts, or with those of an earlier one that this run does not repeat."""
    training = {"num_train": PUBLISHED["data"]["num_train"], "max_epochs": PUBLISHED["trainer"]["max_epochs"]}
    record: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(options.device),
        "options": {name: value for name, value in vars(options).items() if name != "table"},
        "sizes": asdict(sizes),
        "published": {**training, "num_test": PUBLISHED["data"]["num_test"]},
        "parts": {},
    }
    if options.parts and options.output.exists():
        earlier = json.loads(options.output.read_text(encoding="utf-8"))
        if all(earlier[key] == json.loads(json.dumps(record[key])) for key in ("machine", "sizes")):
            record["parts"] = earlier["parts"]
    return record


def run_part(part: Part, setting: Setting, budget: Budget) -> dict[str, Any]:
    """Measure a part, and return its state, seconds, and figures or reason."""
    expected = part.seconds * setting.sizes.pace
    outcome: dict[str, Any] = {"state": "skipped", "expected_seconds": expected, "seconds": 0.0}
    if expected > budget.left:
        print(f"{budget.elapsed:4.0f} s  {part.name}: skipped, expected are {expected:.0f} s", flush=True)
        return outcome | {"reason": f"{budget.left:.0f} s of the budget were left"}
    print(f"{budget.elapsed:4.0f} s  {part.name}, expected are {expected:.0f} s", flush=True)
    start = perf_counter()
    try:
        with budget.enforced():
            outcome |= {"state": "done", "figures": part.run(setting)}
    except OutOfTime:
        outcome |= {"state": "cut off", "reason": f"the budget of {budget.seconds:.0f} s ended"}
    except Exception as error:  # of whatever kind: the other parts must be measured while there is a GPU
        traceback.print_exc()
        outcome |= {"state": "failed", "reason": f"{type(error).__name__}: {error}"[:2000]}
    free_memory()
    return outcome | {"seconds": perf_counter() - start}


if __name__ == "__main__":
    main()
