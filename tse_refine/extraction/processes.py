"""Extract from many recordings in several processes, each with a network of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event

import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.file_extraction import FileExtraction, extract_file
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.stream import DecisionScope
from tse_refine.refinement import Refinement

_LAST_SECONDS = 10.0  # in which a process that is to stop may end the file that it writes


@dataclass(frozen=True)
class FileTask:
    """What is extracted from every recording, as the arguments of :func:`extract_file`."""

    query: tuple[str, ...]
    refinement: Refinement
    scope: DecisionScope
    overwrite: bool

    def __call__(
        self, extractor: Extractor, plan: Outputs, on_progress: Callable[[float], object] = lambda seconds: None
    ) -> FileExtraction | InputError:
        """Extract from one recording, or return why it cannot be used."""
        try:
            arguments = (self.query, self.refinement, self.scope, self.overwrite)
            return extract_file(extractor, plan, *arguments, on_progress)
        except InputError as error:
            return InputError(str(error))  # kinds of it with more than a text cannot come back from a process


def extract_in_processes(
    plans: Sequence[Outputs], task: FileTask, load: Callable[[], Extractor], workers: int
) -> Iterator[FileExtraction | InputError]:
    """Extract from recordings in several processes, in the order of one.

    Samples are those of one process with as many threads as each of these has; with other numbers of threads, sums are
    rounded in another order. The processes end with this one, whatever ends it, and without half-written files unless
    they are killed themselves.

    Args:
        plans: files to read and to write.
        task: what is extracted.
        load: function that a process calls once for its extractor; it must be one that can be pickled.
        workers: number of processes, which share the threads that PyTorch has in this one.

    Yields:
        For each recording the extraction, or why it cannot be used.

    Raises:
        InputError: a process was killed.
    """
    threads = max(1, torch.get_num_threads() // workers)
    context = get_context("spawn")  # a forked process can use neither a GPU nor PyTorch's threads
    stopped = context.Event()
    with ProcessPoolExecutor(workers, context, _start, (load, threads, stopped)) as pool:
        try:
            yield from pool.map(partial(_extract, task), plans)
        except BrokenProcessPool as error:
            raise InputError(
                f"--workers: one of {workers} processes ended, probably killed for its memory. What was finished is "
                "kept; start again with fewer --workers and --skip-existing."
            ) from error
        except BaseException:  # a signal, or results that nobody wants any more
            stopped.set()
            raise


# of a process
_extractor: Extractor | None = None
_stopping = threading.Event()


def _start(load: Callable[[], Extractor], threads: int, stopped: Event) -> None:
    global _extractor
    for number in (signal.SIGINT, signal.SIGTERM):  # an exception, which removes what is half-written
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_end_early, args=(stopped,), daemon=True).start()
    torch.set_num_threads(threads)
    _extractor = load()


def _end_early(stopped: Event) -> None:
    """End this process soon after its parent has ended or has stopped it."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        if stopped.wait(timeout=1.0):
            break
    _stopping.set()
    interrupt_main()
    threading.main_thread().join(_LAST_SECONDS)
    os._exit(1)


def _extract(task: FileTask, plan: Outputs) -> FileExtraction | InputError:
    assert _extractor is not None, "a process starts with its extractor"
    if _stopping.is_set():  # with recordings waiting that were handed to this process already
        sys.exit(1)
    return task(_extractor, plan)
