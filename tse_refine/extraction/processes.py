"""Extract from many recordings in several processes, each with a network of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.file_extraction import FileExtraction, extract_file
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.stream import DecisionScope
from tse_refine.refinement import Refinement


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
    """Extract from recordings in several processes; results and their order are those of one process.

    Args:
        plans: files to read and to write.
        task: what is extracted.
        load: function that a process calls once for its extractor; it must be one that can be pickled.
        workers: number of processes, which share the processor's cores.

    Yields:
        For each recording the extraction, or why it cannot be used.

    Raises:
        InputError: a process was killed.
    """
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = get_context("spawn")  # a forked process can use neither a GPU nor PyTorch's threads
    with ProcessPoolExecutor(workers, context, _start, (load, threads)) as pool:
        try:
            yield from pool.map(partial(_extract, task), plans)
        except BrokenProcessPool as error:
            raise InputError(
                f"--workers: one of {workers} processes ended, probably killed for its memory. What was finished is "
                "kept; start again with fewer --workers and --skip-existing."
            ) from error


_extractor: Extractor | None = None  # of a process


def _start(load: Callable[[], Extractor], threads: int) -> None:
    global _extractor
    torch.set_num_threads(threads)
    _extractor = load()


def _extract(task: FileTask, plan: Outputs) -> FileExtraction | InputError:
    assert _extractor is not None, "a process starts with its extractor"
    return task(_extractor, plan)
