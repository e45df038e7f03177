"""FSD50K: Freesound clips labelled with 200 classes of AudioSet's ontology (E. Fonseca et al., 2020), as published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tse_refine.data.corpora.base import Clip, FileCorpus, check_known
from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.errors import InputError
from tse_refine.files.atomic import normalized_name
from tse_refine.files.tables import read_csv

_REMEDY = (
    "FSD50K root: give the folder into which the archives of https://zenodo.org/records/4060432 are unpacked, with the "
    "names they have inside; `tse-refine prepare` downloads and unpacks them."
)

_MOST_LABELS = 100  # of a clip; the published ones have fewer than 20

# checksums of the archives in the record, volumes in order
MD5 = {
    "ground_truth.zip": "ca27382c195e37d2269c4c866dd73485",
    "dev_audio.z01": "faa7cf4cc076fc34a44a479a5ed862a3",
    "dev_audio.z02": "8f9b66153e68571164fb1315d00bc7bc",
    "dev_audio.z03": "1196ef47d267a993d30fa98af54b7159",
    "dev_audio.z04": "d088ac4e11ba53daf9f7574c11cccac9",
    "dev_audio.z05": "81356521aa159accd3c35de22da28c7f",
    "dev_audio.zip": "c480d119b8f7a7e32fdb58f3ea4d6c5a",
    "eval_audio.z01": "3090670eaeecc013ca1ff84fe4442aeb",
    "eval_audio.zip": "6fa47636c3a3ad5c7dfeba99f2637982",
}


class FSD50K(FileCorpus):
    """Clips with one kind of sound, of chosen classes, in the published splits.

    Layout: ``root/FSD50K.ground_truth/`` with ``dev.csv`` and ``eval.csv``, ``root/FSD50K.dev_audio/`` and
    ``root/FSD50K.eval_audio/``. A clip has several labels, among them all ancestors of each. The tables do not hold
    the ontology, so it is read off the labels: B is an ancestor of A if every clip (dev and eval together) labelled A
    is labelled B too, and not the other way round. A leaf of a clip is a label that is not an ancestor of another
    label of the clip. A clip is used if it has exactly one leaf and exactly one of the chosen classes among its labels,
    which then is its label: of a chosen class with descendants, the clips of these are used too.

    Args:
        root: folder with the three, or one of them.
        classes: labels to use, none of them an ancestor of another.
        mirror: address that the archives are downloaded from.
    """

    landmarks = tuple(f"FSD50K.{part}" for part in ("ground_truth", "dev_audio", "eval_audio"))

    def __init__(self, root: str, classes: list[str], mirror: str = "https://zenodo.org/records/4060432/files") -> None:
        super().__init__(root)
        self.chosen = list(dict.fromkeys(map(normalized_name, classes)))
        self.mirror = mirror

    def archives(self) -> list[Archive]:
        """Return the archives of the tables, the dev and the eval audio, which have several volumes."""
        return [
            Archive(
                tuple(
                    RemoteFile(f"{self.mirror}/FSD50K.{volume}?download=1", md5)
                    for volume, md5 in MD5.items()
                    if volume.startswith(part)
                ),
                (f"FSD50K.{part}/",),
            )
            for part in ("ground_truth", "dev_audio", "eval_audio")
        ]

    def clips(self) -> list[Clip]:
        """Return the clips that can be used, first of ``dev.csv`` and then of ``eval.csv``, in their order.

        Raises:
            InputError: a table is missing or incomplete; a chosen class is unknown, an ancestor of another or without
                a clip that can be used.
        """
        parts = self._tables()
        ancestors = _ancestors(set(row["labels"].split(",")) for rows in parts.values() for row in rows)
        self._check(ancestors)
        clips = []
        for part, rows in parts.items():
            for row in rows:
                labels = set(row["labels"].split(","))
                present = [label for label in self.chosen if label in labels]
                if len(present) == 1 and len(_leaves(labels, ancestors)) == 1:
                    name, split = f"FSD50K.{part}_audio/{row['fname']}.wav", row["split"] if part == "dev" else "test"
                    clips.append(Clip(name, present[0], split, f"freesound:{row['fname']}"))
        for label in self.chosen:
            if not any(clip.label == label for clip in clips):
                raise InputError(
                    f"FSD50K classes: no clip has {label!r} without another sound or another chosen class; leave it "
                    "out or choose one of its descendants."
                )
        return clips

    def aliases(self) -> dict[str, list[str]]:
        """Return the words that name one of the chosen classes alone.

        They are the parts of its name, which AudioSet's ontology separates by commas (``Burping_and_eructation``), and
        the names of its parents (``Dog`` for ``Bark``).
        """
        ancestors = _ancestors(set(row["labels"].split(",")) for rows in self._tables().values() for row in rows)
        words, named = {}, Counter[str]()
        for label in self.chosen:
            above = ancestors.get(label, set())
            parents = sorted(above.difference(*(ancestors[other] for other in above)))
            words[label] = list(dict.fromkeys(part for name in (label, *parents) for part in name.split("_and_")))
            # a parent of one class may be a more distant ancestor of another
            named.update({part.casefold() for name in (label, *above) for part in (name, *name.split("_and_"))})
        return {
            label: [word for word in of_label if word != label and named[word.casefold()] == 1]
            for label, of_label in words.items()
        }

    def _tables(self) -> dict[str, list[dict[str, str]]]:
        """Return the rows of both tables, ``dev`` and ``eval``."""
        tables = self.root / "FSD50K.ground_truth"
        columns = {"dev": ("fname", "labels", "split"), "eval": ("fname", "labels")}
        parts = {
            part: read_csv(tables / f"{part}.csv", names, _REMEDY, filled=names, key="fname", final_newline=False)
            for part, names in columns.items()
        }
        for row in (row for rows in parts.values() for row in rows):
            row["labels"] = normalized_name(row["labels"])
            if row["labels"].count(",") >= _MOST_LABELS:  # their pairs are counted
                raise InputError(f"{tables}: {row['fname']} has more than {_MOST_LABELS} labels. {_REMEDY}")
        return parts

    def _check(self, ancestors: Mapping[str, set[str]]) -> None:
        """Reject chosen classes that are unknown or overlap."""
        check_known("FSD50K classes", self.chosen, ancestors, f"is not in {self.root / 'FSD50K.ground_truth'}")
        for label in self.chosen:
            above = sorted(ancestors[label].intersection(self.chosen))
            if above:
                raise InputError(
                    f"FSD50K classes: {above[0]!r} is an ancestor of {label!r}, so that one clip would have both; "
                    "choose one of the two."
                )


def _ancestors(labels_of: Iterable[set[str]]) -> dict[str, set[str]]:
    """Return for every label its ancestors, from the labels of all clips."""
    together: dict[str, Counter[str]] = {}
    for labels in labels_of:
        for label in labels:
            together.setdefault(label, Counter()).update(labels)
    return {
        label: {other for other, number in counts.items() if together[other][other] > number == counts[label]}
        for label, counts in together.items()
    }


def _leaves(labels: set[str], ancestors: Mapping[str, set[str]]) -> list[str]:
    return [label for label in labels if not any(label in ancestors[other] for other in labels)]
