"""The recordings to extract from: found on disk, checked, and read block by block."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tse_refine.data.audio.folders import AUDIO_SUFFIXES, described, find_sounds
from tse_refine.data.audio.reading import AudioFile, open_audio
from tse_refine.errors import InputError, printable
from tse_refine.extraction.signal import BLOCK_SECONDS, MOST_CHANNELS, check_sample_rate, check_samples


@dataclass(frozen=True)
class Recording:
    """A sound file.

    Attributes:
        path: sound file.
        sample_rate: sample rate, Hz.
        channels: number of channels, 1 to 64.
        samples: samples per channel.
    """

    path: Path
    sample_rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate

    @classmethod
    def open(cls, path: Path) -> Recording:
        """Read the header of a file.

        Args:
            path: sound file.

        Raises:
            InputError: the file cannot be read, is not a sound file, is empty, or has more channels or another sample
                rate than is supported.
        """
        with _opened(path) as audio:
            recording = cls(path, audio.sample_rate, audio.channels, audio.samples)
        try:
            check_sample_rate(recording.sample_rate)
        except InputError as error:
            raise InputError(f"{printable(path)}: {error}") from None
        if recording.channels > MOST_CHANNELS:
            raise InputError(
                f"{printable(path)} has {recording.channels} channels; up to {MOST_CHANNELS} are expected. Divide them "
                "among several files."
            )
        if recording.samples == 0:
            raise _no_samples(path)
        return recording

    def blocks(self) -> Iterator[Tensor]:
        """Yield consecutive parts, ``[channels, samples]`` in float32.

        Raises:
            InputError: the file is damaged, or has samples that are not finite.
        """
        size = BLOCK_SECONDS * self.sample_rate
        position = 0
        with _opened(self.path) as audio:
            while len(block := audio.read(position, position + size)):
                samples = torch.from_numpy(np.ascontiguousarray(block.T))
                check_samples(samples, printable(self.path))
                yield samples
                position += len(block)
        if not position:
            raise _no_samples(self.path)


def find_recordings(paths: Sequence[Path], excluded: Path) -> list[tuple[Path, Path]]:
    """Find the recordings among files and in folders.

    Folders are searched recursively for names with the suffix of a sound file; what else they contain is reported on
    stderr, except hidden files. A file that is named is read whatever its suffix.

    Args:
        paths: files and folders.
        excluded: folder that is not searched, that of the results.

    Returns:
        The files, each once, and for each the name of its results: for a file in a folder, its path from there.

    Raises:
        InputError: a path does not exist, cannot be read, or is a folder without sound files.
    """
    recordings: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        if path.is_dir():
            base, files = path, _sounds(path, excluded)
        elif path.is_file():
            base, files = path.parent, [path]
        else:
            raise InputError(f"{printable(path)} does not exist, or is not a file; name recordings or folders of them.")
        for file in files:
            recordings.setdefault(location(file), (file, file.relative_to(base)))
    return list(recordings.values())


def location(path: Path) -> Path:
    """Return what all spellings of a path have in common; a link to a file is a file of its own."""
    return path.parent.resolve() / path.name


def _sounds(folder: Path, excluded: Path) -> list[Path]:
    try:
        sounds, left_out = find_sounds(folder, excluded)
    except OSError as error:
        raise InputError(f"{printable(error.filename or folder)} cannot be read ({error.strerror}).") from error
    if not sounds:
        also = f" {described(left_out).capitalize()}." if left_out else ""
        raise InputError(
            f"{printable(folder)} is a folder without sound files; expected are files that end in "
            f"{', '.join(sorted(AUDIO_SUFFIXES))}.{also}"
        )
    if left_out:
        print(f"tse-refine: {printable(folder)}: {described(left_out)}.", file=sys.stderr)
    return sounds


@contextmanager
def _opened(path: Path) -> Iterator[AudioFile]:
    """Yield an open file, and turn errors of the system into messages."""
    try:
        with open_audio(path) as audio:
            yield audio
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror}).") from error


def _no_samples(path: Path) -> InputError:
    return InputError(f"{printable(path)} has no samples; at least one is expected.")
