"""The server of the page: on this machine, with nothing from elsewhere, and with its files in one folder."""

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
from typing import TYPE_CHECKING, NoReturn

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.guard import Guard
from tse_refine.extraction.listen.listener import Listener
from tse_refine.extraction.listen.mixtures import TestMixtures, find_mixtures
from tse_refine.extraction.listen.uploads import Limits
from tse_refine.extraction.listen.visit import SOUNDS

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ANY_HOST = ["*"]
_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def serve(checkpoint: Path, host: str, port: int, device: str | None, limits: Limits) -> None:
    """Serve the page until interrupted; its address goes to stdout as soon as it can be opened.

    Args:
        checkpoint: of a run.
        host: address of this machine at which the page can be reached.
        port: 0 for any that is free.
        device: where the network works; None for CUDA where there is one.
        limits: of what the page takes.

    Raises:
        InputError: Gradio is not installed, or the checkpoint, host, port or device cannot be used.
    """
    require_gradio()
    extractor = Extractor.load(checkpoint, device)
    with _listening(host, port) as (listening, is_local), temporary_folder() as folder:
        if not is_local:
            print(
                f"tse-refine: --host {host}: whoever reaches this machine can open the page; there is no password.",
                file=sys.stderr,
            )
        names = [*_LOOPBACK_NAMES, host] if is_local else _ANY_HOST
        app = build_app(extractor, checkpoint, limits, folder, names)
        shown = f"[{host}]" if ":" in host else host
        _run(app, listening, f"http://{shown}:{listening.getsockname()[1]}/")


def require_gradio() -> None:
    """Raise an :class:`InputError` where the packages that the page needs are not installed."""
    missing = [name for name in ("gradio", "matplotlib") if find_spec(name) is None]
    if missing:
        raise InputError(
            f"The page needs {' and '.join(missing)}, not installed here; install with `pip install "
            "'tse-refine[listen]'`."
        )


def build_app(extractor: Extractor, checkpoint: Path, limits: Limits, folder: Path, host_names: list[str]) -> ASGIApp:
    """Return the page as an ASGI application.

    Args:
        extractor: does the work.
        checkpoint: where it came from; test mixtures are those of its run.
        limits: of what the page takes.
        folder: of :func:`temporary_folder`.
        host_names: by which browsers may call the server: a page from elsewhere cannot reach it under a name of its own
            that leads here.
    """
    import gradio
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.staticfiles import StaticFiles

    from tse_refine.extraction.listen.page import build_page, head, theme

    sounds = folder / "sounds"
    sounds.mkdir()
    mixtures: TestMixtures | None = None
    reason = ""
    try:
        mixtures = find_mixtures(checkpoint, folder / "bank")
    except InputError as error:
        reason = str(error)
    page = build_page(Listener(extractor, mixtures, limits, sounds), str(checkpoint), reason)
    inner = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    inner.mount(SOUNDS, StaticFiles(directory=sounds))
    gradio.mount_gradio_app(
        inner,
        page,
        "/",
        max_file_size=limits.most_bytes,
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


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for all files of the page, Gradio's uploads too; it is removed at the end."""
    with TemporaryDirectory(prefix="tse-refine-listen-") as folder:
        settings = {"GRADIO_TEMP_DIR": str(Path(folder, "uploads")), "GRADIO_ANALYTICS_ENABLED": "False"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextmanager
def _listening(host: str, port: int) -> Iterator[tuple[socket.socket, bool]]:
    """Yield a socket that is bound, and whether it can be reached from this machine only."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address, family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"The page cannot be served at --host {host} --port {port} ({reason}). Give another port, 0 for any that "
            "is free, or an address of this machine, such as 127.0.0.1."
        ) from error
    with listening:
        yield listening, ipaddress.ip_address(address[0]).is_loopback


def _run(app: ASGIApp, listening: socket.socket, address: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        """Says where it is once it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(address, flush=True)

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    # uvicorn ends in order and then raises the signal anew: as an exception, so that the folder is removed
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Server(config).run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(0)
