"""Downloads published archives once: transferred, verified and unpacked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.util import Retry

from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.data.download.unpacking import require_space, unpack, verify
from tse_refine.errors import InputError
from tse_refine.files.atomic import write_text
from tse_refine.files.digests import digest_of
from tse_refine.files.documents import Fields, parse_json, read_text

NUM_TRIES = 4  # of a request without an answer, and of an interrupted transfer
PAUSE_SECONDS = 1.0  # before the second try; doubled before each further one
TIMEOUT_SECONDS = (30, 60)  # to connect; without a byte
BLOCK = 1 << 16  # bytes written at once: the most that an interrupted transfer loses
_sizes: dict[RemoteFile, int] = {}  # that servers have sent; a file's checksum fixes its size


def install(archives: Sequence[Archive], root: Path) -> None:
    """Download, verify and unpack archives into a folder.

    Finished steps are not repeated, and an interrupted transfer continues where it stopped. ``root/.installed/`` holds
    the checksums of each unpacked archive, ``root/.downloads/<archive>/`` its files until then.

    Args:
        archives: what to install.
        root: folder to unpack into.

    Raises:
        InputError: a file cannot be downloaded, differs from its published checksum, cannot be unpacked, or the free
            space is too small.
    """
    root = Path(root).absolute()
    root.mkdir(parents=True, exist_ok=True)
    with _open_session() as session:
        downloads = _pending(archives, root, session)
        # checked before the first byte; audio hardly compresses, so unpacking needs about as much space again
        num_bytes = sum(download.num_missing_bytes() or 0 for files in downloads.values() for download in files)
        require_space(root, num_bytes, "download")
        for archive in archives:
            folder = _folder(archive, root)
            if archive in downloads:
                volumes = [download.fetch() for download in downloads[archive]]
                if archive.contents:
                    try:
                        verify(volumes[-1], archive.contents, archive.folder)
                    except InputError:
                        shutil.rmtree(folder)
                        raise
                unpack(volumes, root, archive.folder)
                write_text(_stamp(archive, root), archive.checksums)
            if folder.exists():  # also after a kill between the stamp and this line
                shutil.rmtree(folder)


def missing_sizes(archives: Sequence[Archive], root: Path) -> dict[Archive, int | None]:
    """Return the archives that ``install`` would transfer, and of how many bytes; None where no size is known.

    Args:
        archives: what is to be installed; nothing is written.
        root: folder to unpack into.

    Raises:
        InputError: a server cannot be reached, or does not have a file.
    """
    with _open_session() as session:
        sizes = {}
        for archive, files in _pending(archives, Path(root).absolute(), session).items():
            parts = [download.num_missing_bytes() for download in files]
            known = [size for size in parts if size is not None]
            sizes[archive] = sum(known) if len(known) == len(parts) else None
    return sizes


def _pending(archives: Sequence[Archive], root: Path, session: requests.Session) -> dict[Archive, list[_Download]]:
    """Return the files of each archive that is not unpacked yet."""
    stamps = {archive: _stamp(archive, root) for archive in archives}
    return {
        archive: [_Download(file, _folder(archive, root), session) for file in archive.files]
        for archive, stamp in stamps.items()
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != archive.checksums
    }


def _stamp(archive: Archive, root: Path) -> Path:
    return root / ".installed" / archive.name


def _folder(archive: Archive, root: Path) -> Path:
    return root / ".downloads" / archive.name


def _open_session() -> requests.Session:
    """Return a session that repeats requests that had no answer or a temporary error."""
    retry = Retry(
        NUM_TRIES - 1, backoff_factor=PAUSE_SECONDS, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False
    )
    session = requests.Session()
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # the stored bytes, so that they can be counted
    return session


class _Download:
    """One file in transfer, which continues an earlier transfer.

    The bytes are collected in ``<name>.part``. ``<name>.part.json`` beside it holds url, md5, the server's mark of this
    version (``validator``) and the whole size, where the server sends them.
    """

    def __init__(self, file: RemoteFile, folder: Path, session: requests.Session) -> None:
        self.file = file
        self.path = folder / file.name
        self.part = folder / f"{file.name}.part"
        self.note_path = folder / f"{file.name}.part.json"
        self.session = session
        self.note = self._read_note()

    def num_missing_bytes(self) -> int | None:
        """Return the number of bytes still to transfer; None where neither server nor publisher gives the size."""
        if self.path.exists():
            return 0
        size = self.note["size"] or _sizes.get(self.file)
        if size is None:
            with self._answer("HEAD", accepted=(405, 501)) as response:  # some servers have no HEAD
                length = response.headers.get("Content-Length") if response.ok else None
            size = self.file.size if length is None else int(length)
            if size is not None and self.file.md5:
                _sizes[self.file] = size
        return None if size is None else max(0, size - self._num_bytes())

    def fetch(self) -> Path:
        """Download the file unless it exists, verify it where its checksum is published, and return its path."""
        if not self.path.exists() or (self.file.md5 and digest_of(self.path, hashlib.md5()) != self.file.md5):
            self._complete()
            md5 = digest_of(self.part, hashlib.md5())
            if self.file.md5 and md5 != self.file.md5:
                self._start_over()
                raise InputError(
                    f"{self.file.url}: its MD5 checksum is {md5}, but {self.file.md5} was published. Run the command "
                    "again to download it anew; if this repeats, the published file has changed"
                )
            os.replace(self.part, self.path)
        self._start_over()
        return self.path

    def _complete(self) -> None:
        """Receive the missing bytes of the part in up to ``NUM_TRIES`` transfers."""
        for num_tries in range(1, NUM_TRIES + 1):
            try:
                if self._is_complete() or self._receive():
                    return
                reason = "the transfer ended too early"
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                reason = f"the transfer was interrupted ({error})"
            if num_tries < NUM_TRIES:
                time.sleep(PAUSE_SECONDS * 2 ** (num_tries - 1))
        raise self._failure(reason)

    def _receive(self) -> bool:
        """Request the missing bytes once and append them; return whether the part is complete then."""
        num_bytes = self._num_bytes()
        headers = {}
        if num_bytes:
            headers["Range"] = f"bytes={num_bytes}-"
            if self.note["validator"]:
                headers["If-Range"] = self.note["validator"]  # another version is sent from its start
        with self._answer("GET", headers, accepted=(416,)) as response:
            if response.status_code == 416:  # no byte after these: they are all, or wrong
                if num_bytes and digest_of(self.part, hashlib.md5()) == self.file.md5:
                    return True
                self._start_over()
                return False
            if response.status_code == 206:
                content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
                if content_range is None or int(content_range[1]) != num_bytes:
                    self._start_over()
                    return False
            else:
                self._start_over()
                self._write_note(response)
            self._append(response)
        return self.note["size"] is None or self._is_complete()

    def _append(self, response: requests.Response) -> None:
        size = self.note["size"]
        with (
            self.part.open("ab") as part,  # progress is shown on a terminal only
            tqdm.wrapattr(part, "write", size, desc=self.file.name, initial=part.tell(), disable=None) as sink,
        ):
            for block in response.iter_content(BLOCK):
                sink.write(block)

    @contextmanager
    def _answer(
        self, method: str, headers: dict[str, str] | None = None, accepted: Sequence[int] = ()
    ) -> Iterator[requests.Response]:
        try:
            response = self.session.request(
                method, self.file.url, headers=headers, timeout=TIMEOUT_SECONDS, stream=True, allow_redirects=True
            )
        except requests.RequestException as error:
            raise self._failure(str(error)) from error
        with response:
            if not response.ok and response.status_code not in accepted:
                raise self._failure(f"the server answers {response.status_code} {response.reason}")
            yield response

    def _failure(self, reason: str) -> InputError:
        size = self.note["size"]
        return InputError(
            f"{self.file.url}: {reason}; got {self._num_bytes()} of {'unknown' if size is None else size} bytes. Check "
            "the network and run the command again: it continues where it stopped. Or download the file in another way "
            f"and place it at {self.path}"
        )

    def _num_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _is_complete(self) -> bool:
        return self.note["size"] is not None and self._num_bytes() >= self.note["size"]

    def _start_over(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)
        self.note = self._read_note()

    def _read_note(self) -> dict[str, Any]:
        """Return the description of the part; a part of another file, or without a description, is removed."""
        try:
            note = Fields(parse_json(read_text(self.note_path)))
            size, validator = note.get("size"), note.get("validator")
            same = (note.get("url"), note.get("md5")) == (self.file.url, self.file.md5)
            if same and type(size) in (int, type(None)) and type(validator) in (str, type(None)):
                return dict(note.values)
        except (FileNotFoundError, ValueError):
            pass
        self.part.unlink(missing_ok=True)
        return {"url": self.file.url, "md5": self.file.md5, "validator": None, "size": None}

    def _write_note(self, response: requests.Response) -> None:
        etag = response.headers.get("ETag", "")
        weak = not etag or etag.startswith("W/")  # equal in meaning, not in bytes (RFC 9110, 8.8.1)
        self.note["validator"] = response.headers.get("Last-Modified") if weak else etag
        size = response.headers.get("Content-Length")
        self.note["size"] = None if size is None else int(size)
        write_text(self.note_path, json.dumps(self.note))
