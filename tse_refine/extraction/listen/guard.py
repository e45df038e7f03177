"""What the server rejects: names of others, calls from pages of others, and whatever the page itself does not need."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from typing import TYPE_CHECKING, Any

from tse_refine.extraction.listen.sounds import SOUNDS_PATH
from tse_refine.extraction.listen.uploads import Uploads

if TYPE_CHECKING:
    from starlette.datastructures import Headers
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOAD_PATH = "/gradio_api/upload"

# Gradio serves more than this page needs: a proxy to other hosts, edits of the program, histories of runs, statistics
_CALLS = {"/gradio_api/queue/join", "/gradio_api/run/predict"}  # events, with the values of all controls
_POSTS = {*_CALLS, UPLOAD_PATH, "/gradio_api/cancel", "/gradio_api/reset"}
_PAGE = {"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json"}
_GETS = {*_PAGE, "/gradio_api/startup-events", "/gradio_api/theme.css", "/gradio_api/queue/data"}
_GET_STARTS = ("/assets/", "/static/", "/svelte/", SOUNDS_PATH, "/gradio_api/heartbeat/")
_LARGEST_CALL = 1024**2  # bytes; files are sent by another path
_SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")

# The browser itself then blocks whatever would come from another host, or go there. Gradio writes scripts and styles
# into the page, compiles templates, and plays recordings from blobs.
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
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class Guard:
    """Middleware that serves only what the page needs, only to the page itself, and restricts what a browser may load.

    Calls name files by what :class:`Uploads` returned for them, and get their paths here: Gradio would read any file of
    this machine, or download one from elsewhere, for whoever can open the page.

    Args:
        app: guarded application.
        uploads: uploaded files.
        host: address or name at which the server listens.
        is_local: whether it can be reached from this machine only.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads, host: str, is_local: bool) -> None:
        self.app = app
        self.uploads = uploads
        self.host = host
        self.is_local = is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        if scope["type"] == "websocket":  # the page opens none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                caching = b"no-store" if scope["path"].startswith(SOUNDS_PATH) else b"no-cache"
                headers = [pair for pair in message["headers"] if not _is_replaced(pair[0].lower())]
                message = {**message, "headers": [*headers, *_HEADERS, (b"cache-control", caching)]}
            await send(message)

        async def reject(status: int, reason: str) -> None:
            content_type = [(b"content-type", b"text/plain; charset=utf-8")]
            await send_with_headers({"type": "http.response.start", "status": status, "headers": content_type})
            await send({"type": "http.response.body", "body": reason.encode()})

        if rejection := self._rejection(scope):
            await reject(*rejection)
            return
        if scope["path"] in _POSTS - {UPLOAD_PATH}:
            body = await _body(receive)
            if body is not None and scope["path"] in _CALLS:
                body = call_with_paths(body, self.uploads)
            if body is None:
                await reject(403, "This is not a call of the page with files that were uploaded to it.")
                return
            receive = _again(body, receive)
        await self.app(scope, receive, send_with_headers)

    def _rejection(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and reason for a request that is rejected before its body is read."""
        from starlette.datastructures import Headers

        headers = Headers(scope=scope)
        host = headers.get("host", "").lower()
        if not self._is_own(re.sub(r":\d*$", "", host)):
            return 400, (
                "This page is not served under this name: open the address that the command printed, or start it with "
                "this name as its --host."
            )
        is_link = scope["path"] == "/" and scope["method"] == "GET" and headers.get("sec-fetch-dest") == "document"
        if not is_link and not is_from_page(headers, host):
            return 403, "Only this page itself may call its server."
        if not is_needed(scope["method"], scope["path"]):
            return 404, "This page has nothing at this address."
        return None

    def _is_own(self, name: str) -> bool:
        """Return whether a name, in small letters, is this machine's and not one that its owner can lead here."""
        if name in ("localhost", "127.0.0.1", "[::1]", self.host.lower(), f"[{self.host.lower()}]"):
            return True
        if self.is_local:
            return False
        own = socket.gethostname().lower()
        if name in (own, f"{own}.local") or re.fullmatch(r"[\w-]+", name):  # names without a dot are of this network
            return True
        try:
            return bool(ipaddress.ip_address(name.strip("[]")))
        except ValueError:
            return False


def is_from_page(headers: Headers, host: str) -> bool:
    """Return whether a request comes from the page itself, or from a program that is not a browser.

    Another port of the same machine is another page. Browsers send these headers with every call to a loopback address
    or to https, and Origin at least with calls that change something; no script can change them.

    Args:
        headers: headers of the request.
        host: the request's Host, in small letters.

    >>> is_from_page({"origin": "http://127.0.0.1:7860"}, "127.0.0.1:7860")
    True
    >>> is_from_page({"origin": "http://127.0.0.1:8888"}, "127.0.0.1:7860")
    False
    >>> is_from_page({"sec-fetch-site": "same-site"}, "127.0.0.1:7860")
    False
    """
    own = (f"http://{host}", f"https://{host}")
    return headers.get("sec-fetch-site", "none") in ("same-origin", "none") and headers.get("origin", own[0]) in own


def is_needed(method: str, path: str) -> bool:
    """Return whether the page needs a path.

    >>> is_needed("POST", "/gradio_api/queue/join"), is_needed("GET", "/gradio_api/proxy=https://elsewhere.example/")
    (True, False)
    """
    if method == "POST":
        return path in _POSTS
    return method in ("GET", "HEAD") and (path in _GETS or path.startswith(_GET_STARTS))


def call_with_paths(body: bytes, uploads: Uploads) -> bytes | None:
    """Return a call, the body of a request, with the path of each uploaded file in place of its name.

    Only what the page sends is left in it: what else is in a call would be in Gradio's messages on wrong calls, beside
    the paths.

    Args:
        body: what the browser sent.
        uploads: uploaded files.

    Returns:
        JSON; None for what is not a call of the page, and for one that names a file that is not there.
    """

    def with_paths(value: Any) -> Any:
        if isinstance(value, dict) and "path" in value:
            return {"path": str(uploads[value["path"]]), "meta": {"_type": "gradio.FileData"}}
        if isinstance(value, dict):
            return {name: with_paths(part) for name, part in value.items()}
        return [with_paths(part) for part in value] if isinstance(value, list) else value

    try:
        call = json.loads(body)
        if not (isinstance(call["data"], list) and isinstance(call["fn_index"], int)):
            return None
        if not _SESSION.fullmatch(call["session_hash"]):
            return None
        kept = {name: call[name] for name in ("fn_index", "session_hash", "trigger_id") if name in call}
        return json.dumps({**kept, "data": with_paths(call["data"])}).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_replaced(header: bytes) -> bool:
    """Return whether a header is replaced, or left out because it would let pages of others read an answer."""
    return header == b"cache-control" or header.startswith(b"access-control-")


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None where it is too large or incomplete."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > _LARGEST_CALL:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a channel that repeats a body that was read already, and continues with what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
