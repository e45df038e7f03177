"""Give damaged files to every reader of foreign files: ``python -m tests.fuzz --inputs 100000 --processes 2``.

Prints one row per target. An input that ends in anything but the package's own error, takes more than a few seconds or
ends the process is kept in ``--output``, and the exit status is 1; ``--replay FILE`` tries one again. A seed makes
the same inputs.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from tests.fuzz import targets
from tse_refine.errors import InputError

SLOW_SECONDS = 5.0
MOST_BYTES = 4 << 30  # of memory of a process, above what importing takes


def fuzz(name: str, inputs: int, seed: int, output: Path) -> dict[str, object]:
    """Try so many inputs on one target, in this process.

    Returns:
        Numbers of inputs that were read, rejected and at fault, the slowest one's seconds, and the kinds of faults.
    """
    check, rng = targets.target(name).check, Random(f"{seed} {name}")
    current = output / f"{name}-current-{os.getpid()}"
    numbers: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(inputs):
        data = targets.damaged(name, rng)
        current.write_bytes(data)  # for the case that it ends this process
        started = time.perf_counter()
        fault = ""
        try:
            check(data)
            numbers["read"] += 1
        except InputError as error:
            numbers["rejected"] += 1
            if not str(error).isprintable() or len(str(error)) > 7000:
                fault = "the message is not one line that can be printed"
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        seconds = time.perf_counter() - started
        slowest = max(slowest, seconds)
        if seconds > SLOW_SECONDS:
            fault = fault or f"takes more than {SLOW_SECONDS:g} s"
        if fault:
            faults[fault] += 1
            if faults[fault] <= 3:
                digest = hashlib.blake2b(data, digest_size=6).hexdigest()
                (output / f"{name}-{digest}").write_bytes(data)
                print(f"{name}-{digest}: {fault}", file=sys.stderr)
    current.unlink()
    return {**numbers, "faults": sum(faults.values()), "slowest": slowest, "kinds": dict(faults)}


def main() -> int:
    """Run the targets, each in processes of its own, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="names; all by default")
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs, all targets together")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("fuzz"), help="folder of inputs at fault")
    parser.add_argument("--replay", type=Path, help="file to give to the one target that is named")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.replay:
        targets.target(options.targets[0]).check(options.replay.read_bytes())
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    names = options.targets or targets.NAMES
    shares = {name: getattr(targets.target(name), "INPUTS", 1.0) for name in names}
    counts = {name: max(1, round(options.inputs * share / sum(shares.values()))) for name, share in shares.items()}
    with ThreadPoolExecutor(options.processes) as pool:
        ended = [pool.submit(_in_process, name, counts[name], options.seed, options.output) for name in names]
        results = {name: future.result() for name, future in zip(names, ended, strict=True)}
    print(f"{'target':12}{'inputs':>8}{'read':>8}{'rejected':>10}{'faults':>8}{'slowest':>9}")
    for name, result in results.items():
        numbers = (counts[name], result.get("read", 0), result.get("rejected", 0), result["faults"])
        print(f"{name:12}{numbers[0]:8}{numbers[1]:8}{numbers[2]:10}{numbers[3]:8}{result['slowest']:8.2f}s")
        for kind, number in result["kinds"].items():
            print(f"    {number} x {kind}")
    return int(any(result["faults"] for result in results.values()))


def _in_process(name: str, inputs: int, seed: int, output: Path) -> dict[str, object]:
    words = [sys.executable, "-m", "tests.fuzz.__main__", "--one", name, str(inputs), str(seed), str(output)]
    ended = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        left = ", ".join(str(path) for path in output.glob(f"{name}-current-*"))
        return {"faults": 1, "slowest": 0.0, "kinds": {f"the process ended with {ended.returncode} at {left}": 1}}
    result: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        faulthandler.enable()
        warnings.simplefilter("ignore")
        targets.seeds(sys.argv[2])
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MOST_BYTES, in_use + MOST_BYTES))
        print(json.dumps(fuzz(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))))
    else:
        sys.exit(main())
