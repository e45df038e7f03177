"""Commands on the data alone: ``prepare``, ``preview`` and ``recipes``, with the same stacked configs as ``fit``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tse_refine.cli.options import CommandParser
from tse_refine.errors import InputError

if TYPE_CHECKING:
    from tse_refine.data.corpora.acquisition import Download
    from tse_refine.data.datamodule import MixtureDataModule

LARGE = 10**9  # bytes that are not downloaded without a yes
SPLITS = ("train", "val", "test")  # the data's own tuple would make the help import NumPy


def prepare(words: list[str]) -> None:
    """Download missing recordings, verify them, and decode all into clip banks."""
    parser = _parser(prepare, needed="")
    parser.add_argument("--verify", action="store_true", help="read the banks whole and compare with their digests")
    parser.add_argument("--yes", action="store_true", help="download more than 1 GB without a question")
    own, options = parser.parse_known_args(words)
    from tse_refine.cli.trainer_options import read_options
    from tse_refine.data.corpora.acquisition import planned_downloads
    from tse_refine.evaluation.run_config import build_corpora, build_data

    config = read_options(options)
    announce(planned_downloads(build_corpora(config)), own.yes)
    print(prepared(build_data(config, download=True), own.verify))


def preview(words: list[str]) -> None:
    """Write one mixture as sound, numbers and a picture."""
    parser = _parser(preview)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--index", type=int, default=0, metavar="N", help="number of the mixture, from 0")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="epoch of a training set that is redrawn")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier preview")
    own, options = parser.parse_known_args(words)
    from tse_refine.analysis.preview import write_preview
    from tse_refine.cli.trainer_options import read_data

    data = read_data(options)
    for path in write_preview(data, own.split, own.index, own.output, own.epoch, own.overwrite):
        print(path)


def recipes(words: list[str]) -> None:
    """Write the mixtures of a split as Scaper's recipes (JAMS), in the layout of FSDSoundScapes."""
    parser = _parser(recipes)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder above jams/SPLIT/...")
    own, options = parser.parse_known_args(words)
    from tse_refine.cli.trainer_options import read_data

    print(read_data(options).export_scenes(own.split, own.output))


def announce(downloads: Sequence[Download], agreed: bool) -> None:
    """Print what will be downloaded, and ask where that is more than 1 GB, or of unknown size.

    Args:
        downloads: what is missing.
        agreed: do not ask.

    Raises:
        InputError: the answer is not yes, or nobody can answer.
    """
    if not downloads:
        return
    from tse_refine.data.corpora.acquisition import gigabytes

    sizes = [download.num_bytes for download in downloads]
    num_bytes = sum(size or 0 for size in sizes)
    asks = (None in sizes or num_bytes > LARGE) and not agreed
    total = f"at least {gigabytes(num_bytes)}" if None in sizes else f"up to {gigabytes(num_bytes)}"
    if asks and not sys.stdin.isatty():
        raise InputError(
            f"{total} would be downloaded: {'; '.join(map(str, downloads))}. More than 1 GB, or an unknown size, needs "
            "a yes: add --yes to the command. Nothing was downloaded."
        )
    print(f"To download, {total}:", *downloads, sep="\n  ", flush=True)
    if asks and _answer("Download this? [y/N] ") not in ("y", "yes"):
        raise InputError("Nothing was downloaded, since the answer was not yes. --yes downloads without a question.")


def _answer(question: str) -> str:
    try:
        return input(question).strip().lower()
    except EOFError:
        return ""


def prepared(data: MixtureDataModule, verify: bool = False) -> str:
    """Decode all recordings where necessary and return a table of them.

    Args:
        data: data module whose corpora are complete.
        verify: read the banks whole and compare them with what was built, which takes a second per gigabyte.

    Returns:
        Several lines: clips, hours, classes and rejected recordings per role and split, and the folders of the banks.

    Raises:
        InputError: recordings cannot be used and are not to be skipped, a bank is damaged, or a split lacks a class.
    """
    from tse_refine.data.audio.folders import described
    from tse_refine.data.bank.clip_bank import REJECTED
    from tse_refine.files.tables import Table

    data.prepare_data()
    head = ("role", "split", "clips", "hours", "classes", "rejected")
    rows = []
    notes = []
    for option, clips in data.clips.items():
        bank = data.banks[option]
        if verify:
            bank.verify()
        role = option.removeprefix("data.")
        for split in SPLITS:
            members = [clip for clip in clips if clip.split == split]
            usable = [clip for clip in members if clip.name in bank]
            hours = sum(bank.entry(bank.position(clip.name)).length for clip in usable) / data.sample_rate / 3600
            classes = len({clip.label for clip in usable})
            numbers = (f"{len(usable)}", f"{hours:.2f}", f"{classes}", f"{len(members) - len(usable)}")
            rows.append((role, split, *numbers))
        size = sum(path.stat().st_size for path in bank.folder.iterdir())
        notes.append(f"{role}: {bank.folder} ({size / 2**30:.2f} GiB, {data.sample_rate} Hz{', verified' * verify})")
        if bank.rejected:
            notes.append(f"{role}: the rejected recordings and why are in {bank.folder / REJECTED}")
        unlisted = data.corpora[option].unlisted()
        if unlisted:
            notes.append(f"{role}: {described(unlisted)}")
    for split in data.splits:
        data.make_recipes(split)  # rejects a split that lacks all clips of a class now, not in the training
    return "\n".join([Table(head, rows, num_left=2).text(), *notes, f"data digest: {data.digest}"])


def _parser(command: Callable[[list[str]], None], needed: str = "--output DIR ") -> CommandParser:
    epilog = "Besides these, all options of `tse-refine fit`, such as -c data/esc50 or --data.seed 1; only those of "
    parser = CommandParser(command.__name__, command.__doc__, epilog + "`data` matter here.")
    # -c is read by the parser of `fit`, to which all words go that are not known here
    parser.usage = f"%(prog)s [-h] -c CONFIG [-c CONFIG ...] {needed}[OPTIONS]"
    return parser
