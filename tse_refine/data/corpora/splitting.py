"""Splits for corpora that are published without them: by published folds, or drawn by recording."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tse_refine.errors import InputError
from tse_refine.files.documents import shown


class Folds:
    """Published folds, each the whole of one split or not used.

    Args:
        corpus: name of the corpus, for messages.
        train: folds whose clips are the training split.
        val: folds whose clips are the validation split.
        test: folds whose clips are the test split.

    Attributes:
        split_of: split of each fold that is used.

    Raises:
        InputError: a fold is in two splits.
    """

    def __init__(self, corpus: str, train: Sequence[int], val: Sequence[int], test: Sequence[int]) -> None:
        self.corpus = corpus
        self.split_of: dict[int, str] = {}
        for split, folds in (("train", train), ("val", val), ("test", test)):
            for fold in folds:
                if fold in self.split_of:
                    raise InputError(
                        f"{corpus} {split}_folds: fold {fold} is in {self.split_of[fold]}_folds too; "
                        "a fold belongs to one split."
                    )
                self.split_of[fold] = split

    def read(self, rows: Collection[Mapping[str, str]], table: Path, key: str) -> list[int]:
        """Return the fold of each row of a table.

        Args:
            rows: rows with the column ``fold``.
            table: path of the table.
            key: column that names a row.

        Raises:
            InputError: a fold is not a whole number, or one that is to be used has no row.
        """
        folds = []
        for row in rows:
            if not re.fullmatch("[0-9]{1,9}", row["fold"]):  # isdigit() is true for what int() rejects
                raise InputError(
                    f"{table}: the fold of {row[key]} is {shown(row['fold'])}; a whole number is expected. "
                    "Use the table as it is published."
                )
            folds.append(int(row["fold"]))
        for fold, split in self.split_of.items():
            if fold not in folds:
                raise InputError(
                    f"{self.corpus} {split}_folds: fold {fold} has no clip in {table}, which has the folds "
                    f"{', '.join(str(number) for number in sorted(set(folds)))}; choose among those."
                )
        return folds


def assign_splits(
    recordings: Sequence[str], strata: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Assign each source recording to one split, with every stratum in every split.

    Within each stratum the recordings are ordered by the BLAKE2b digest of seed and recording. From the front, each
    split in ``fractions`` in turn takes recordings until it has its fraction of the stratum's clips, at least one
    recording, and leaves one for each later split; the rest is ``train``. A recording in several strata is assigned in
    the alphabetically first of them and counts only there. The result depends neither on the order of the clips nor on
    the machine.

    Args:
        recordings: source recording of each clip.
        strata: label or scene of each clip; every split has all of them.
        fractions: share of the clips for each split but ``train``, in (0, 1); together less than 1.
        seed: seed of the assignment.

    Returns:
        The split of each recording.

    Raises:
        InputError: a fraction is out of range, or a stratum has too few recordings.

    >>> assign_splits(["a", "b", "c", "d"], ["dog"] * 4, {"val": 0.25, "test": 0.25}, seed=0)
    {'c': 'val', 'a': 'test', 'b': 'train', 'd': 'train'}
    """
    for split, fraction in fractions.items():
        if not 0.0 < fraction < 1.0:
            raise InputError(f"{split}_fraction is {fraction:g}; a number between 0 and 1 is expected, both excluded.")
    if sum(fractions.values()) >= 1.0:
        names = " + ".join(f"{split}_fraction" for split in fractions)
        raise InputError(
            f"{names} is {sum(fractions.values()):g}; less than 1 is expected, or no clip is left for training."
        )
    home: dict[str, str] = {}
    for recording, stratum in zip(recordings, strata, strict=True):
        home[recording] = min(stratum, home.get(recording, stratum))
    num_clips: dict[str, Counter[str]] = {stratum: Counter() for stratum in sorted(set(strata))}
    for recording, stratum in zip(recordings, strata, strict=True):
        if home[recording] == stratum:
            num_clips[stratum][recording] += 1
    split_of: dict[str, str] = {}
    for stratum, counts in num_clips.items():
        if len(counts) <= len(fractions):
            raise InputError(
                f"{stratum!r} has {len(counts)} source recordings of its own; one for each of "
                f"{', '.join([*fractions, 'train'])} is needed. Add recordings or leave it out."
            )
        split_of |= _assign(counts, fractions, seed)
    return split_of


def _assign(num_clips: Counter[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Assign the recordings of one stratum, each with its number of clips."""
    order = sorted(num_clips, key=lambda recording: hashlib.blake2b(f"{seed} {recording}".encode()).digest())
    total = num_clips.total()
    split_of: dict[str, str] = {}
    for place, (split, fraction) in enumerate(fractions.items()):
        reserved = len(fractions) - place  # one per later split and one for train
        share = fraction * total - 1e-9  # 0.07 * 100 is a little more than 7
        taken = 0
        while taken == 0 or (taken < share and len(order) - len(split_of) > reserved):
            recording = order[len(split_of)]
            split_of[recording] = split
            taken += num_clips[recording]
    return split_of | dict.fromkeys(order[len(split_of) :], "train")
