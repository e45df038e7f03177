"""Sound files that are written block by block, and appear whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import soundfile
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.extraction.sound_formats import SoundFormat
from tse_refine.files.atomic import printable, replacing

_COPIED_AT_ONCE = 1 << 20  # numbers


class SoundWriter:
    """Writes blocks of samples as they are.

    In a format of fixed full scale, samples beyond it would be clipped. There the sound is kept as floats until its
    peak is known, and is then scaled, once and as a whole, so that nothing is clipped. Files that add up are scaled
    alike: by the largest of their peaks.

    Attributes:
        path: the file that is written.
        peak: largest magnitude so far; 0 where nothing would be clipped.
        gain_db: by how much it was scaled, at most 0; known when it has been finished.
    """

    def __init__(self, path: Path, temporary: Path, form: SoundFormat, sample_rate: int, channels: int) -> None:
        self.path = path
        self.gain_db = 0.0
        self.peak = 0.0
        self._samples = 0
        self._channels = channels
        self._temporary = os.fsencode(temporary)  # a name need not be text
        with _refusal(path):
            self._file = soundfile.SoundFile(
                self._temporary, "w", sample_rate, channels, form.encoding, format=form.container
            )
            self._floats = None if form.is_float else TemporaryFile(dir=path.parent)  # noqa: SIM115  close() does

    def write(self, block: Tensor) -> None:
        """Add samples, ``[channels, samples]``."""
        samples = np.ascontiguousarray(block.numpy().T, np.float32)
        self._samples += len(samples)
        with _refusal(self.path):
            if self._floats is None:
                self._file.write(samples)
            else:
                self.peak = max(self.peak, float(np.abs(samples).max(initial=0.0)))
                self._floats.write(samples.tobytes())

    def finish(self, peak: float) -> None:
        """Complete the file; it takes its place when all files of a recording are complete.

        Args:
            peak: that becomes full scale if it is beyond: the largest of this and of the files that it adds up with.
        """
        with _refusal(self.path):
            if self._floats is not None:
                self._convert(self._floats, peak)
            self.close()
            written = soundfile.info(self._temporary).frames
            if written != self._samples:  # a full disk that libsndfile did not notice
                raise OSError(None, f"{written} samples arrived of {self._samples}")

    def close(self) -> None:
        """Give the files free."""
        self._file.close()
        if self._floats is not None:
            self._floats.close()

    def _convert(self, floats: IO[bytes], peak: float) -> None:
        scale = np.float32(1.0 / max(1.0, peak))
        self.gain_db = 20.0 * math.log10(scale)
        floats.seek(0)
        size = 4 * self._channels * max(1, _COPIED_AT_ONCE // self._channels)
        while some := floats.read(size):
            self._file.write(scale * np.frombuffer(some, np.float32).reshape(-1, self._channels))


@contextmanager
def writing(path: Path, form: SoundFormat, sample_rate: int, channels: int, overwrite: bool) -> Iterator[SoundWriter]:
    """Yield a writer, whose file takes its place when the block ends without an error.

    Args:
        path: the file; its folder is made when missing.
        form: that can hold it.
        sample_rate: Hz.
        channels: of all blocks.
        overwrite: replace an older file.

    Raises:
        InputError: the file cannot be written; the text says why.
    """
    with _refusal(path), replacing(path) as temporary:
        writer = SoundWriter(path, temporary, form, sample_rate, channels)
        try:
            yield writer
        finally:
            writer.close()
        if not overwrite and path.exists():
            raise InputError(f"{printable(path)} has come into being meanwhile and is kept; use --overwrite.")


def remove(path: Path) -> None:
    """Remove an older file, if there is one.

    Raises:
        InputError: it cannot be removed; the text says why.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{printable(path)} is of an earlier run and cannot be removed ({error.strerror}).") from error


@contextmanager
def _refusal(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, soundfile.SoundFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else getattr(error, "error_string", str(error))
        reason = " ".join(str(reason).split()).rstrip(".")
        raise InputError(
            f"{printable(path)} cannot be written ({reason}). Check that you may write there and that there is space."
        ) from error
