"""The server of the page: on this machine, without anything from other hosts, and with its files in one folder."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.sounds import SOUNDS_PATH, Limits, find_mixtures

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ANY_HOST = ["*"]
_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]

# Gradio serves more than this page needs: a proxy to other hosts, edits of the program, histories of runs, statistics
_PAGE = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/startup-events")
_EVENTS = ("theme.css", "upload", "queue/join", "queue/data", "run/predict", "cancel", "reset", "heartbeat/", "file=")
_ALLOWED_STARTS = ("/assets/", "/static/", "/svelte/", SOUNDS_PATH, *(f"/gradio_api/{name}" for name in _EVENTS))
_CALLS = ("/gradio_api/queue/join", "/gradio_api/run/predict")  # events, with the values of all controls
_LARGEST_CALL = 1024**2  # bytes; files are sent by another path

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
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def serve(checkpoint: Path, host: str, port: int, device: str | None, limits: Limits) -> None:
    """Serve the page until interrupted; its address goes to stdout as soon as it can be opened.

    Args:
        checkpoint: checkpoint file of a run.
        host: address of this machine at which the page can be reached.
        port: TCP port; 0 for any that is free.
        device: device of the network; None for CUDA where available.
        limits: largest uploads.

    Raises:
        InputError: Gradio is not installed, or the checkpoint, host, port or device cannot be used.
    """
    missing = [name for name in ("gradio", "matplotlib") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"The page needs {' and '.join(missing)}, not installed here; install with `pip install "
            "'tse-refine[listen]'`."
        )
    extractor = Extractor.load(checkpoint, device)
    with bound_socket(host, port) as (listening, is_local), temporary_folder() as folder:
        if not is_local:
            print(
                f"tse-refine: --host {host}: whoever reaches this machine can open the page; there is no password.",
                file=sys.stderr,
            )
        app = build_app(extractor, checkpoint, limits, folder, [*_LOOPBACK_NAMES, host] if is_local else _ANY_HOST)
        shown = f"[{host}]" if ":" in host else host
        run_server(app, listening, f"http://{shown}:{listening.getsockname()[1]}/")


def build_app(extractor: Extractor, checkpoint: Path, limits: Limits, folder: Path, host_names: list[str]) -> ASGIApp:
    """Return the page as an ASGI application.

    Args:
        extractor: checkpoint's extractor.
        checkpoint: checkpoint file; test mixtures are those of its run.
        limits: largest uploads.
        folder: folder of :func:`temporary_folder`.
        host_names: names by which browsers may call the server, so that a page from elsewhere cannot reach it under a
            name of its own that leads here.
    """
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.staticfiles import StaticFiles

    from tse_refine.extraction.listen.page import Actions, build_page, head, theme

    sounds = folder / "sounds"
    sounds.mkdir()
    mixtures, reason = None, ""
    try:
        mixtures = find_mixtures(checkpoint, folder / "bank")
    except InputError as error:
        reason = str(error)
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    inner.mount(SOUNDS_PATH, StaticFiles(directory=sounds))
    gradio.mount_gradio_app(
        inner,
        build_page(Actions(extractor, mixtures, limits, sounds), str(checkpoint), reason),
        "/",
        max_file_size=limits.num_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=theme(),
        head=head(),
    )
    return Guard(TrustedHostMiddleware(inner, allowed_hosts=host_names), folder / "uploads")


class Guard:
    """Middleware that serves only what the page needs, and restricts what a browser may load.

    It also rejects calls with a file that was not uploaded. Gradio checks that only for pages it starts itself, and
    would read any file of this machine, or download one from elsewhere, for whoever can open the page.

    Args:
        app: guarded application.
        uploads: folder of uploaded files.
    """

    def __init__(self, app: ASGIApp, uploads: Path) -> None:
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Process a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                caching = b"no-store" if scope["path"].startswith(SOUNDS_PATH) else b"no-cache"
                headers = [pair for pair in message["headers"] if pair[0].lower() != b"cache-control"]
                message = {**message, "headers": [*headers, *_HEADERS, (b"cache-control", caching)]}
            await send(message)

        async def reject(status: int, reason: bytes) -> None:
            await send_with_headers({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": reason})

        if not is_allowed(scope["path"]):
            await reject(404, b"This page has nothing at this address.")
            return
        if scope["path"].startswith(_CALLS):
            body = await _body(receive)
            if body is None or names_other_files(body, self.uploads):
                await reject(403, b"Only files that were uploaded to this page can be used.")
                return
            receive = _again(body, receive)
        await self.app(scope, receive, send_with_headers)


def is_allowed(path: str) -> bool:
    """Return whether the page needs a path.

    >>> is_allowed("/gradio_api/queue/join"), is_allowed("/gradio_api/proxy=https://elsewhere.example/")
    (True, False)
    """
    return path in _PAGE or path.startswith(_ALLOWED_STARTS)


def names_other_files(body: bytes, uploads: Path) -> bool:
    """Return whether a call, the body of a request, contains a file outside a folder, or is not valid JSON."""
    inside = os.path.realpath(uploads) + os.sep

    def is_uploaded(path: Any) -> bool:
        return isinstance(path, str) and "\0" not in path and os.path.realpath(path).startswith(inside)

    def is_foreign(value: Any) -> bool:
        if isinstance(value, dict):
            return ("path" in value and not is_uploaded(value["path"])) or any(map(is_foreign, value.values()))
        return isinstance(value, list) and any(map(is_foreign, value))

    try:
        return is_foreign(json.loads(body))
    except (ValueError, RecursionError):
        return True


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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for all files of the page, Gradio's uploads too; it is removed at the end."""
    with TemporaryDirectory(prefix="tse-refine-listen-") as folder:
        settings = {"GRADIO_TEMP_DIR": str(Path(folder, "uploads")), "GRADIO_ANALYTICS_ENABLED": "False"}
        before = {name: os.environ[name] for name in settings if name in os.environ}
        os.environ.update(settings)
        try:
            yield Path(folder)
        finally:
            for name in settings:
                del os.environ[name]
            os.environ.update(before)


@contextmanager
def bound_socket(host: str, port: int) -> Iterator[tuple[socket.socket, bool]]:
    """Yield a listening socket, and whether it can be reached from this machine only.

    Args:
        host: address or name of this machine.
        port: TCP port; 0 for any that is free.

    Raises:
        InputError: the socket cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"The page cannot be served at --host {host} --port {port} ({reason}). Use another port, 0 for any that is "
            "free, or an address of this machine, such as 127.0.0.1."
        ) from error
    with listening:
        yield listening, ipaddress.ip_address(address[0]).is_loopback


def run_server(app: ASGIApp, listening: socket.socket, address: str) -> None:
    """Run an application until SIGINT or SIGTERM, then raise :class:`SystemExit`.

    Args:
        app: ASGI application.
        listening: bound socket.
        address: address that is printed once the server is ready.
    """
    import uvicorn

    class Server(uvicorn.Server):
        """Prints its address once it is ready."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(address, flush=True)

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    # uvicorn shuts down and then raises the signal again: as an exception, so that the folder is removed
    before = {number: signal.signal(number, lambda *_: sys.exit(0)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(config).run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
