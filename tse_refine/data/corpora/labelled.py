"""A folder with one folder of recordings per label, as several corpora have them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tse_refine.data.audio.folders import AUDIO_SUFFIXES, described, find_sounds
from tse_refine.data.corpora.base import check_known
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name


class LabelledFolder:
    """Recordings sorted into folders that are named after their labels.

    Every sound file below a label's folder counts, in subfolders too. A label is the same in all Unicode forms of its
    folder's name.

    Args:
        path: folder of the label folders.
        corpus: name of the corpus, for messages.
        remedy: sentence for messages, what folder to give.
        option: option of the corpus that chooses labels, for messages.
        labels: labels to use; all by default.
    """

    def __init__(
        self, path: Path, corpus: str, remedy: str, option: str = "labels", labels: Sequence[str] | None = None
    ) -> None:
        self.path = path
        self.corpus = corpus
        self.remedy = remedy
        self.option = option
        self.labels = labels

    def folders(self) -> list[str]:
        """Return the names of the folders, in alphabetical order; InputError where there is none."""
        with self._readable(), os.scandir(self.path) as entries:
            folders = [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
        if not folders:
            raise InputError(f"{self.path} has no folder in it. {self.remedy}")
        return sorted(folders)

    def sounds(self) -> list[tuple[str, Path]]:
        """Return label and path of every recording, by label and path.

        Raises:
            InputError: a folder is missing, unreadable or without audio, or a chosen label is unknown.
        """
        labelled = []
        for label, folders in self._folders_of().items():
            if "|" in label:
                raise InputError(
                    f"{self.path / label}: a label may not contain '|', which separates labels in results."
                )
            found = [self.find(self.path / folder) for folder in folders]
            paths = sorted((path for sounds, _ in found for path in sounds), key=lambda path: path.as_posix())
            if not paths:
                left_out = [path for _, others in found for path in others]
                also = f" {described(left_out).capitalize()}." if left_out else ""
                raise InputError(
                    f"{self.path / label} has no audio file; its name is one label. Files with these extensions are "
                    f"read: {' '.join(sorted(AUDIO_SUFFIXES))}. Put recordings there or remove the folder.{also}"
                )
            labelled += [(label, path) for path in paths]
        return labelled

    def left_out(self) -> list[Path]:
        """Return what is in the labels' folders and is not a recording."""
        return [
            path
            for folders in self._folders_of().values()
            for folder in folders
            for path in self.find(self.path / folder)[1]
        ]

    def find(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the sound files below a folder, and what is left out (see ``find_sounds``).

        Args:
            folder: folder that is searched.

        Raises:
            InputError: a folder cannot be read, or a sound file has a name that is not Unicode.
        """
        with self._readable():
            sounds, left_out = find_sounds(folder)
        for path in sounds:
            if re.search("[\ud800-\udfff]", str(path)):  # stand for bytes that are not UTF-8
                raise InputError(f"{folder}: the file name {path.name!a} is not valid UTF-8. Rename the file.")
        return sounds, left_out

    def _folders_of(self) -> dict[str, list[str]]:
        """Return the folders of each label that is used: several where they are named in several Unicode forms."""
        folders: dict[str, list[str]] = {}
        for folder in self.folders():
            folders.setdefault(normalized_name(folder), []).append(folder)
        check_known(f"{self.corpus} {self.option}", self.labels or (), folders, f"is not in {self.path}")
        return {label: folders[label] for label in (sorted(folders) if self.labels is None else self.labels)}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            place = error.filename or self.path
            raise InputError(f"{self.corpus} root: {place} cannot be read ({error.strerror}). {self.remedy}") from None
