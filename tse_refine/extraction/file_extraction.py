"""Extract from a file into files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor, Refinement
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.recordings import Recording
from tse_refine.extraction.sound_formats import fitting_format
from tse_refine.extraction.writer import SoundWriter, remove, writing
from tse_refine.files.atomic import printable

_SILENCE_AT_ONCE = 1 << 16  # samples


@dataclass(frozen=True)
class FileExtraction:
    """What was extracted from a file, and where it went.

    Attributes:
        recording: the file.
        query: the classes asked for.
        refined_query: those that were extracted, in one window at least.
        probability: of every class, its largest over windows and channels; empty without a classifier.
        threshold: of the decision; None without a classifier.
        window_share: of every class, the share of windows in which its probability reaches the threshold.
        outputs: what was written; of the files with a class each, those of classes that were kept.
        gain_db: by how much all of it was scaled, at most 0: one of the files would have been clipped otherwise.
    """

    recording: Recording
    query: tuple[str, ...]
    refined_query: tuple[str, ...]
    probability: Mapping[str, float]
    threshold: float | None
    window_share: Mapping[str, float]
    outputs: Outputs
    gain_db: float


def extract_file(
    extractor: Extractor,
    plan: Outputs,
    query: tuple[str, ...],
    threshold: float | None = None,
    refinement: Refinement = "window",
    overwrite: bool = False,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> FileExtraction:
    """Extract from a recording, block by block, so that its length does not matter.

    All files appear when all are complete. Of the files with a class each, those of classes that were removed from the
    query are not written; where older files are replaced, theirs are removed, so that all files still add up.

    Args:
        extractor: the network.
        plan: what is read and written.
        query: names of classes.
        threshold: as for :meth:`~tse_refine.extraction.extractor.Extractor.extract`.
        refinement: likewise.
        overwrite: replace older files, and remove those of classes that are not kept.
        on_progress: is told how many seconds more have been read.

    Raises:
        InputError: the recording or a file cannot be used.
    """
    recording = Recording.open(plan.recording)
    rate, channels = recording.sample_rate, recording.channels
    try:
        form = fitting_format(plan.form, rate, channels, recording.samples)
    except InputError as error:
        raise InputError(f"{printable(plan.recording)} {error}") from None

    def blocks() -> Iterator[Tensor]:
        for block in recording.blocks():
            yield block
            on_progress(block.shape[-1] / rate)

    queries: list[tuple[str, ...]] = [(name,) for name in plan.each] or [query]
    stream = extractor.stream(blocks, rate, queries, threshold, refinement)
    with ExitStack() as stack:
        files = _Files(plan, channels, lambda path: stack.enter_context(writing(path, form, rate, channels, overwrite)))
        for mixture, estimates in stream:
            files.write(mixture, estimates)
        files.finish(stream.refined(query))
    if overwrite:
        for name in plan.each:
            if name not in files.each:
                remove(plan.each[name])
    return FileExtraction(
        recording,
        query,
        stream.refined(query),
        stream.probability,
        stream.threshold,
        stream.window_share,
        replace(plan, each={name: plan.each[name] for name in plan.each if name in files.each}),
        min((writer.gain_db for writer in files.writers()), default=0.0),
    )


class _Files:
    """The files of one recording; that of a class begins when the class is first heard.

    Attributes:
        each: of the files with a class each, those that have begun.
    """

    def __init__(self, plan: Outputs, channels: int, opened: Callable[[Path], SoundWriter]) -> None:
        self.each: dict[str, SoundWriter] = {}
        self._plan = plan
        self._channels = channels
        self._opened = opened
        self._position = 0
        self._extraction = opened(plan.extraction) if plan.extraction else None
        self._residual = opened(plan.residual) if plan.residual else None

    def writers(self) -> list[SoundWriter]:
        """Return those of all files that have begun."""
        return [one for one in (self._extraction, *self.each.values(), self._residual) if one is not None]

    def write(self, mixture: Tensor, estimates: Tensor) -> None:
        """Add ``[channels, samples]`` of the recording and ``[queries, channels, samples]`` of what is in it."""
        if self._extraction:
            self._extraction.write(estimates[0])
        for name, estimate in zip(self._plan.each, estimates, strict=False):
            if name not in self.each and estimate.any():
                self._begin(name)
            if name in self.each:
                self.each[name].write(estimate)
        if self._residual:
            self._residual.write(mixture - estimates.sum(0))
        self._position += mixture.shape[-1]

    def finish(self, kept: tuple[str, ...]) -> None:
        """Complete all files, scaled alike; those of kept classes that nothing was heard of are silent."""
        for name in self._plan.each:
            if name in kept and name not in self.each:
                self._begin(name)
        peak = max((writer.peak for writer in self.writers()), default=0.0)
        for writer in self.writers():
            writer.finish(peak)

    def _begin(self, name: str) -> None:
        writer = self.each[name] = self._opened(self._plan.each[name])
        for begin in range(0, self._position, _SILENCE_AT_ONCE):
            writer.write(torch.zeros(self._channels, min(_SILENCE_AT_ONCE, self._position - begin)))
