"""Prepares the recordings that training needs and reports them."""

from __future__ import annotations

from tse_refine.data.bank.clip_bank import REJECTED
from tse_refine.data.corpora.base import SPLITS
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.files.tables import Table


def prepare(data: MixtureDataModule) -> str:
    """Decode all recordings when necessary and return a table of them.

    Args:
        data: data with complete corpora (see :func:`tse_refine.data.corpora.acquisition.download_missing`).

    Returns:
        Several lines: clips, hours, classes and rejected recordings per role and split, and the banks' folders.

    Raises:
        InputError: recordings cannot be used and may not be skipped, or a split lacks a class.
    """
    data.prepare_data()
    head = ("role", "split", "clips", "hours", "classes", "rejected")
    rows = []
    notes = []
    for option, clips in data.clips.items():
        bank = data.banks[option]
        role = option.removeprefix("data.")
        for split in SPLITS:
            members = [clip for clip in clips if clip.split == split]
            usable = [clip for clip in members if clip.name in bank]
            samples = sum(bank.entry(bank.position(clip.name)).length for clip in usable)
            counts = (len(usable), samples / data.sample_rate / 3600, len({clip.label for clip in usable}))
            rows.append(
                (role, split, f"{counts[0]}", f"{counts[1]:.2f}", f"{counts[2]}", f"{len(members) - len(usable)}")
            )
        size = sum(path.stat().st_size for path in bank.folder.iterdir())
        notes.append(f"{role}: {bank.folder} ({size / 2**30:.2f} GiB, {data.sample_rate} Hz)")
        if bank.rejected:
            notes.append(f"{role}: the rejected recordings and the reasons are in {bank.folder / REJECTED}")
        unlisted = data.corpora[option].unlisted()
        if unlisted:
            notes.append(f"{role}: {len(unlisted)} other files beside them are not used, such as {unlisted[0]}")
    for split in data.splits:
        data.make_recipes(split)  # rejects a split that lacks all clips of a class now, not in the training
    return "\n".join([Table(head, rows, num_left=2).text(), *notes, f"data digest: {data.digest}"])
