"""What the server answers, and what a browser may load: nothing but the page's own parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tse_refine.listen.visit import SOUNDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Gradio serves more than this page needs: a proxy to other hosts, edits of the program, histories of runs, statistics
_PAGE = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/startup-events")
_PARTS = ("/assets/", "/static/", "/svelte/", SOUNDS)
_EVENTS = ("theme.css", "upload", "queue/join", "queue/data", "run/predict", "cancel", "reset", "heartbeat/", "file=")
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

    Args:
        app: what is guarded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

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

        if not is_allowed(scope["path"]):
            await send_with_headers({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"There is no such thing on this page."})
            return
        await self.app(scope, receive, send_with_headers)


def is_allowed(path: str) -> bool:
    """Whether the page needs a path.

    >>> is_allowed("/gradio_api/queue/join"), is_allowed("/gradio_api/proxy=https://elsewhere.example/")
    (True, False)
    """
    return path in _PAGE or path.startswith(_ALLOWED_STARTS)
