"""What the server answers, and what a browser may load: nothing but the page's own parts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tse_refine.extraction.listen.visit import SOUNDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio serves more than this page needs: a proxy to other hosts, edits of the program, histories of runs, statistics
_PAGE = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/startup-events")
_PARTS = ("/assets/", "/static/", "/svelte/", SOUNDS)
_EVENTS = ("theme.css", "upload", "queue/join", "queue/data", "run/predict", "cancel", "reset", "heartbeat/", "file=")
_CALLS = ("/gradio_api/queue/join", "/gradio_api/run/predict")  # what is pressed, with the values of all parts
_LARGEST_CALL = 1024**2  # bytes; files do not come this way
_ALLOWED_STARTS = (*_PARTS, *(f"/gradio_api/{name}" for name in _EVENTS))

# The browser itself then refuses whatever would come from elsewhere, or go there. Gradio writes scripts and styles into
# the page, compiles templates, and plays what is recorded from blobs.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self' blob: data:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "form-action 'none'",
        "base-uri 'self'",
    )
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class Guard:
    """Middleware that answers "not found" to what the page does not need, and says what a browser may load.

    It also refuses calls that name a file which was not uploaded. Gradio checks that only for pages it starts itself,
    and would read any file of this machine, or fetch one from elsewhere, for whoever can open the page.

    Args:
        app: what is guarded.
        uploads: the folder of uploaded files.
    """

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = b"no-store" if scope["path"].startswith(SOUNDS) else b"no-cache"
                headers = [pair for pair in message["headers"] if pair[0].lower() != b"cache-control"]
                message = {**message, "headers": [*headers, *_HEADERS, (b"cache-control", kept)]}
            await send(message)

        async def refuse(status: int, reason: bytes) -> None:
            await send_with_headers({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": reason})

        if not is_allowed(scope["path"]):
            await refuse(404, b"There is no such thing on this page.")
            return
        if scope["path"].startswith(_CALLS):
            body = await _body(receive)
            if body is None or names_other_files(body, self.uploads):
                await refuse(403, b"Only files that were uploaded to this page can be used.")
                return
            receive = _again(body, receive)
        await self.app(scope, receive, send_with_headers)


def names_other_files(body: bytes, uploads: Path) -> bool:
    """Whether a call names a file outside a folder, or is none.

    Args:
        body: of the request, JSON.
        uploads: the folder.
    """
    inside = os.path.realpath(uploads) + os.sep

    def uploaded(path: Any) -> bool:
        return isinstance(path, str) and "\0" not in path and os.path.realpath(path).startswith(inside)

    def foreign(value: Any) -> bool:
        if isinstance(value, dict):
            return ("path" in value and not uploaded(value["path"])) or any(foreign(part) for part in value.values())
        return isinstance(value, list) and any(foreign(part) for part in value)

    try:
        return foreign(json.loads(body))
    except (ValueError, RecursionError):
        return True


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None where it is too large or breaks off."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > _LARGEST_CALL:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, then what follows it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def is_allowed(path: str) -> bool:
    """Whether the page needs a path.

    >>> is_allowed("/gradio_api/queue/join"), is_allowed("/gradio_api/proxy=https://elsewhere.example/")
    (True, False)
    """
    return path in _PAGE or path.startswith(_ALLOWED_STARTS)
