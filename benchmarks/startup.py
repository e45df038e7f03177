"""Seconds until a command has explained itself, beside importing what it is built on, in one run.

::

    python benchmarks/startup.py

Each program is started anew, as the shell does, and its time is that to its end; compiled Python files and libraries
are in the caches of the system by then. The ratio is against ``import torch``, which no command that computes with a
network can avoid.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from measuring import machine, medians, parser, report

from tse_refine.files.tables import Table

TORCH = 'python -c "import torch"'
PROGRAMS = {
    'python -c ""': ("-c", ""),
    TORCH: ("-c", "import torch"),
    'python -c "import lightning"': ("-c", "import lightning"),
    'python -c "import tse_refine"': ("-c", "import tse_refine"),
    "tse-refine --help": ("-m", "tse_refine", "--help"),
    "tse-refine extract --help": ("-m", "tse_refine", "extract", "--help"),
    "tse-refine report --help": ("-m", "tse_refine", "report", "--help"),
    "tse-refine fit --help": ("-m", "tse_refine", "fit", "--help"),
}


def main() -> None:
    """Measure and print the table."""
    options = parser(__doc__).parse_args()
    runs = {name: start(words, options.threads) for name, words in PROGRAMS.items()}
    seconds = medians(runs, options.repeats, warm_up=1)
    rows = [(name, f"{taken:.2f}", f"{taken / seconds[TORCH]:.2f}") for name, taken in seconds.items()]
    note = f"{machine()}; {options.threads} threads, medians of {options.repeats}."
    report(Table(("program", "seconds", "times import torch"), rows, note), options, seconds=seconds)


def start(words: Sequence[str], threads: int) -> Callable[[], None]:
    """Return a function that runs Python with words and waits for its end."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def once() -> None:
        subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)

    return once


if __name__ == "__main__":
    main()
