"""ESC-50: environmental sounds in 50 categories (K. J. Piczak, 2015), in its published layout."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tse_refine.data.corpora.base import Clip, FileCorpus, check_known
from tse_refine.data.corpora.splitting import Folds
from tse_refine.data.download.archives import Archive, Contents, RemoteFile
from tse_refine.files.atomic import normalized_name
from tse_refine.files.digests import digest_of
from tse_refine.files.tables import read_csv

_COLUMNS = ("filename", "fold", "category", "src_file")
_REMEDY = (
    "ESC50 root: give the folder with ESC-50's meta and audio folders (https://github.com/karolpiczak/ESC-50), "
    "for instance --data.root /path/to/ESC-50-master; `tse-refine prepare` downloads and unpacks it."
)

COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
TABLE_MD5 = "54a0d0055a10bb7df84ad340a148722e"
NUM_CLIPS = 2000


class ESC50(FileCorpus):
    """Clips of chosen categories, split by fold.

    Layout: ``root/meta/esc50.csv`` beside ``root/audio/``; file names and their extensions are those of the table. All
    takes of one Freesound recording (``src_file``) are in one fold, so that a split by folds is one by recording.

    The archive is that of one commit of the public repository. GitHub makes it on request and publishes no checksum: it
    is verified by the commit's id in it, the CRC of every file, the number of clips and the table's checksum.

    Args:
        root: folder with ``meta`` and ``audio``, or the folder that holds it.
        categories: categories to use, spelt as in the table.
        train_folds: folds whose clips are the training split.
        val_folds: folds whose clips are the validation split.
        test_folds: folds whose clips are the test split.
        mirror: address that the archive of the commit is downloaded from.
    """

    landmarks = ("meta/esc50.csv",)
    folder_names = ("ESC-50-master", "ESC-50", f"ESC-50-{COMMIT}")

    def __init__(
        self,
        root: str,
        categories: list[str],
        train_folds: list[int] = [1, 2, 3],  # noqa: B006  YAML gives lists; never changed
        val_folds: list[int] = [4],  # noqa: B006
        test_folds: list[int] = [5],  # noqa: B006
        mirror: str = "https://github.com/karolpiczak/ESC-50/archive",
    ) -> None:
        super().__init__(root)
        self.mirror = mirror
        self.categories = list(map(normalized_name, categories))
        self.folds = Folds("ESC50", train_folds, val_folds, test_folds)

    def archives(self) -> list[Archive]:
        """Return the archive; none where there is a table that is not the published one, whose files are others."""
        if self._table.exists() and digest_of(self._table, hashlib.md5()) != TABLE_MD5:
            return []
        contents = Contents(COMMIT, (("meta/esc50.csv", TABLE_MD5),), (("audio/", NUM_CLIPS),))
        size = 600_000_000  # as its page says; GitHub does not send it
        return [Archive((RemoteFile(f"{self.mirror}/{COMMIT}.zip", None, size),), ("",), f"ESC-50-{COMMIT}/", contents)]

    def clips(self) -> list[Clip]:
        """Return the clips of the chosen categories and folds, in the table's order.

        Raises:
            InputError: the table is missing, lacks a column, or has no clip of a category or a fold.
        """
        rows = read_csv(self._table, _COLUMNS, _REMEDY, filled=_COLUMNS, key="filename", final_newline=False)
        for row in rows:
            row["category"] = normalized_name(row["category"])
        folds = self.folds.read(rows, self._table, "filename")
        known = {row["category"] for row in rows}
        check_known("ESC50 categories", self.categories, known, f"is not in {self._table}")
        return [
            Clip(f"audio/{row['filename']}", row["category"], self.folds.split_of[fold], f"freesound:{row['src_file']}")
            for row, fold in zip(rows, folds, strict=True)
            if row["category"] in self.categories and fold in self.folds.split_of
        ]

    @property
    def _table(self) -> Path:
        return self.root / "meta" / "esc50.csv"
