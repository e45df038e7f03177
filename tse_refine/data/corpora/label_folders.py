"""Any recordings, sorted into one folder per label."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tse_refine.data.audio.folders import AUDIO_SUFFIXES, described, find_sounds
from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus, check_known
from tse_refine.data.corpora.splitting import assign_splits
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name


class LabelFolders(FileCorpus):
    """Recordings in ``root/<label>/``, or in ``root/train/<label>/``, ``root/val/<label>/`` and ``root/test/<label>/``.

    Every audio file below a label's folder is used, in subfolders too; other files and links to folders are reported as
    not used, hidden ones ignored. A label is the same in all Unicode forms of its folder's name. If the folders in
    ``root`` are ``train``, ``val`` and ``test``, these are the splits. Otherwise the splits are drawn within each label
    (see ``assign_splits``). Every file counts as a recording of its own: to keep several clips of one recording in one
    split, use the three folders or a ``Manifest``.

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
        self.labels = None if labels is None else sorted(set(map(normalized_name, labels)))

    def unlisted(self) -> list[str]:
        """Return what is in the labels' folders and is not a recording."""
        parents = [self.root]
        if set(self._folders(self.root)) >= set(SPLITS):
            parents = [self.root / split for split in SPLITS]
        folders = [(parent, folder) for parent in parents for folder in self._label_folders(parent).values()]
        return [str(path) for parent, names in folders for name in names for path in self._found(parent / name)[1]]

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
        labelled = []
        for label, folders in self._label_folders(parent).items():
            if "|" in label:
                raise InputError(f"{parent / label}: a label may not contain '|', which separates labels in results.")
            found = [self._found(parent / folder) for folder in folders]
            names = sorted(path.relative_to(self.root).as_posix() for sounds, _ in found for path in sounds)
            if not names:
                left_out = [path for _, others in found for path in others]
                also = f" {described(left_out).capitalize()}." if left_out else ""
                raise InputError(
                    f"{parent / label} has no audio file; its name is one label. Files with these extensions are read: "
                    f"{' '.join(sorted(AUDIO_SUFFIXES))}. Put recordings there or remove the folder.{also}"
                )
            for name in names:
                if re.search("[\ud800-\udfff]", name):  # stand for bytes that are not UTF-8
                    raise InputError(f"{parent}: the file name {name!a} is not valid UTF-8. Rename the file.")
            labelled += [(label, name) for name in names]
        return labelled

    def _label_folders(self, parent: Path) -> dict[str, list[str]]:
        """Return the folders of each label that is used: several where they are named in several Unicode forms."""
        folders: dict[str, list[str]] = {}
        for folder in self._folders(parent):
            folders.setdefault(normalized_name(folder), []).append(folder)
        check_known("LabelFolders labels", self.labels or (), folders, f"is not in {parent}")
        return {label: folders[label] for label in (sorted(folders) if self.labels is None else self.labels)}

    def _folders(self, parent: Path) -> list[str]:
        with _readable(parent), os.scandir(parent) as entries:
            folders = [entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()]
        if not folders:
            raise InputError(f"{parent} has no folder in it. Give a folder with one folder of recordings per label.")
        return sorted(folders)

    @staticmethod
    def _found(folder: Path) -> tuple[list[Path], list[Path]]:
        with _readable(folder):
            return find_sounds(folder)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"LabelFolders root: {error.filename or folder} cannot be read ({error.strerror}). Give a folder that has "
            "one folder of recordings per label."
        ) from None
