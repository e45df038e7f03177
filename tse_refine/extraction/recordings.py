"""The recordings to extract from: found on disk, checked, and read block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from tse_refine.errors import InputError, printable
from tse_refine.extraction.signal import BLOCK_SECONDS, MOST_CHANNELS, check_sample_rate, check_samples
from tse_refine.extraction.writer import SUFFIXES, error_reason

# soundfile reads more, but a folder is searched for these; a file that is named is read whatever its suffix
READABLE_SUFFIXES = (*SUFFIXES, ".aifc")


@dataclass(frozen=True)
class Recording:
    """A sound file.

    Attributes:
        path: sound file.
        sample_rate: sample rate, Hz.
        channels: number of channels, 1 to 64.
        samples: samples per channel according to the header.
    """

    path: Path
    sample_rate: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        """Duration according to the header."""
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
        with _opened(path) as file:
            recording = cls(path, file.samplerate, file.channels, file.frames)
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
        samples = None
        with _opened(self.path) as file:
            while len(block := file.read(size, dtype="float32", always_2d=True)):
                samples = torch.from_numpy(np.ascontiguousarray(block.T))
                check_samples(samples, printable(self.path))
                yield samples
        if samples is None:
            raise _no_samples(self.path)


def find_recordings(paths: Sequence[Path], excluded: Path) -> list[tuple[Path, Path]]:
    """Find the recordings among files and in folders.

    Folders are searched recursively for names with the suffix of a sound file; hidden files are left out.

    Args:
        paths: files and folders.
        excluded: folder that is not searched, that of the results.

    Returns:
        The files, each once, and for each the name of its results: for a file in a folder, its path from there.

    Raises:
        InputError: a path does not exist, or is a folder without sound files.
    """
    recordings: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        if path.is_dir():
            base, files = path, sorted(_sound_files(path, excluded))
            if not files:
                raise InputError(
                    f"{printable(path)} is a folder without sound files; expected are files that end in "
                    f"{', '.join(sorted(READABLE_SUFFIXES))}."
                )
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


def _sound_files(folder: Path, excluded: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        shown = [Path(parent, name) for name in folders if not name.startswith(".")]
        folders[:] = [path.name for path in shown if not (excluded.exists() and path.samefile(excluded))]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in READABLE_SUFFIXES:
                yield Path(parent, name)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Yield an open file, and turn errors of the system and of libsndfile into messages."""
    try:
        with path.open("rb"):  # its error has a reason, where libsndfile's has only "System error"
            pass
        with soundfile.SoundFile(os.fsencode(path)) as file:  # bytes: a name need not be text
            yield file
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror}).") from error
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: a .raw file
        raise InputError(
            f"{printable(path)} cannot be read as sound ({error_reason(error)}); expected is a whole file of WAV, "
            "FLAC, OGG, MP3 or another format that libsndfile supports."
        ) from error


def _no_samples(path: Path) -> InputError:
    return InputError(f"{printable(path)} has no samples; at least one is expected.")
