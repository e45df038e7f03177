"""Extract from a file into files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor, Refinement
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.recordings import Recording
from tse_refine.extraction.sound_formats import fitting_format
from tse_refine.extraction.sound_writer import SoundWriter, writing
from tse_refine.files import printable

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
        outputs: files by what they hold: ``extraction`` or names of classes, and ``residual``.
        gains_db: of those that had to be scaled, since they would have been clipped.
    """

    recording: Recording
    query: tuple[str, ...]
    refined_query: tuple[str, ...]
    probability: Mapping[str, float]
    threshold: float | None
    window_share: Mapping[str, float]
    outputs: Mapping[str, Path]
    gains_db: Mapping[Path, float]


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
    query are not written.

    Args:
        extractor: the network.
        plan: what is read and written.
        query: names of classes.
        threshold: as for :meth:`~tse_refine.extraction.extractor.Extractor.extract`.
        refinement: likewise.
        overwrite: replace older files.
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

    names = list(plan.each) or ["extraction"]
    queries = [(name,) for name in plan.each] or [query]
    stream = extractor.stream(blocks, rate, queries, threshold, refinement)
    with ExitStack() as stack:

        def opened(path: Path) -> SoundWriter:
            return stack.enter_context(writing(path, form, rate, channels, overwrite))

        writers = {"extraction": opened(plan.extraction)} if plan.extraction else {}
        residual = opened(plan.residual) if plan.residual else None
        position = 0
        for mixture, estimates in stream:
            for name, estimate in zip(names, estimates, strict=True):
                if name not in writers and estimate.any():
                    writers[name] = opened(plan.each[name])
                    _write_silence(writers[name], channels, position)
                if name in writers:
                    writers[name].write(estimate)
            if residual:
                residual.write(mixture - estimates.sum(0))
            position += mixture.shape[-1]
        for (name,) in queries if plan.each else []:
            if name not in writers and stream.refined((name,)):  # kept, and nothing in it
                writers[name] = opened(plan.each[name])
                _write_silence(writers[name], channels, position)
        if residual:
            writers["residual"] = residual
        for writer in writers.values():
            writer.finish()
    return FileExtraction(
        recording,
        query,
        stream.refined(query),
        stream.probability,
        stream.threshold,
        stream.window_share,
        {name: writer.path for name, writer in writers.items()},
        {writer.path: writer.gain_db for writer in writers.values() if writer.gain_db},
    )


def _write_silence(writer: SoundWriter, channels: int, samples: int) -> None:
    for begin in range(0, samples, _SILENCE_AT_ONCE):
        writer.write(torch.zeros(channels, min(_SILENCE_AT_ONCE, samples - begin)))
