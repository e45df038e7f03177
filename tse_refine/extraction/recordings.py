"""The recordings to extract from: found on disk, checked, and read block by block."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import MOST_CHANNELS, check_sample_rate, check_samples
from tse_refine.extraction.sound_formats import SUFFIXES
from tse_refine.files.atomic import printable

# soundfile reads more, but these are what a folder is searched for; a file that is named is read whatever it is called
READABLE_SUFFIXES = (*SUFFIXES, ".aifc")
_BLOCK_SECONDS = 2


@dataclass(frozen=True)
class Recording:
    """A file of sound.

    Attributes:
        path: the file.
        sample_rate: Hz.
        channels: from 1 to 64.
        samples: of each channel, as the header says.
    """

    path: Path
    sample_rate: int
    channels: int
    samples: int

    @classmethod
    def open(cls, path: Path) -> Recording:
        """Read what a file says of itself.

        Raises:
            InputError: it cannot be read, is no sound, is empty, or has more channels or another sample rate than any
                recording.
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
        count = 0
        with _opened(self.path) as file:
            while True:
                try:
                    block = file.read(_BLOCK_SECONDS * self.sample_rate, dtype="float32", always_2d=True)
                except soundfile.SoundFileError as error:
                    raise _unreadable(self.path, error) from error
                if not len(block):
                    break
                samples = torch.from_numpy(np.ascontiguousarray(block.T))
                check_samples(samples, printable(self.path))
                count += len(block)
                yield samples
        if not count:
            raise _no_samples(self.path)


def find_recordings(paths: Sequence[Path], besides: Path) -> list[tuple[Path, Path]]:
    """Find the files that are meant by files and folders.

    Folders are searched to their depth for names that end as sound does; hidden files are left out.

    Args:
        paths: files and folders.
        besides: a folder that is not searched, that of the results.

    Returns:
        The files, each once, and for each the name by which its results go: in a folder, its path from there.

    Raises:
        InputError: one does not exist, or is a folder without sound.
    """
    found: list[tuple[Path, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(_sound_files(path, besides))
            if not inside:
                raise InputError(
                    f"{printable(path)} is a folder without sound; looked for are files that end in "
                    f"{', '.join(sorted(READABLE_SUFFIXES))}."
                )
            found += [(file, file.relative_to(path)) for file in inside]
        elif path.is_file():
            found.append((path, Path(path.name)))
        else:
            raise InputError(f"{printable(path)} does not exist, or is no file; give recordings or folders of them.")
    once: dict[Path, tuple[Path, Path]] = {}
    for file, name in found:
        once.setdefault(place_of(file), (file, name))
    return list(once.values())


def place_of(path: Path) -> Path:
    """Return what the spellings of one path have in common; links to a file are files of their own."""
    return path.parent.resolve() / path.name


def _sound_files(folder: Path, besides: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and not _same(Path(parent, name), besides)]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in READABLE_SUFFIXES:
                yield Path(parent, name)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _opened(path: Path) -> soundfile.SoundFile:
    try:
        with path.open("rb"):  # says why it cannot be opened, where libsndfile has only "System error"
            pass
        return soundfile.SoundFile(os.fsencode(path))  # bytes: a name need not be text
    except OSError as error:
        raise InputError(f"{printable(path)} cannot be read ({error.strerror}).") from error
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile's word for a .raw file
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")
    return InputError(
        f"{printable(path)} cannot be read as sound ({reason}); expected is a whole file of WAV, FLAC, OGG, MP3 or "
        "another format that libsndfile knows."
    )


def _no_samples(path: Path) -> InputError:
    return InputError(f"{printable(path)} has no samples; a recording has at least one.")
