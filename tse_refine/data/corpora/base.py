"""The interface of a corpus, a set of recordings, and of corpora whose recordings are files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from tse_refine.data.audio.reading import open_audio
from tse_refine.data.download.archives import Archive
from tse_refine.errors import InputError, MissingFileError, did_you_mean, listed
from tse_refine.files.atomic import expand_home, normalized_name
from tse_refine.files.digests import FileDigests
from tse_refine.files.documents import checked_name, shown

SPLITS = ("train", "val", "test")
# options that take a corpus
FOREGROUNDS, BACKGROUNDS, INTERFERERS = "data.foregrounds", "data.backgrounds", "data.interferers"
IMPULSE_RESPONSES = "data.impulse_responses"


@dataclass(frozen=True)
class Clip:
    """One labelled recording.

    Attributes:
        name: unique in its corpus and the same on every machine, such as the path relative to the corpus.
        label: its class, or the category of a background or an interferer; in any Unicode form, kept in one.
        split: ``train``, ``val`` or ``test``.
        recording: the source recording it was cut from; no recording may be in two splits. Recordings from Freesound
            are ``freesound:<number>`` in every corpus, since corpora share them.
    """

    name: str
    label: str
    split: str
    recording: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", normalized_name(self.label))


class Corpus(ABC):
    """A set of recordings in a known layout.

    :meth:`clips` reads the corpus's tables without touching audio, :meth:`read` one recording's audio.
    """

    @abstractmethod
    def clips(self) -> list[Clip]:
        """Return every clip, in an order that is the same on every machine.

        Raises:
            InputError: the tables are missing or lack what the options name.
        """

    @abstractmethod
    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        """Return samples of a clip, ``[samples, channels]`` in float32, and its sample rate in Hz.

        Args:
            clip: a clip of this corpus.
            start: first sample, at the recording's own rate.
            stop: end sample; fewer samples are returned where the recording ends before.

        Raises:
            OSError: the recording is missing or cannot be opened.
            InputError: it is not a sound file, or not a whole one.
        """

    @abstractmethod
    def digests(self, clips: Sequence[Clip], cache_dir: Path) -> list[str]:
        """Return a text per clip that changes whenever its audio changes, ``missing`` where there is no audio.

        Args:
            clips: clips of this corpus.
            cache_dir: folder where digests that are slow to compute may be remembered.
        """

    def classes(self) -> list[str]:
        """Return the labels of the corpus in alphabetical order: the index of a label here is the class index."""
        return sorted({clip.label for clip in self.clips()})

    def aliases(self) -> dict[str, list[str]]:
        """Return other words for labels, by label, such as ``{"Bark": ["Dog"]}``: what queries may say instead."""
        return {}

    def archives(self) -> list[Archive]:
        """Return the archives in which the corpus is published; none where it cannot be downloaded."""
        return []

    def missing(self) -> list[str]:
        """Return what the corpus lacks on disk: the first table that is missing, else every missing recording."""
        return []

    def unlisted(self) -> list[str]:
        """Return recordings beside those of the corpus that it does not use as it is configured."""
        return []


class FileCorpus(Corpus):
    """A corpus of audio files below one folder; a clip's name is its path relative to that folder.

    A corpus with a published layout is also found where ``root`` is the folder above or below: it is known by its
    landmarks.

    Args:
        root: folder of the corpus.

    Attributes:
        root: folder in which a landmark is: the given one, one in it, or the one that it is in; otherwise the given
            one, to download into.
        landmarks: paths below :attr:`root`, of which a corpus on disk has one; none where any folder will do.
        folder_names: names that the folder of the corpus has as published.
    """

    landmarks: ClassVar[tuple[str, ...]] = ()
    folder_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: str) -> None:
        given = expand_home(root)
        above = Path(os.path.abspath(given))
        candidates = [given, *(given / name for name in self.folder_names)]
        if above.name in {landmark.split("/")[0] for landmark in self.landmarks}:
            candidates.append(above.parent)
        places = (place for place in candidates if any(os.path.exists(place / name) for name in self.landmarks))
        self.root = next(places, given)

    def missing(self) -> list[str]:
        """Return the path below :attr:`root` of the first table that is missing, else of every missing recording."""
        try:
            clips = self.clips()
        except MissingFileError as error:
            return [os.path.relpath(error.path, self.root)]
        # os.path.exists is false, not an error, for names that no file can have
        return [clip.name for clip in clips if not os.path.exists(self.path(clip))]

    def unlisted(self) -> list[str]:
        """Return the audio files beside the clips' that are not clips, as paths below :attr:`root`."""
        paths = {self.path(clip) for clip in self.clips()}
        suffixes = {path.suffix for path in paths}
        folders = [folder for folder in {path.parent for path in paths} if folder.is_dir()]
        beside = {file for folder in folders for file in folder.iterdir() if file.suffix in suffixes} - paths
        return sorted(os.path.relpath(file, self.root) for file in beside)

    def path(self, clip: Clip) -> Path:
        """Return the path of a clip's file."""
        return self.root / clip.name

    def file_recordings(self, names: Iterable[str]) -> list[str]:
        """Return the source recording of each file that names none: the file itself, however its path is written.

        Folders are looked up and not files, of which there may be millions on a slow disk.

        Args:
            names: paths, below :attr:`root` or absolute.
        """
        folders: dict[str, tuple[str, Collection[str]]] = {}
        recordings = []
        for name in names:
            cut = max(name.rfind("/"), name.rfind(os.sep)) + 1
            folder, file = name[:cut], name[cut:]
            if folder not in folders:
                real = os.path.realpath(self.root / folder)
                folders[folder] = os.path.join(f"file:{real}", ""), {"", os.curdir, os.pardir, *_links(real)}
            prefix, others = folders[folder]
            recordings.append(f"file:{os.path.realpath(self.root / name)}" if file in others else prefix + file)
        return recordings

    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        """Return samples of a clip, ``[samples, channels]`` in float32, and its sample rate in Hz."""
        with open_audio(self.path(clip)) as audio:
            return audio.read(start, audio.samples if stop is None else stop), audio.sample_rate

    def digests(self, clips: Sequence[Clip], cache_dir: Path) -> list[str]:
        """Return a digest of each file's content; each file is read once and remembered by its size and time."""
        return FileDigests(cache_dir)([self.path(clip) for clip in clips])


def _links(folder: str) -> set[str]:
    """Return the names of the links in a folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_symlink()}
    except OSError:
        return set()  # nothing in it can be read; what is missing is reported later


def check_known(option: str, names: Sequence[str], known: Collection[str], finding: str) -> None:
    """Raise an ``InputError`` for the first name in an option that is not known; ``finding`` says where it is not."""
    for name in names:
        if name not in known:
            raise InputError(f"{option}: {name!r} {finding}; {did_you_mean(name, sorted(known))}")


def check_clips(clips: Sequence[Clip]) -> None:
    """Reject clips whose labels cannot be shown or whose splits do not exist, whatever table they are from.

    Args:
        clips: clips of one corpus.

    Raises:
        InputError: names the clip, and what was found.
    """
    for clip in clips:
        try:
            checked_name(clip.label, "its label")
        except ValueError as error:
            raise InputError(f"{shown(clip.name)}: {error}. Correct the table.") from error
        if clip.split not in SPLITS:
            raise InputError(
                f"{shown(clip.name)}: its split is {shown(clip.split)}; train, val or test is expected. Correct the "
                "table."
            )


def check_splits(clips: Mapping[str, Sequence[Clip]]) -> None:
    """Reject source recordings that are in several splits, within a corpus or across corpora.

    Args:
        clips: clips of each option, such as ``data.foregrounds``.

    Raises:
        InputError: a source recording is in two splits.
    """
    split_of: dict[str, str] = {}
    shared = {
        clip.recording
        for members in clips.values()
        for clip in members
        if split_of.setdefault(clip.recording, clip.split) != clip.split
    }
    if shared:
        splits: dict[str, set[str]] = {recording: set() for recording in sorted(shared)}
        options = set()
        for option, members in clips.items():
            for clip in members:
                if clip.recording in shared:
                    splits[clip.recording].add(clip.split)
                    options.add(option)
        names = listed([f"{name} ({' and '.join(sorted(splits[name]))})" for name in splits], most=10)
        owners = " and ".join(sorted(options, reverse=True))
        raise InputError(
            f"{owners}: {len(shared)} source recordings are in more than one split: {names}. A recording of the "
            "training set would make the test too easy; give each recording to one split."
        )
