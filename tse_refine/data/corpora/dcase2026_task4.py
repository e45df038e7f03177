"""DCASE 2026 Task 4, spatial semantic segmentation of sound scenes: its development set's events and noises."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tse_refine.data.corpora.base import Clip, FileCorpus
from tse_refine.data.corpora.labelled import LabelledFolder
from tse_refine.data.corpora.splitting import assign_splits
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name

_REMEDY = (
    "Give the folder data/dev_set of the development set (https://zenodo.org/records/19328046, unpacked), which has "
    "sound_event and noise, each with train and valid."
)


class DCASE2026Task4(FileCorpus):
    """The isolated sound events of the development set, or its background noises, without its mixtures and rooms.

    Layout: ``root/sound_event/train/<class>/`` and ``root/sound_event/valid/<class>/`` with recordings in one channel,
    in subfolders too; ``root/noise/train/`` and ``root/noise/valid/`` with first-order Ambisonics, whose four channels
    are averaged like those of any recording. ``valid`` is the test split; ``train`` is divided into training and
    validation within each class (see ``assign_splits``). As in the challenge's baseline, recordings in one subfolder of
    a class are of one source, so that they stay together; a file beside the subfolders is a recording of its own.

    DCASE 2025's development set has the same folders. This is written after the layout that the baseline and its
    synthesizer describe and read (https://github.com/nttcslab/dcase2026_task4_baseline); it has not been tried on the
    archive. The names do not tell which events come from Freesound, so that recordings that other corpora share are
    not recognized.

    Args:
        root: folder ``dev_set`` with ``sound_event`` and ``noise``, or one that holds it, up to the one into which the
            archive was unpacked.
        part: ``sound_event`` for foregrounds, ``noise`` for backgrounds.
        classes: classes of sound events to use; all 18 by default.
        val_fraction: share of each class's training recordings that becomes the validation split, in (0, 1).
        split_seed: seed of the validation split; another one draws other recordings.
    """

    landmarks = ("sound_event", "noise")
    folder_names = ("dev_set", "data/dev_set", "DCASE2026Task4Dataset/data/dev_set")

    def __init__(
        self,
        root: str,
        part: Literal["sound_event", "noise"],
        classes: list[str] | None = None,
        val_fraction: float = 0.1,
        split_seed: int = 0,
    ) -> None:
        super().__init__(root)
        self.part = part
        self.chosen = None if classes is None else sorted(set(map(normalized_name, classes)))
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        if part == "noise" and classes is not None:
            raise InputError(
                "DCASE2026Task4 classes: noises have none; leave the option out, or give part sound_event."
            )

    def clips(self) -> list[Clip]:
        """Return the recordings of the part by published split, class and name; the label of noises is ``noise``.

        Raises:
            InputError: a folder is missing, unreadable or without audio, a chosen class is unknown, or a class has too
                few recordings for the splits.
        """
        train, valid = (self._recordings(split) for split in ("train", "valid"))
        split_of = assign_splits(
            [recording for *_, recording in train],
            [label for _, label, _ in train],
            {"val": self.val_fraction},
            self.split_seed,
        )
        return [
            Clip(name, label, split_of.get(recording, "test"), recording) for name, label, recording in train + valid
        ]

    def _recordings(self, split: str) -> list[tuple[str, str, str]]:
        """Return name, label and source recording of every file of a published split."""
        folder = LabelledFolder(self.root / self.part / split, "DCASE2026Task4", _REMEDY, "classes", self.chosen)
        if self.part == "sound_event":
            labelled = folder.sounds()
        else:
            labelled = [("noise", path) for path in folder.find(folder.path)[0]]
            if not labelled:
                raise InputError(f"{folder.path} has no audio file. {_REMEDY}")
        return [(path.relative_to(self.root).as_posix(), label, self._source(path)) for label, path in labelled]

    def _source(self, path: Path) -> str:
        """Return the source recording of a file: its folder in its class, or itself."""
        parts = path.relative_to(self.root).parts
        return f"DCASE2026Task4:{'/'.join(parts[:4] if self.part == 'sound_event' else parts)}"
