"""Extract from a recording into files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tse_refine.errors import InputError, printable
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.recordings import Recording
from tse_refine.extraction.stream import Decision, DecisionScope
from tse_refine.extraction.writer import SoundWriter, fitting_format, writing
from tse_refine.refinement import Refinement

_SILENCE_PER_BLOCK = 1 << 16  # samples


@dataclass(frozen=True, eq=False)
class FileExtraction(Decision):
    """The files of a recording's estimates, and what the refinement left of the query.

    Attributes:
        recording: sound file that was read.
        outputs: files that were written; with one file per class, those of classes of which something was left.
        gain_db: gain by which all files were scaled, at most 0 dB, so that none is clipped.
    """

    recording: Recording
    outputs: Outputs
    gain_db: float


def extract_file(
    extractor: Extractor,
    plan: Outputs,
    query: tuple[str, ...],
    threshold: float | str | Refinement | None = None,
    scope: DecisionScope = "window",
    overwrite: bool = False,
    on_progress: Callable[[float], object] = lambda seconds: None,
) -> FileExtraction:
    """Extract from a recording block by block, so that its length does not matter.

    All files appear when all are complete. With one file per class, each class is a query of its own, and classes that
    were removed have no file; if existing files are replaced, theirs are removed, so that all files still add up.

    Args:
        extractor: extractor of a checkpoint.
        plan: files to read and to write.
        query: names of classes.
        threshold: threshold or another refinement, as in :meth:`~tse_refine.extraction.extractor.Extractor.extract`.
        scope: ``window`` or ``file``.
        overwrite: replace existing files, and remove those of classes that were removed.
        on_progress: function that is called with the number of seconds that were read since its last call.

    Raises:
        InputError: the recording or a file cannot be used.
    """
    recording = Recording.open(plan.recording)
    rate, channels, owner = recording.sample_rate, recording.channels, printable(plan.recording)
    sound_format = fitting_format(plan.file_format, rate, channels, recording.samples, owner)

    def blocks() -> Iterator[Tensor]:
        for block in recording.blocks():
            yield block
            on_progress(block.shape[-1] / rate)

    stream = extractor.stream(blocks, rate, [[name] for name in plan.each] or [query], threshold, scope)
    with ExitStack() as stack:
        files = _Files(
            plan, channels, lambda path: stack.enter_context(writing(path, sound_format, rate, channels, overwrite))
        )
        for mixture, estimates in stream:
            files.write(mixture, estimates)
        decisions = stream.decisions()
        weight = {name: weight for decision in decisions for name, weight in decision.weight.items()}
        decision = replace(decisions[0], query=query, weight=weight)
        files.finish(decision.refined_query)
    each = {name: path for name, path in plan.each.items() if path in files.writers}
    if overwrite:
        for name in plan.each.keys() - each.keys():
            _remove(plan.each[name])
    gain_db = min((writer.gain_db for writer in files.writers.values()), default=0.0)
    return FileExtraction(**vars(decision), recording=recording, outputs=replace(plan, each=each), gain_db=gain_db)


class _Files:
    """The files of one recording; a class's own file begins when its estimate is not silence any more."""

    def __init__(self, plan: Outputs, channels: int, begin: Callable[[Path], SoundWriter]) -> None:
        self.writers: dict[Path, SoundWriter] = {}  # of the files that have begun
        self._plan = plan
        self._channels = channels
        self._begin = begin
        self._position = 0
        for path in (plan.extraction, plan.residual):
            if path is not None:
                self._writer(path)

    def write(self, mixture: Tensor, estimates: Tensor) -> None:
        """Add ``[channels, samples]`` of the recording and ``[queries, channels, samples]`` of its estimates."""
        plan = self._plan
        paths = list(plan.each.values()) if plan.extraction is None else [plan.extraction]
        sounds = dict(zip(paths, estimates, strict=True))
        if plan.residual is not None:
            sounds[plan.residual] = mixture - estimates.sum(0)
        for path, sound in sounds.items():
            if path in self.writers or sound.any():
                self._writer(path).write(sound)
        self._position += mixture.shape[-1]

    def finish(self, kept: tuple[str, ...]) -> None:
        """Complete all files, scaled alike; the files of kept classes without any sound are silent."""
        for name in kept:
            if name in self._plan.each:
                self._writer(self._plan.each[name])
        peak = max((writer.peak for writer in self.writers.values()), default=0.0)
        for writer in self.writers.values():
            writer.finish(peak)

    def _writer(self, path: Path) -> SoundWriter:
        """Return the writer of a file; one that begins now is silent up to here."""
        if path not in self.writers:
            self.writers[path] = self._begin(path)
            silence = torch.zeros(1).expand(self._channels, self._position)  # without memory of its own
            for part in silence.split(_SILENCE_PER_BLOCK, dim=1):
                self.writers[path].write(part)
        return self.writers[path]


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{printable(path)} is of an earlier run and cannot be removed ({error.strerror}).") from error
