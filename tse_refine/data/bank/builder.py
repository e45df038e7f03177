"""Opens the clip bank of a corpus and builds it when missing: in parallel, in bounded memory, resumable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from tqdm import tqdm

from tse_refine.data.audio.folders import described
from tse_refine.data.bank.clip_bank import (
    HOPS,
    REJECTED,
    SAMPLES,
    TABLE,
    BankEntry,
    BankIdentity,
    ClipBank,
    combined,
    read_identity,
    recording_digest,
    recording_digests,
    write_table,
)
from tse_refine.data.bank.decoding import DecodedClip, UnusableRecordingError, decode
from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.errors import InputError, listed
from tse_refine.files.digests import MISSING, FileDigests
from tse_refine.files.tables import write_csv

_JOURNAL = "journal.jsonl"
CLIPS_PER_COMMIT = 64  # the most clips that a killed build loses


def open_clip_bank(corpus: Corpus, sample_rate: int, cache_dir: Path, skip_unusable: bool, option: str) -> ClipBank:
    """Open the bank of a corpus, decoding its recordings first when the bank is missing.

    The bank's folder is named after the clips' digests and the sample rate, so that a changed recording makes another
    bank. It is built under another name and renamed when it is complete; a killed build continues where it stopped; of
    two processes that need the same bank one builds it and the other waits.

    Args:
        corpus: the recordings.
        sample_rate: sample rate of the bank, Hz.
        cache_dir: folder of all banks.
        skip_unusable: leave out recordings that are missing, unreadable, empty or silent, and list them in
            ``rejected.csv`` in the bank's folder, instead of rejecting the corpus.
        option: name of the corpus's option, for messages.

    Raises:
        InputError: recordings cannot be used and may not be skipped, or none is left; the bank on disk differs from its
            name; or there is no space for it.
    """
    clips = corpus.clips()
    digests = corpus.digests(clips, cache_dir)
    missing = [clip.name for clip, digest in zip(clips, digests, strict=True) if digest == MISSING]
    if missing and (not skip_unusable or len(missing) == len(clips)):
        raise InputError(_missing_text(corpus, missing, len(clips), option))
    names = [clip.name for clip in clips]
    identity = BankIdentity(sample_rate, list(zip(names, digests, strict=True)))
    key = hashlib.blake2b(json.dumps(asdict(identity)).encode(), digest_size=10).hexdigest()
    folder = Path(cache_dir) / f"bank-{key}"
    if not (folder / TABLE).exists():
        _build_once(corpus, clips, identity, folder)
    differences = identity.differences(read_identity(folder))
    if differences:
        raise InputError(
            f"data.cache_dir: {folder} is not the bank of {option} that its name identifies: {'; '.join(differences)}. "
            "Remove that folder, or give another --data.cache_dir; the bank will be built again."
        )
    bank = ClipBank(folder)
    bank.check_contents(FileDigests(cache_dir))  # read where the files have changed since the last time
    if bank.rejected and (not skip_unusable or not len(bank)):
        reasons = listed([f"  {name}: {reason}" for name, reason in bank.rejected.items()], "\n")
        raise InputError(
            f"{option}: {len(bank.rejected)} of {len(clips)} recordings cannot be used:\n{reasons}\n"
            f"Repair or replace them, or leave them out with --data.skip_unusable true "
            f"(all are listed in {folder / REJECTED})."
        )
    return bank


def _missing_text(corpus: Corpus, missing: Sequence[str], num_clips: int, option: str) -> str:
    remedy = "Add them, or leave them out with --data.skip_unusable true."
    if corpus.archives():
        remedy = f"`tse-refine prepare` with the same options downloads what is published. {remedy}"
    return (
        f"{option}: {len(missing)} of {num_clips} recordings are missing or cannot be opened: "
        f"{listed(missing)}. {remedy}"
    )


def _build_once(corpus: Corpus, clips: Sequence[Clip], identity: BankIdentity, folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}.part")
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not (folder / TABLE).exists():  # else another process has built it
                _report_similar(identity, folder)
                if left_out := corpus.unlisted():
                    print(described(left_out), file=sys.stderr)
                _build(corpus, clips, identity, partial)
                shutil.rmtree(folder, ignore_errors=True)  # without its table it is an incompletely removed bank
                os.rename(partial, folder)
                (folder / _JOURNAL).unlink()
            shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # Windows keeps it while another process waits for it, which then finds the bank
            lock.unlink()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "there is no space left" if full else "the clip bank cannot be written"
        raise InputError(
            f"data.cache_dir: {what} ({error}). A bank takes 115 MB per hour of recordings at 16 kHz. Free space or "
            "give another --data.cache_dir, and run the command again: the build continues where it stopped."
        ) from error


def _report_similar(identity: BankIdentity, folder: Path) -> None:
    """Report on stderr why a bank of mostly the same recordings cannot be used."""
    names = {name for name, _ in identity.recordings}
    for other in sorted(folder.parent.glob(f"bank-*/{TABLE}")):
        with suppress(InputError, OSError):  # only a remark: that bank is not used
            existing = read_identity(other.parent)
            if len(names & {name for name, _ in existing.recordings}) > len(names) / 2:
                differences = "; ".join(identity.differences(existing))
                print(f"{other.parent} cannot be used: {differences}. Building another bank.", file=sys.stderr)


class _PartialBank:
    """The recordings that a build has committed: its journal lists them, one line per recording.

    What an interrupted build has written after its last commit is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.entries: list[BankEntry] = []
        self.rejected: dict[str, str] = {}
        self.digests: list[str] = []
        self.num_samples = self.num_hops = 0
        (folder / _JOURNAL).touch()
        journal = (folder / _JOURNAL).read_bytes()
        complete = journal[: journal.rfind(b"\n") + 1]
        try:
            for line in complete.splitlines():
                self.add(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"data.cache_dir: {folder} is damaged: {_JOURNAL} cannot be read. Remove that folder; the bank will be "
                "built again."
            ) from error
        for name, size in ((_JOURNAL, len(complete)), (SAMPLES, 2 * self.num_samples), (HOPS, 4 * self.num_hops)):
            with open(folder / name, "ab") as file:
                file.truncate(size)

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


def _build(corpus: Corpus, clips: Sequence[Clip], identity: BankIdentity, folder: Path) -> None:
    done = _PartialBank(folder)
    decoded = tqdm(
        _in_order(corpus, clips[len(done) :], identity),
        initial=len(done),
        total=len(clips),
        desc="clip bank",
        unit="clip",
        disable=None,  # shown on a terminal only
    )
    lines: list[dict[str, Any]] = []
    with (
        open(folder / SAMPLES, "ab") as samples,
        open(folder / HOPS, "ab") as hops,
        open(folder / _JOURNAL, "a", encoding="utf-8") as journal,
    ):
        for clip, result in zip(clips[len(done) :], decoded, strict=True):
            if isinstance(result, UnusableRecordingError):
                lines.append({"name": clip.name, "rejected": str(result)})
            else:
                samples.write(result.samples.data)
                hops.write(result.hops.tobytes())
                lines.append(_line(clip, result))
            if len(lines) == CLIPS_PER_COMMIT:
                _commit(lines, done, (samples, hops), journal)
        _commit(lines, done, (samples, hops), journal)
    if done.rejected:
        rows = [{"recording": name, "reason": reason} for name, reason in done.rejected.items()]
        write_csv(folder / REJECTED, ("recording", "reason"), rows)
    _check_stored(folder, done)
    entries = [asdict(entry) for entry in done.entries]
    table = {**asdict(identity), "digest": combined(done.digests), "rejected": done.rejected, "entries": entries}
    write_table(folder, table)


def _check_stored(folder: Path, done: _PartialBank) -> None:
    """Read what was written, perhaps before an interruption, and compare it with what was decoded."""
    for entry, decoded, stored in zip(done.entries, done.digests, recording_digests(folder, done.entries), strict=True):
        if stored != decoded:
            raise InputError(
                f"data.cache_dir: {folder} is damaged: what was stored of {entry.name} is not what was decoded. Check "
                "the disk, remove that folder and run the command again."
            )


def _line(clip: Clip, decoded: DecodedClip) -> dict[str, Any]:
    return {
        "name": clip.name,
        "length": len(decoded.samples),
        "scale": decoded.scale,
        "hops": decoded.hops.shape[1],
        "loudest_lufs": decoded.loudest_lufs,
        "digest": recording_digest(clip.name, decoded.hops.tobytes(), decoded.samples.data),
    }


def _commit(lines: list[dict[str, Any]], done: _PartialBank, data: Sequence[IO[bytes]], journal: IO[str]) -> None:
    """Write the journal after the data that it lists are on disk."""
    for file in data:
        _sync(file)
    journal.writelines(json.dumps(line) + "\n" for line in lines)
    _sync(journal)
    for line in lines:
        done.add(line)
    lines.clear()


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _in_order(
    corpus: Corpus, clips: Sequence[Clip], identity: BankIdentity
) -> Iterator[DecodedClip | UnusableRecordingError]:
    """Decode in threads and yield in order, with only a few recordings in memory."""
    missing = {name for name, digest in identity.recordings if digest == MISSING}

    def try_decode(clip: Clip) -> DecodedClip | UnusableRecordingError:
        if clip.name in missing:
            return UnusableRecordingError("is missing or cannot be opened")
        try:
            return decode(corpus, clip, identity.sample_rate)
        except UnusableRecordingError as error:
            return error
        except OSError as error:  # perhaps temporary, and not a property of the recording: not stored
            raise InputError(
                f"{clip.name} cannot be read now ({error}). Run the command again: the build continues where it "
                "stopped."
            ) from error

    remaining = iter(clips)
    num_threads = os.cpu_count() or 1
    with ThreadPoolExecutor(num_threads) as pool:  # decoding, filters, resampling release the lock
        pending = [pool.submit(try_decode, clip) for clip in islice(remaining, num_threads + 1)]
        while pending:
            yield pending.pop(0).result()
            pending += [pool.submit(try_decode, clip) for clip in islice(remaining, 1)]
