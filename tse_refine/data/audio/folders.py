"""Sound files in folders: one list of suffixes, and what is left out, for corpora and extraction."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import soundfile

from tse_refine.errors import listed
from tse_refine.files.atomic import printable

# names of formats are suffixes, except those below; raw samples have no sample rate
AUDIO_SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
AUDIO_SUFFIXES |= {".aif", ".aifc", ".bwf", ".mp2", ".oga", ".opus", ".snd", ".sph", ".wave"}


def find_sounds(folder: Path, excluded: Path | None = None) -> tuple[list[Path], list[Path]]:
    """Find the sound files below a folder by their suffixes.

    Hidden files and folders do not count.

    Args:
        folder: folder that is searched, with its subfolders.
        excluded: folder that is not searched.

    Returns:
        The sound files, and what is left out: other files, and links to folders, which could lead in circles.

    Raises:
        OSError: a folder cannot be read.
    """
    sounds: list[Path] = []
    left_out: list[Path] = []
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir(follow_symlinks=False):
            if not (excluded and excluded.exists() and path.samefile(excluded)):
                below = find_sounds(path, excluded)
                sounds += below[0]
                left_out += below[1]
        elif not entry.is_dir() and path.suffix.lower() in AUDIO_SUFFIXES:
            sounds.append(path)
        else:
            left_out.append(path)
    return sounds, left_out


def described(left_out: Sequence[Path | str]) -> str:
    """Describe files that are left out: how many there are, of which kinds, and one of each kind.

    >>> described(["dog/a.m4a", "dog/b.m4a", "cat/notes.txt"])
    '3 other files are not used: 2 .m4a (dog/a.m4a), 1 .txt (cat/notes.txt)'
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for path in left_out:
        kind = "linked folders" if os.path.isdir(path) else os.path.splitext(path)[1].lower() or "without a suffix"
        counts[kind] += 1
        examples.setdefault(kind, printable(path))
    kinds = [f"{count} {printable(kind)} ({examples[kind]})" for kind, count in counts.most_common()]
    files = "1 other file is" if len(left_out) == 1 else f"{len(left_out)} other files are"
    return f"{files} not used: {listed(kinds, most=8)}"
