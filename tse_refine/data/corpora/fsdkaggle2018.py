"""FSDKaggle2018: Freesound clips of 41 classes (E. Fonseca et al., 2018), in its published layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tse_refine.data.corpora.base import SPLITS, Clip, FileCorpus, check_known
from tse_refine.data.corpora.splitting import assign_splits
from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home, normalized_name
from tse_refine.files.tables import read_csv

_REMEDY = (
    "FSDKaggle2018 root: give the folder into which the archives of https://zenodo.org/records/2552860 are unpacked, "
    "with the names they have inside; `tse-refine prepare` downloads and unpacks them."
)
_SPLITS_REMEDY = "FSDKaggle2018 splits: give a folder with train.csv, val.csv and test.csv, or leave the option out."

# checksums of the archives in the record
MD5 = {
    "audio_train": "a8b47ff4b52022c178f88fa5c6f080d0",
    "audio_test": "f85c8665c3fc39311ea1b748e194a81d",
    "meta": "f16828ac8be0e5285b9175a12f90d784",
}

# what AudioSet's ontology, from which the classes are taken, calls them or the class above that has no other here
ALIASES = {
    "Bark": ["Dog"],
    "Burping_or_eructation": ["Burping", "Eructation"],
    "Computer_keyboard": ["Typing"],
    "Gunshot_or_gunfire": ["Gunshot", "Gunfire"],
    "Meow": ["Cat"],
    "Violin_or_fiddle": ["Violin", "Fiddle"],
}


class FSDKaggle2018(FileCorpus):
    """Single-label clips; the published test part is the test split, the training part is divided into train and val.

    Layout, as shipped after the competition: ``root/FSDKaggle2018.meta/`` with ``train_post_competition.csv`` and
    ``test_post_competition_scoring_clips.csv`` beside ``root/FSDKaggle2018.audio_train/`` and
    ``root/FSDKaggle2018.audio_test/``. Validation clips are chosen within each label and by Freesound recording (see
    ``assign_splits``), before ``classes`` is applied: leaving a class out moves no clip to another split.

    Args:
        root: folder with the three, or one of them.
        val_fraction: share of each label's training clips that becomes the validation split, in (0, 1).
        split_seed: seed of the validation split; another one draws other clips.
        verified_only: use only training and validation clips whose label a person has verified (about 40 %), and
            all of the test part.
        splits: folder with ``train.csv``, ``val.csv`` and ``test.csv`` (columns ``fname,label``), such as
            ``FSDSoundScapes/FSDKaggle2018``, to use these splits instead; a clip that is not listed is not used. Clips
            are identified by file name, which is unique in the corpus, without its folder.
        classes: labels to use; all by default.
        mirror: address that the archives are downloaded from.
    """

    landmarks = tuple(f"FSDKaggle2018.{part}" for part in MD5)

    def __init__(
        self,
        root: str,
        val_fraction: float = 0.1,
        split_seed: int = 0,
        verified_only: bool = False,
        splits: str | None = None,
        classes: list[str] | None = None,
        mirror: str = "https://zenodo.org/records/2552860/files",
    ) -> None:
        super().__init__(root)
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.verified_only = verified_only
        self.splits = None if splits is None else expand_home(splits)
        self.chosen = None if classes is None else list(map(normalized_name, classes))
        self.mirror = mirror

    def archives(self) -> list[Archive]:
        """Return the archives of the tables, the training and the test part."""
        return [
            Archive(
                (RemoteFile(f"{self.mirror}/FSDKaggle2018.{part}.zip?download=1", md5),), (f"FSDKaggle2018.{part}/",)
            )
            for part, md5 in MD5.items()
        ]

    def clips(self) -> list[Clip]:
        """Return the clips, in the order of the published tables or of the lists in ``splits``.

        Raises:
            InputError: a table is missing or incomplete, a list names a clip that the tables lack, or a chosen class is
                unknown.
        """
        clips, unverified = self._published()
        if self.splits is not None:
            clips = self._listed(clips, self.splits)
        if self.verified_only:
            clips = [clip for clip in clips if clip.name not in unverified]
        if self.splits is None:
            clips = self._with_val(clips)
        check_known("FSDKaggle2018 classes", self.chosen or (), {clip.label for clip in clips}, "has no clip here")
        return [clip for clip in clips if self.chosen is None or clip.label in self.chosen]

    def aliases(self) -> dict[str, list[str]]:
        """Return the words of AudioSet's ontology, such as ``Dog`` for ``Bark``."""
        return ALIASES

    def _published(self) -> tuple[list[Clip], set[str]]:
        """Return all clips in their published parts, and the names of those without a verified label."""
        meta = self.root / "FSDKaggle2018.meta"
        columns = ("fname", "label", "freesound_id")
        train = _read(meta / "train_post_competition.csv", (*columns, "manually_verified"), _REMEDY)
        test = _read(meta / "test_post_competition_scoring_clips.csv", columns, _REMEDY)
        clips = [
            Clip(f"FSDKaggle2018.audio_{part}/{row['fname']}", row["label"], part, f"freesound:{row['freesound_id']}")
            for part, rows in (("train", train), ("test", test))
            for row in rows
        ]
        unverified = {clip.name for clip, row in zip(clips, train, strict=False) if row["manually_verified"] != "1"}
        return clips, unverified

    def _with_val(self, clips: Sequence[Clip]) -> list[Clip]:
        train = [clip for clip in clips if clip.split == "train"]
        split_of = assign_splits(
            [clip.recording for clip in train],
            [clip.label for clip in train],
            {"val": self.val_fraction},
            self.split_seed,
        )
        return [replace(clip, split=split_of[clip.recording]) if clip.split == "train" else clip for clip in clips]

    def _listed(self, clips: Sequence[Clip], folder: Path) -> list[Clip]:
        by_file = {PurePosixPath(clip.name).name: clip for clip in clips}
        listed = []
        for split in SPLITS:
            table = folder / f"{split}.csv"
            for row in _read(table, ("fname", "label"), _SPLITS_REMEDY):
                clip = by_file.get(PurePosixPath(row["fname"]).name)
                if clip is None or clip.label != row["label"]:
                    finding = "is not" if clip is None else f"is labelled {row['label']}, but {clip.label}"
                    raise InputError(
                        f"{table}: {row['fname']} {finding} in the tables in {self.root / 'FSDKaggle2018.meta'}. Give "
                        "lists that were made from this corpus."
                    )
                listed.append(replace(clip, split=split))
        return listed


def _read(table: Path, columns: Sequence[str], remedy: str) -> list[dict[str, str]]:
    return read_csv(table, columns, remedy, filled=columns, key="fname", final_newline=False)
