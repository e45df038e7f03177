"""GISE-51: isolated sound events of 51 classes, made from FSD50K (S. Yadav and M. E. Foster, 2021), as published."""

from __future__ import annotations

import re

from tse_refine.data.corpora.base import Clip, FileCorpus
from tse_refine.data.corpora.labelled import LabelledFolder
from tse_refine.files.atomic import normalized_name

EVENTS = "isolated_events"
SPLIT_FOLDERS = {"train": "train", "val": "val", "eval": "test"}
_REMEDY = (
    f"Give the folder into which {EVENTS}.tar.gz of https://zenodo.org/records/4593514 is unpacked, with the folders "
    f"{', '.join(SPLIT_FOLDERS)} in {EVENTS} and one folder per class in each."
)


class GISE51(FileCorpus):
    """Isolated events of chosen classes, in the published splits; the soundscapes made of them are not used.

    Layout: ``root/isolated_events/`` with ``train/``, ``val/`` and ``eval/`` (the test split), each with one folder of
    recordings per class. A file's name begins with the number of its Freesound recording, as in FSD50K; a file whose
    name does not counts as a recording of its own.

    This is written after the paper and the code that was published with the corpus, which made the mixtures from such
    folders and kept FSD50K's file names; it has not been tried on the archive.

    Args:
        root: folder with ``isolated_events``, or that folder.
        classes: classes to use, spelt as their folders; all 51 by default.
    """

    landmarks = (EVENTS,)

    def __init__(self, root: str, classes: list[str] | None = None) -> None:
        super().__init__(root)
        self.chosen = None if classes is None else sorted(set(map(normalized_name, classes)))

    def clips(self) -> list[Clip]:
        """Return the events by split, class and name.

        Raises:
            InputError: a folder is missing, unreadable or without audio, or a chosen class is unknown.
        """
        clips = []
        for folder, split in SPLIT_FOLDERS.items():
            events = LabelledFolder(self.root / EVENTS / folder, "GISE51", _REMEDY, "classes", self.chosen).sounds()
            names = [path.relative_to(self.root).as_posix() for _, path in events]
            for (label, path), name, file in zip(events, names, self.file_recordings(names), strict=True):
                number = re.match(r"[0-9]+(?![0-9A-Za-z])", path.stem)
                clips.append(Clip(name, label, split, f"freesound:{int(number[0])}" if number else file))
        return clips
