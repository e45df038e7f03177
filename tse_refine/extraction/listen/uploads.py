"""Uploads: each is received whole or not at all, and stays in a folder of its own until it has been read."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from secrets import token_urlsafe
from typing import IO, TYPE_CHECKING

from tse_refine.extraction.listen.sounds import Limits
from tse_refine.files.atomic import file_names

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MOST_UPLOADS = 16  # that are received at the same time, and that wait to be read
MOST_WAITING_SECONDS = 600.0  # from when a file was received until it is read
MOST_IDLE_SECONDS = 60.0  # between two blocks of a transfer
_FORM_BYTES = 64 * 1024  # of a form around its file


class Uploads:
    """The uploaded files that wait to be read.

    They replace Gradio's, which gives equal files of two visitors one path, keeps what it received of a broken upload,
    and reveals the path of its folder.

    Args:
        folder: folder of the files; each is in a folder with a random name.
        limits: largest uploads.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._num_receiving = 0
        self._waiting: dict[str, Path] = {}

    def __getitem__(self, name: str) -> Path:
        """Return the path of a file by its name for visitors; raise :class:`KeyError` where there is none."""
        return self._waiting[name]

    async def receive(self, request: Request) -> Response:
        """Store the file of a form.

        Args:
            request: request whose body is a form with one file.

        Returns:
            A list with the file's name for visitors, as the page in the browser expects; or one sentence with status
            413 for a file that is too large, 400 for any other form, 503 for too many uploads at the same time, and 507
            where the disk is full.
        """
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, PlainTextResponse

        if self._num_receiving >= MOST_UPLOADS:
            return PlainTextResponse("Too many files are being uploaded; try again in a minute.", 503)
        self._num_receiving += 1
        try:
            name = await self._receive_file(request)
        except _TooLargeError:
            return PlainTextResponse(f"The file is larger than the maximum; this page accepts {self._limits}.", 413)
        except OSError as error:
            return PlainTextResponse(f"The file cannot be stored ({error.strerror}).", 507)
        except (ValueError, ClientDisconnect):
            return PlainTextResponse("The upload is not a form with one whole file.", 400)
        finally:
            self._num_receiving -= 1
        asyncio.get_running_loop().call_later(MOST_WAITING_SECONDS, self._discard, name)
        for oldest in list(self._waiting)[:-MOST_UPLOADS]:
            self._discard(oldest)
        return JSONResponse([name])

    async def _receive_file(self, request: Request) -> str:
        """Store the file of a form, and return its name for visitors."""
        from starlette.concurrency import run_in_threadpool
        from starlette.datastructures import UploadFile
        from starlette.formparsers import MultiPartException, MultiPartParser

        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise ValueError
        try:  # meanwhile the file is in memory or has no name, so that nothing is left of a broken upload
            form = await MultiPartParser(request.headers, self._blocks(request), max_files=1, max_fields=0).parse()
        except MultiPartException as error:
            raise ValueError from error
        try:
            file = form.get("files")
            if not isinstance(file, UploadFile):
                raise ValueError
            if (file.size or 0) > self._limits.num_bytes:
                raise _TooLargeError
            return await run_in_threadpool(self._store, file.filename or "", file.file)
        finally:
            await form.close()

    async def _blocks(self, request: Request) -> AsyncGenerator[bytes, None]:
        """Yield the body of a request while it is not too large and does not stop."""
        num_bytes, stream = 0, request.stream()
        while True:
            try:
                block = await asyncio.wait_for(stream.__anext__(), MOST_IDLE_SECONDS)
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError:
                raise ValueError from None
            num_bytes += len(block)
            if num_bytes > self._limits.num_bytes + _FORM_BYTES:
                raise _TooLargeError
            yield block

    def _store(self, name: str, content: IO[bytes]) -> str:
        token = token_urlsafe(16)
        stem, suffix = os.path.splitext(re.split(r"[/\\]", name)[-1])
        path = self._folder / token / (file_names([stem])[0] + "".join(re.findall(r"^\.\w{1,10}$", suffix)))
        path.parent.mkdir(parents=True)
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(content, file)
        except BaseException:
            shutil.rmtree(path.parent)
            raise
        self._waiting[f"{token}/{path.name}"] = path
        return f"{token}/{path.name}"

    def _discard(self, name: str) -> None:
        path = self._waiting.pop(name, None)
        if path is not None:
            shutil.rmtree(path.parent, ignore_errors=True)


class _TooLargeError(Exception):
    """An upload that is larger than the limit."""
