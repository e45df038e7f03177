"""Any recordings, sorted into one folder per label."""

from __future__ import annotations

import os
import re
from pathlib import Path

import soundfile

from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus, check_known
from tse_refine.data.corpora.splitting import assign_splits
from tse_refine.errors import InputError

# names of formats are extensions, except those below; raw samples have no sample rate
EXTENSIONS = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"}
EXTENSIONS |= {".aif", ".aifc", ".oga", ".opus"}


class LabelFolders(FileCorpus):
    """Recordings in ``root/<label>/``, or in ``root/train/<label>/``, ``root/val/<label>/`` and ``root/test/<label>/``.

    Every audio file below a label's folder is used, in subfolders too; other and hidden files are ignored. If the
    folders in ``root`` are ``train``, ``val`` and ``test``, these are the splits. Otherwise the splits are drawn within
    each label (see ``assign_splits``). Every file counts as a recording of its own: to keep several clips of one
    recording in one split, use the three folders or a ``Manifest``.

    Args:
        root: folder of the label folders or of the three.
        val_fraction: share of each label's files that becomes the validation split, in (0, 1).
        test_fraction: share of each label's files that becomes the test split, in (0, 1).
        split_seed: seed of the splits; another one draws other files.
        labels: labels to use; all by default.
    """

    def __init__(
        self,
        root: str,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 0,
        labels: list[str] | None = None,
    ) -> None:
        super().__init__(root)
        self.fractions = {"val": val_fraction, "test": test_fraction}
        self.split_seed = split_seed
        self.labels = labels

    def clips(self) -> list[Clip]:
        """Return the recordings by split folder, label and name.

        Raises:
            InputError: a folder is missing, unreadable or without audio, a chosen label is unknown, or a label has too
                few files for the splits.
        """
        folders = self._folders(self.root)
        if set(folders) >= set(SPLITS):
            others = [folder for folder in folders if folder not in SPLITS]
            if others:
                raise InputError(
                    f"{self.root} has the folders train, val and test, which are the splits, and beside them "
                    f"{', '.join(others)}. Move them elsewhere."
                )
            return self._clips(
                [(label, name, split) for split in SPLITS for label, name in self._labelled(self.root / split)]
            )
        if len(folders) > 1 and set(folders) < set(SPLITS):
            raise InputError(
                f"{self.root} has the folders {' and '.join(folders)} only. Give it train, val and test, or one folder "
                "per label."
            )
        files = self._labelled(self.root)
        names = [name for _, name in files]
        split_of = assign_splits(names, [label for label, _ in files], self.fractions, self.split_seed)
        return self._clips([(label, name, split_of[name]) for label, name in files])

    def _clips(self, files: list[tuple[str, str, str]]) -> list[Clip]:
        recordings = self.file_recordings(name for _, name, _ in files)
        return [
            Clip(name, label, split, recording)
            for (label, name, split), recording in zip(files, recordings, strict=True)
        ]

    def _labelled(self, parent: Path) -> list[tuple[str, str]]:
        """Return label and name of every recording in the label folders of a folder."""
        known = self._folders(parent)
        check_known("LabelFolders labels", self.labels or (), known, f"is not in {parent}")
        labelled = []
        for label in known if self.labels is None else sorted(set(self.labels)):
            if "|" in label:
                raise InputError(f"{parent / label}: a label may not contain '|', which separates labels in results.")
            names = self._audio_files(parent / label)
            if not names:
                raise InputError(
                    f"{parent / label} has no audio file; its name is one label. Files with these extensions are read: "
                    f"{' '.join(sorted(EXTENSIONS))}. Put recordings there or remove the folder."
                )
            labelled += [(label, name) for name in names]
        return labelled

    def _folders(self, parent: Path) -> list[str]:
        folders = [entry.name for entry in self._entries(parent) if entry.is_dir()]
        if not folders:
            raise InputError(f"{parent} has no folder in it. Give a folder with one folder of recordings per label.")
        return sorted(folders)

    def _audio_files(self, folder: Path) -> list[str]:
        """Return the names of the recordings below a folder, as the file system spells them."""
        names: list[str] = []
        for entry in self._entries(folder):
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                names += self._audio_files(path)
            elif path.suffix.lower() in EXTENSIONS and not entry.is_dir():
                names.append(path.relative_to(self.root).as_posix())
                if re.search("[\ud800-\udfff]", names[-1]):  # stand for bytes that are not UTF-8
                    raise InputError(f"{folder}: the file name {names[-1]!a} is not valid UTF-8. Rename the file.")
        return sorted(names)

    @staticmethod
    def _entries(folder: Path) -> list[os.DirEntry[str]]:
        """Return what is in a folder and not hidden."""
        try:
            with os.scandir(folder) as entries:
                return [entry for entry in entries if entry.name[0] != "."]
        except OSError as error:
            raise InputError(
                f"LabelFolders root: {error.filename or folder} cannot be read ({error.strerror}). Give a folder that "
                "has one folder of recordings per label."
            ) from None
