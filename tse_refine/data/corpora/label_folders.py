"""Any recordings, sorted into one folder per label."""

from __future__ import annotations

from pathlib import Path

from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus
from tse_refine.data.corpora.labelled import LabelledFolder
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
        if set(self._folder().folders()) >= set(SPLITS):
            parents = [self.root / split for split in SPLITS]
        return [str(path) for parent in parents for path in self._folder(parent).left_out()]

    def clips(self) -> list[Clip]:
        """Return the recordings by split folder, label and name.

        Raises:
            InputError: a folder is missing, unreadable or without audio, a chosen label is unknown, or a label has too
                few files for the splits.
        """
        folders = self._folder().folders()
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
        return [(label, path.relative_to(self.root).as_posix()) for label, path in self._folder(parent).sounds()]

    def _folder(self, path: Path | None = None) -> LabelledFolder:
        remedy = "Give a folder that has one folder of recordings per label."
        return LabelledFolder(path or self.root, "LabelFolders", remedy, labels=self.labels)
