"""Unpacks zip archives, whole or in volumes, and compressed tar archives; an interruption leaves no incomplete file."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, NoReturn

from tqdm import tqdm

from tse_refine.data.download.archives import Contents
from tse_refine.errors import InputError

END_RECORD = struct.Struct("<4s4H2LH")  # "end of central directory" (APPNOTE.TXT 4.3.16)
BLOCK = 1 << 20  # bytes read at once
MOST_NAME_BYTES = 255  # of a part of a path, on all common file systems
# a bomb, some kilobytes that fill the disk; audio hardly compresses, and tables take less than a gigabyte
LARGEST_RATIO, LEAST_BOMB_BYTES = 100, 1 << 30
_AGAIN = "Run the command again to download it anew; if this repeats, what is published has changed."


def unpack(volumes: Sequence[Path], target: Path, root: str = "") -> None:
    """Unpack the members of an archive that a folder lacks; an interrupted call may be repeated.

    A member gets its own name only when it is whole and, in a zip archive, its CRC is right. An existing file with the
    size and the CRC of its member in a zip archive is kept; those of a tar archive, which has no CRC, are replaced.

    Args:
        volumes: the archive, ``.zip`` or ``.tar.gz``, or the volumes of a split zip archive in order: ``.z01``,
            ``.z02``, ..., and the ``.zip`` last.
        target: folder to unpack into; created when missing.
        root: folder, with a final slash, of which alone members are unpacked, and that is left out of their paths.

    Raises:
        InputError: the archive is damaged or incomplete; a member would be written outside ``target``, is not a file or
            folder, has a name that is too long or that another member has too, or the members are far larger than the
            archive (nothing is written then); or the free space is too small.
    """
    path = volumes[-1]
    try:
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path, "r:gz") as tar:
                _extract_tar(tar, root, Path(target), path)
        else:
            raw = _Volumes(volumes)
            with io.BufferedReader(raw, BLOCK) as joined, _open_zip(joined, raw.starts) as archive:
                _reject_unsafe(archive.infolist(), raw.starts[-1], path)
                _extract_missing(archive, root, Path(target), path.name)
    except InputError:
        raise
    except (tarfile.TarError, gzip.BadGzipFile) as error:  # the second is an OSError
        raise InputError(f"{path}: cannot be unpacked ({error}); download it again") from error
    except OSError as error:
        place = f" at {error.filename}" if error.filename else ""
        reason = f"{error.strerror or error}{place}"
        raise InputError(
            f"{path}: cannot be unpacked into {target} ({reason}); a folder with enough room is expected, in which you "
            "may write. Repeat the command then"
        ) from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        # zipfile raises RuntimeError for encryption and NotImplementedError, a RuntimeError, for unknown compression
        join = f", or join its volumes by hand (zip -s 0 {path.name} --out joined.zip) and unpack them into {target}"
        hint = join if len(volumes) > 1 else ""
        raise InputError(f"{path}: cannot be unpacked ({error}); download it again{hint}") from error


def verify(path: Path, contents: Contents, root: str = "") -> None:
    """Reject an archive that has no checksum itself where its contents are not those that are published.

    Args:
        path: the archive, in one file.
        contents: what is published of it.
        root: folder, with a final slash, that its members are in, and that the paths in ``contents`` do not have.

    Raises:
        InputError: it is not a zip archive or a member is damaged, or something differs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
            checks: list[tuple[str, str | None, str | None]] = [
                ("comment", archive.comment.decode(errors="replace"), contents.comment),
                ("damaged file", archive.testzip(), None),  # reads every member and compares its CRC
            ]
            for name, md5 in contents.md5:
                found = hashlib.md5(archive.read(root + name)).hexdigest() if root + name in names else None
                checks.append((f"MD5 checksum of {name}", found, md5))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: is not a whole zip archive ({error}). {_AGAIN}") from error
    for folder, number in contents.num_files:
        num_files = sum(name.startswith(root + folder) for name in names)
        checks.append((f"number of files in {folder}", str(num_files), str(number)))
    for what, value, expected in checks:
        if value != expected:
            raise InputError(f"{path}: its {what} is {value or 'missing'}; {expected or 'none'} is expected. {_AGAIN}")


def require_space(folder: Path, num_bytes: int, purpose: str) -> None:
    """Raise an ``InputError`` when the file system of an existing folder has less than ``num_bytes`` free."""
    free = shutil.disk_usage(folder).free
    if num_bytes > free:
        raise InputError(
            f"{folder}: {num_bytes / 2**30:.1f} GiB are needed to {purpose}, but only {free / 2**30:.1f} GiB are free; "
            "free some space or give a folder on another disk"
        )


class _Volumes(io.RawIOBase):
    """Volumes of a split archive, end to end, as one read-only file."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.starts = [0, *accumulate(path.stat().st_size for path in paths)]  # the last one is the end
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.starts[-1]}[whence]
        if position < 0:
            raise OSError("cannot seek before the start")  # as a file does: zipfile relies on it
        self.position = position
        return position

    def readinto(self, buffer: Any) -> int:  # any writable buffer
        if self.position >= self.starts[-1]:
            return 0
        index = bisect_right(self.starts, self.position) - 1
        with self.paths[index].open("rb") as volume:
            volume.seek(self.position - self.starts[index])
            num_bytes = volume.readinto(buffer)  # stops at the volume's end; the next call continues in the next one
        self.position += num_bytes
        return num_bytes


def _open_zip(joined: IO[bytes], starts: Sequence[int]) -> zipfile.ZipFile:
    """Open the joined volumes with offsets that count from the start of the first volume.

    In a split archive an offset counts from the start of its volume. ``zipfile`` does not support volumes: it finds the
    central directory from the end of the file and adds the difference between its position and its recorded offset to
    the offset of every member, as if that many bytes were prepended to the archive.
    """
    archive = zipfile.ZipFile(joined)
    joined.seek(max(0, starts[-1] - END_RECORD.size - len(archive.comment)))
    signature, last_volume, _, _, _, _, directory_offset, _ = END_RECORD.unpack(joined.read(END_RECORD.size))
    if signature != b"PK\5\6":
        raise zipfile.BadZipFile("there are bytes after its end record")
    if last_volume != len(starts) - 2:
        raise zipfile.BadZipFile(f"{len(starts) - 1} volumes given, {last_volume + 1} expected")
    added = archive.start_dir - directory_offset
    for member in archive.infolist():
        if member.volume > last_volume:
            raise zipfile.BadZipFile(f"{member.filename} starts in volume {member.volume + 1}")
        if last_volume > 0:
            member.header_offset += starts[member.volume] - added
            if hasattr(member, "_end_offset"):  # newer Pythons check for overlaps with the recorded offsets
                member._end_offset = None
        if member.header_offset < 0:
            raise zipfile.BadZipFile(f"{member.filename} starts before the archive")
    return archive


def _reject_unsafe(members: Sequence[zipfile.ZipInfo], num_bytes: int, path: Path) -> None:
    """Reject an archive of ``num_bytes`` that must not be unpacked, with one sentence on the first reason found."""
    names: dict[str, tuple[str, bool]] = {}  # by how a disk that ignores case sees it: the name, and if it is a folder
    for member in members:
        reason = _unsafe(member) or _clash(member, names)
        if reason:
            raise InputError(
                f"{path}: rejected, nothing was unpacked: the member {member.filename[:MOST_NAME_BYTES]!r} {reason}. "
                "Download the archive from its publisher"
            )
    total = sum(member.file_size for member in members)
    if total > max(LEAST_BOMB_BYTES, LARGEST_RATIO * num_bytes):
        raise InputError(
            f"{path}: rejected, nothing was unpacked: its {num_bytes} bytes would become {total / 2**30:.1f} GiB, more "
            f"than {LARGEST_RATIO} times as many, which no recordings do. Download the archive from its publisher"
        )


def _unsafe(member: zipfile.ZipInfo) -> str:
    """Return why a member must not be written; empty where it may be."""
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device; only files and folders are expected"
    for name in {member.orig_filename, member.filename}:  # a Unicode path field can make them differ
        parts = name.removeprefix("./").removesuffix("/").split("/")
        is_whole = name == "./" or not {"", ".", ".."} & set(parts)
        if not is_whole or re.match("[A-Za-z]:", name) or "\\" in name or "\0" in name:
            return "is not a plain relative path; no path may leave the target folder"
        if any(len(os.fsencode(part)) > MOST_NAME_BYTES for part in parts):
            return f"has a name of more than {MOST_NAME_BYTES} bytes, the most that file systems allow"
    return ""


def _clash(member: zipfile.ZipInfo, names: dict[str, tuple[str, bool]]) -> str:
    """Return with which earlier member a member is one file; empty for none. ``names`` is extended."""
    parts = member.filename.removeprefix("./").removesuffix("/").split("/")
    for depth in range(1, len(parts) + 1):
        name = "/".join(parts[:depth])
        entry = (name, depth < len(parts) or member.is_dir())
        key = unicodedata.normalize("NFC", name).casefold()
        earlier = names.setdefault(key, entry)
        if earlier[1] != entry[1]:
            return f"makes {name!r} a file and a folder"
        if earlier is not entry and (earlier != entry or not entry[1]):
            return "is in it twice" if earlier == entry else f"is {earlier[0]!r} too where a disk ignores case"
    return ""


def _extract_missing(archive: zipfile.ZipFile, root: str, target: Path, name: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    missing = {}
    for path, member in _placed(archive.infolist(), root, target):
        if member.is_dir():
            path.mkdir(parents=True, exist_ok=True)
        elif not _is_unpacked(member, path):
            missing[path] = member
    with _progress(target, [member.file_size for member in missing.values()], name) as progress:
        for path, member in missing.items():
            with archive.open(member) as source:
                _write(source, member.file_size, path)
            progress.update(member.file_size)


def _extract_tar(archive: tarfile.TarFile, root: str, target: Path, path: Path) -> None:
    """Unpack a tar archive; it is decompressed twice, first for the names of its members."""
    members = {}
    for entry in archive.getmembers():
        member = zipfile.ZipInfo(entry.name + "/" * entry.isdir())  # for the same checks
        member.file_size = entry.size
        kind = stat.S_IFDIR if entry.isdir() else stat.S_IFREG if entry.isfile() else stat.S_IFLNK
        member.external_attr = kind << 16
        members[member] = entry
    while archive.fileobj and archive.fileobj.read(BLOCK):
        pass  # gzip compares the CRC of everything at the end
    _reject_unsafe(list(members), path.stat().st_size, path)
    target.mkdir(parents=True, exist_ok=True)
    files = {place: members[member] for place, member in _placed(members, root, target) if not member.is_dir()}
    with _progress(target, [entry.size for entry in files.values()], path.name) as progress:
        for place, entry in files.items():  # in the archive's order: it is decompressed once
            source = archive.extractfile(entry)
            assert source is not None  # of files
            with source:
                _write(source, entry.size, place)
            progress.update(entry.size)


def _placed(members: Iterable[zipfile.ZipInfo], root: str, target: Path) -> Iterator[tuple[Path, zipfile.ZipInfo]]:
    """Return the members in a folder of an archive, each with its path on disk."""
    for member in members:
        name = member.filename.removeprefix("./")
        if name.startswith(root):
            yield target / name.removeprefix(root), member


def _progress(target: Path, sizes: Sequence[int], name: str) -> tqdm[NoReturn]:
    """Return the progress of unpacking files, for which there must be space."""
    require_space(target, sum(sizes), f"unpack {name}")
    return tqdm(total=sum(sizes), desc=f"unpack {name}", unit="B", unit_scale=True, disable=None)


def _is_unpacked(member: zipfile.ZipInfo, path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            checksum = zlib.crc32(block, checksum)
    return checksum == member.CRC


def _write(source: IO[bytes], num_bytes: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # fixed, so that the next run replaces the file of a killed one, and short, since the name itself may be the longest
    temporary = path.with_name(f".{blake2b(path.name.encode(), digest_size=8).hexdigest()}.unpacking")
    try:
        with temporary.open("wb") as sink:
            shutil.copyfileobj(source, sink, BLOCK)  # zipfile compares the CRC at the end
            if sink.tell() != num_bytes:
                raise ValueError(f"{path.name!r} has another size than the archive states")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
