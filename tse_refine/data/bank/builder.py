"""Opens the clip bank of a corpus, and builds it where there is none: in parallel, in bounded memory, resumable."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from filelock import FileLock
from tqdm import tqdm

from tse_refine.data.bank.clip_bank import (
    HOPS,
    REJECTED,
    SAMPLES,
    TABLE,
    BankEntry,
    BankIdentity,
    ClipBank,
    listed,
    read_identity,
    write_table,
)
from tse_refine.data.bank.decoding import DecodedClip, UnusableRecordingError, decode
from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.errors import InputError
from tse_refine.files.digests import MISSING

_JOURNAL = "journal.jsonl"
_CLIPS_A_COMMIT = 64  # how many clips a killed build loses at most


def open_clip_bank(
    corpus: Corpus, sample_rate: int, cache_dir: Path, skip_unusable: bool, option: str, show_progress: bool = True
) -> ClipBank:
    """Open the bank of a corpus, decoding its recordings first where that has not been done.

    The bank's folder is named after the clips' fingerprints and the sample rate, so that a changed recording is never
    taken for the old one. It is built under another name and renamed when it is whole; a build that was killed goes on
    where it stopped; of two processes that want the same bank one builds it and the other waits.

    Args:
        corpus: the recordings.
        sample_rate: of the bank, Hz.
        cache_dir: folder of all banks.
        skip_unusable: leave out recordings that are missing, unreadable, empty or silent, and list them in
            ``rejected.csv`` in the bank's folder, instead of refusing them.
        option: name of the corpus's option, for messages.
        show_progress: draw a progress bar while building.

    Raises:
        InputError: recordings cannot be used and are not to be skipped, or none is left; the bank on disk is not what
            its name says; or there is no space for it.
    """
    clips = corpus.clips()
    fingerprints = corpus.fingerprints(clips, cache_dir)
    missing = [clip.name for clip, found in zip(clips, fingerprints, strict=True) if found == MISSING]
    if missing and (not skip_unusable or len(missing) == len(clips)):
        raise InputError(_missing_text(corpus, missing, len(clips), option))
    names = [clip.name for clip in clips]
    identity = BankIdentity(sample_rate, list(zip(names, fingerprints, strict=True)))
    key = hashlib.blake2b(json.dumps(asdict(identity)).encode(), digest_size=10).hexdigest()
    folder = Path(cache_dir) / f"bank-{key}"
    if not (folder / TABLE).exists():
        _build_once(corpus, clips, identity, folder, show_progress)
    differences = identity.differences(read_identity(folder))
    if differences:
        raise InputError(
            f"data.cache_dir: {folder} is not the bank of {option} that its name says: {'; '.join(differences)}. "
            "Remove that folder, or give another --data.cache_dir; the bank will be built again."
        )
    bank = ClipBank(folder)
    if bank.rejected and (not skip_unusable or not len(bank)):
        reasons = listed([f"  {name}: {reason}" for name, reason in bank.rejected.items()], "\n")
        raise InputError(
            f"{option}: {len(bank.rejected)} of {len(clips)} recordings cannot be used:\n{reasons}\n"
            f"Repair or replace them, or leave them out with --data.skip_unusable true "
            f"(all are listed in {folder / REJECTED})."
        )
    return bank


def _missing_text(corpus: Corpus, missing: Sequence[str], num_clips: int, option: str) -> str:
    remedy = "Put them there, or leave them out with --data.skip_unusable true."
    if corpus.archives():
        remedy = f"`tse-refine prepare` with the same options downloads what is published. {remedy}"
    return (
        f"{option}: {len(missing)} of {num_clips} recordings are missing or cannot be opened: "
        f"{listed(missing, ', ')}. {remedy}"
    )


def _build_once(
    corpus: Corpus, clips: Sequence[Clip], identity: BankIdentity, folder: Path, show_progress: bool
) -> None:
    partial = folder.with_name(f".{folder.name}.part")
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not (folder / TABLE).exists():  # else another process has built it meanwhile
                _explain(identity, folder)
                _build(corpus, clips, identity, partial, show_progress)
                shutil.rmtree(folder, ignore_errors=True)  # without its table it is what is left of one
                os.rename(partial, folder)
                (folder / _JOURNAL).unlink()
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)  # whoever waits holds it open, and finds the bank
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "there is no space left" if full else "the clip bank cannot be written"
        raise InputError(
            f"data.cache_dir: {what} ({error}). A bank takes 115 MB an hour of recordings at 16 kHz. Make room or give "
            "another --data.cache_dir, and run the command again: the build goes on where it stopped."
        ) from error


def _explain(identity: BankIdentity, folder: Path) -> None:
    """Say to stderr why a bank beside the new one, made of mostly the same recordings, does not serve."""
    names = {name for name, _ in identity.recordings}
    for other in sorted(folder.parent.glob(f"bank-*/{TABLE}")):
        try:
            found = read_identity(other.parent)
        except (InputError, OSError):
            continue  # a remark only: nobody asked for that bank
        if len(names & {name for name, _ in found.recordings}) > len(names) / 2:
            differences = "; ".join(identity.differences(found))
            print(f"{other.parent} does not serve: {differences}. Building another bank.", file=sys.stderr)


@dataclass
class _PartialBank:
    """What a build has written so far: the files' ends, and a line in the journal for each recording."""

    entries: list[BankEntry] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    num_samples: int = 0
    num_hops: int = 0

    def __len__(self) -> int:
        return len(self.entries) + len(self.rejected)

    def add(self, line: dict[str, Any]) -> None:
        if "rejected" in line:
            self.rejected[line["name"]] = line["rejected"]
            return
        self.digests.append(line.pop("digest"))
        entry = BankEntry(offset=self.num_samples, hop_offset=self.num_hops, **line)
        self.entries.append(entry)
        self.num_samples += entry.length
        self.num_hops += 2 * entry.hops


def _build(corpus: Corpus, clips: Sequence[Clip], identity: BankIdentity, folder: Path, show_progress: bool) -> None:
    done = _resume(folder)
    decoded = tqdm(
        _in_order(corpus, clips[len(done) :], identity),
        initial=len(done),
        total=len(clips),
        desc="clip bank",
        unit="clip",
        disable=None if show_progress else True,  # None: only where a person looks on
    )
    lines: list[dict[str, Any]] = []
    with (
        open(folder / SAMPLES, "ab") as samples,
        open(folder / HOPS, "ab") as hops,
        open(folder / _JOURNAL, "a", encoding="utf-8") as journal,
    ):
        for clip, one in zip(clips[len(done) :], decoded, strict=True):
            if isinstance(one, UnusableRecordingError):
                lines.append({"name": clip.name, "rejected": str(one)})
            else:
                samples.write(one.samples.data)
                hops.write(one.hops.tobytes())
                lines.append(_line(clip, one))
            if len(lines) == _CLIPS_A_COMMIT:
                _commit(lines, done, (samples, hops), journal)
        _commit(lines, done, (samples, hops), journal)
    if done.rejected:
        with open(folder / REJECTED, "w", newline="", encoding="utf-8") as listing:
            csv.writer(listing).writerows([("recording", "reason"), *done.rejected.items()])
    digest = hashlib.blake2b("".join(done.digests).encode(), digest_size=16).hexdigest()
    write_table(folder, identity, digest, done.rejected, done.entries)


def _line(clip: Clip, one: DecodedClip) -> dict[str, Any]:
    digest = hashlib.blake2b(clip.name.encode() + one.hops.tobytes(), digest_size=16)
    digest.update(one.samples.data)
    return {
        "name": clip.name,
        "length": len(one.samples),
        "scale": one.scale,
        "hops": one.hops.shape[1],
        "loudest_lufs": one.loudest_lufs,
        "digest": digest.hexdigest(),
    }


def _commit(lines: list[dict[str, Any]], done: _PartialBank, data: Sequence[BinaryIO], journal: TextIO) -> None:
    """Make sure that the data are on disk before the journal says so."""
    for file in (*data, journal):
        if file is journal:
            journal.writelines(json.dumps(line) + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    for line in lines:
        done.add(line)
    lines.clear()


def _resume(folder: Path) -> _PartialBank:
    """Read what an interrupted build has finished, and cut off what it had begun."""
    done = _PartialBank()
    journal = folder / _JOURNAL
    if journal.exists():
        whole = [line for line in journal.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        for line in whole:
            done.add(json.loads(line))
        os.truncate(journal, len("".join(whole).encode()))
    for name, size in ((SAMPLES, 2 * done.num_samples), (HOPS, 4 * done.num_hops)):
        with open(folder / name, "ab") as file:
            file.truncate(size)
    return done


def _in_order(
    corpus: Corpus, clips: Sequence[Clip], identity: BankIdentity
) -> Iterator[DecodedClip | UnusableRecordingError]:
    """Decode in threads, yield in order, and never hold more than a few recordings."""
    missing = {name for name, fingerprint in identity.recordings if fingerprint == MISSING}

    def try_decode(clip: Clip) -> DecodedClip | UnusableRecordingError:
        if clip.name in missing:
            return UnusableRecordingError("is missing or cannot be opened")
        try:
            return decode(corpus, clip, identity.sample_rate)
        except UnusableRecordingError as error:
            return error
        except OSError as error:  # not the recording's fault, and perhaps not for long: nothing to remember
            raise InputError(
                f"{clip.name} cannot be read now ({error}). Run the command again: the bank goes on where it stopped."
            ) from error

    remaining = iter(clips)
    num_threads = os.cpu_count() or 1
    with ThreadPoolExecutor(num_threads) as pool:  # decoding, filters, resampling release the lock
        pending = [pool.submit(try_decode, clip) for clip in islice(remaining, num_threads + 1)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(try_decode, clip) for clip in islice(remaining, 1)]
