"""The server of the page: on this machine, without anything from other hosts, and with its files in one folder."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.guard import UPLOAD_PATH, Guard
from tse_refine.extraction.listen.sounds import SOUNDS_PATH, Limits, find_mixtures
from tse_refine.extraction.listen.uploads import Uploads
from tse_refine.files.atomic import printable
from tse_refine.model.weights import find_checkpoint

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LARGEST_PORT = 65_535
MOST_EVENTS = 64  # of all visitors, that wait for the network


def serve(checkpoint: Path, host: str, port: int, device: str | None, limits: Limits) -> None:
    """Serve the page until interrupted; its address goes to stdout as soon as it can be opened.

    Args:
        checkpoint: checkpoint file of a run, the name of a shipped model, or the address of one on the Hub.
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
    checkpoint = find_checkpoint(checkpoint)
    extractor = Extractor.load(checkpoint, device)
    with bound_socket(host, port) as (listening, is_local), temporary_folder() as folder:
        if not is_local:
            print(
                f"tse-refine: --host {host}: whoever reaches this machine can open the page; there is no password.",
                file=sys.stderr,
            )
        app = build_app(extractor, checkpoint, limits, folder, host, is_local)
        shown = f"[{host}]" if ":" in host else host
        run_server(app, listening, f"http://{shown}:{listening.getsockname()[1]}/")


def build_app(
    extractor: Extractor, checkpoint: Path, limits: Limits, folder: Path, host: str, is_local: bool
) -> ASGIApp:
    """Return the page as an ASGI application.

    Args:
        extractor: checkpoint's extractor.
        checkpoint: checkpoint file; test mixtures are those of its run.
        limits: largest uploads.
        folder: folder of :func:`temporary_folder`.
        host: address or name at which the server listens.
        is_local: whether it can be reached from this machine only.
    """
    import gradio
    from fastapi import FastAPI
    from starlette.staticfiles import StaticFiles

    from tse_refine.extraction.listen.page import Actions, build_page, head, theme

    sounds = folder / "sounds"
    sounds.mkdir()
    mixtures = None
    try:
        mixtures = find_mixtures(checkpoint, folder / "bank")
    except InputError as error:
        print(f"tse-refine: {error}", file=sys.stderr)
    uploads = Uploads(folder / "uploads", limits)
    page = build_page(Actions(extractor, mixtures, limits, sounds), checkpoint)
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    inner.mount(SOUNDS_PATH, StaticFiles(directory=sounds))
    inner.add_route(UPLOAD_PATH, uploads.receive, methods=["POST"])
    gradio.mount_gradio_app(
        inner,
        page.queue(max_size=MOST_EVENTS),
        "/",
        max_file_size=limits.num_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        show_error=False,  # an unexpected one may contain paths of this machine; its traceback goes to stderr
        theme=theme(),
        head=head(),
    )
    return Guard(inner, uploads, host, is_local)


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
    place = f"The page cannot be served at --host {printable(host)} --port {port}"
    if not 0 <= port <= LARGEST_PORT:  # the system would use the last 16 bits of another number
        raise InputError(f"{place}; a port is a number from 1 to {LARGEST_PORT}, or 0 for any that is free.")
    try:
        if not host:
            raise OSError("the address is empty")
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family)
    except (OSError, ValueError) as error:  # ValueError: the host cannot be a name
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{place} ({reason}). Use another port, 0 for any that is free, or an address of this machine, such as "
            "127.0.0.1."
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
