"""UrbanSound8K: slices of city recordings in ten classes (J. Salamon et al., 2014), in its published layout."""

from __future__ import annotations

from tse_refine.data.corpora.base import Clip, FileCorpus, check_known
from tse_refine.data.corpora.splitting import Folds
from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name
from tse_refine.files.documents import shown
from tse_refine.files.tables import read_csv

_COLUMNS = ("slice_file_name", "fsID", "salience", "fold", "class")
_FOREGROUND, _BACKGROUND = "1", "2"
_REMEDY = (
    "UrbanSound8K root: give the folder with UrbanSound8K's metadata and audio folders "
    "(https://zenodo.org/records/1203745), for instance --data.foregrounds.init_args.root /path/to/UrbanSound8K; "
    "`tse-refine prepare` downloads and unpacks it."
)

MD5 = "9aa69802bbf37fb986f71ec1483a196e"  # of the archive in the record


class UrbanSound8K(FileCorpus):
    """Slices of up to 4 s, split by the published folds.

    Layout: ``root/metadata/UrbanSound8K.csv`` beside ``root/audio/fold1/`` to ``root/audio/fold10/``. All slices of one
    Freesound recording (``fsID``) are published in one fold, so that a split by folds is one by recording. This is
    written after the corpus's own description and has not been tried on the archive, whose files have many formats.

    Args:
        root: folder with ``metadata`` and ``audio``, or the folder that holds it.
        foreground_only: use only slices whose sound is in the foreground of its recording (``salience`` 1); the others
            have it behind other sounds, which would be part of the source.
        classes: classes to use, spelt as in the table; all ten by default.
        train_folds: folds whose slices are the training split.
        val_folds: folds whose slices are the validation split.
        test_folds: folds whose slices are the test split.
        mirror: address that the archive is downloaded from.
    """

    landmarks = ("metadata/UrbanSound8K.csv",)
    folder_names = ("UrbanSound8K",)

    def __init__(
        self,
        root: str,
        foreground_only: bool = False,
        classes: list[str] | None = None,
        train_folds: list[int] = [1, 2, 3, 4, 5, 6, 7, 8],  # noqa: B006  YAML gives lists; never changed
        val_folds: list[int] = [9],  # noqa: B006
        test_folds: list[int] = [10],  # noqa: B006
        mirror: str = "https://zenodo.org/records/1203745/files",
    ) -> None:
        super().__init__(root)
        self.mirror = mirror
        self.foreground_only = foreground_only
        self.chosen = None if classes is None else list(map(normalized_name, classes))
        self.folds = Folds("UrbanSound8K", train_folds, val_folds, test_folds)

    def archives(self) -> list[Archive]:
        """Return the archive of everything."""
        file = RemoteFile(f"{self.mirror}/UrbanSound8K.tar.gz?download=1", MD5)
        return [Archive((file,), folder="UrbanSound8K/")]

    def clips(self) -> list[Clip]:
        """Return the slices of the chosen classes and folds, in the table's order.

        Raises:
            InputError: the table is missing, lacks a column, has a salience that is not published, or has no slice of a
                class or a fold.
        """
        table = self.root / "metadata" / "UrbanSound8K.csv"
        rows = read_csv(table, _COLUMNS, _REMEDY, filled=_COLUMNS, key="slice_file_name", final_newline=False)
        for row in rows:
            row["class"] = normalized_name(row["class"])
            if row["salience"] not in (_FOREGROUND, _BACKGROUND):
                raise InputError(
                    f"{table}: the salience of {row['slice_file_name']} is {shown(row['salience'])}; 1 (foreground) or "
                    "2 (background) is expected. Use the table as it is published."
                )
        check_known("UrbanSound8K classes", self.chosen or (), {row["class"] for row in rows}, f"is not in {table}")
        return [
            Clip(
                f"audio/fold{fold}/{row['slice_file_name']}",
                row["class"],
                self.folds.split_of[fold],
                f"freesound:{row['fsID']}",
            )
            for row, fold in zip(rows, self.folds.read(rows, table, "slice_file_name"), strict=True)
            if fold in self.folds.split_of
            and (self.chosen is None or row["class"] in self.chosen)
            and (row["salience"] == _FOREGROUND or not self.foreground_only)
        ]
