import asyncio
import importlib.util
import os
import re
import signal
import socket
import threading
from pathlib import Path

import pytest

from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.extraction.listen import server
from tse_refine.extraction.listen.server import is_allowed
from tse_refine.extraction.listen.sounds import Limits


@pytest.fixture
def without_gradio(monkeypatch):
    """Gradio is not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "gradio" else find_spec(name))


@pytest.fixture
def gradio(monkeypatch, tmp_path):
    """Gradio; the event loops that it makes, one per lock, are closed at the end."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))  # where it makes a folder when it is imported
    module = pytest.importorskip("gradio")
    loops = []
    make = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(make()) or loops[-1])
    yield module
    asyncio.set_event_loop(None)
    for loop in loops:
        loop.close()


@pytest.fixture
def served(gradio, monkeypatch) -> list:
    """The application that the command serves, and its address."""
    calls = []
    monkeypatch.setattr(server, "run_server", lambda app, listening, address: calls.append((app, address)))
    return calls


@pytest.fixture
def client(gradio, extractor, checkpoint):
    """A client of the page."""
    from starlette.testclient import TestClient

    with server.temporary_folder() as folder:
        app = server.build_app(extractor, checkpoint, Limits(megabytes=0.5), folder, ["testserver"])
        (folder / "sounds" / "session").mkdir()
        (folder / "sounds" / "session" / "in.wav").write_bytes(b"0123456789")
        yield TestClient(app, raise_server_exceptions=False)


def status(app, host: str) -> int:
    """Return the status of a request to this host name."""
    from starlette.testclient import TestClient

    return TestClient(app).get("/theme.css", headers={"Host": host}).status_code


def test_without_gradio_the_extra_is_named(without_gradio, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["listen", "--checkpoint", "any.ckpt"])
    assert "pip install 'tse-refine[listen]'" in capsys.readouterr().err


def test_a_missing_checkpoint_is_rejected(gradio, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["listen", "--checkpoint", "nowhere.ckpt"])
    assert "nowhere.ckpt does not exist" in capsys.readouterr().err


def test_invalid_limits_are_rejected(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["listen", "--checkpoint", "any.ckpt", "--max-minutes", "0"])
    assert "--max-minutes is 0" in capsys.readouterr().err


def test_by_default_only_this_machine_is_served(served, checkpoint, capsys):
    main(["listen", "--checkpoint", str(checkpoint), "--port", "0", "--device", "cpu"])
    ((app, address),) = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    assert capsys.readouterr().err == ""
    assert status(app, "localhost") == 200
    assert status(app, "elsewhere.example") == 400  # a name of another owner that leads here


def test_serving_other_machines_prints_a_warning(served, checkpoint, capsys):
    main(["listen", "--checkpoint", str(checkpoint), "--host", "0.0.0.0", "--port", "0", "--device", "cpu"])
    assert "there is no password" in capsys.readouterr().err
    ((app, address),) = served
    assert address.startswith("http://0.0.0.0:")
    assert status(app, "elsewhere.example") == 200


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_rejected(host):
    with pytest.raises(InputError, match=f"--host {host} --port 0"), server.bound_socket(host, 0):
        pass


def test_a_port_that_is_in_use_is_rejected():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(InputError, match=rf"--port {port} .*Use another port"),
            server.bound_socket("127.0.0.1", port),
        ):
            pass


def test_all_files_are_in_one_folder_that_is_removed_also_when_the_program_stops(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "mine")
    folders = []

    def stopped():
        with server.temporary_folder() as folder:
            folders.append(folder)
            assert Path(os.environ["GRADIO_TEMP_DIR"]).is_relative_to(folder)
            (folder / "sound.wav").write_bytes(b"sound")
            raise SystemExit

    with pytest.raises(SystemExit):
        stopped()
    assert not folders[0].exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "mine"


def test_the_server_prints_its_address_and_stops_on_a_signal(capsys):
    pytest.importorskip("uvicorn")

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})

    handler = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with pytest.raises(SystemExit, match="0"):
            server.run_server(app, listening, "http://127.0.0.1/")
        timer.join()
    assert capsys.readouterr().out == "http://127.0.0.1/\n"
    assert signal.getsignal(signal.SIGTERM) is handler


def test_the_page_comes_with_all_it_needs_and_a_browser_may_load_nothing_else(client):
    answer = client.get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=[\"']?(https?:)?//", answer.text)
    assert not loaded
    assert "fonts.googleapis" not in answer.text
    assert ".listen-card" in answer.text  # our own style and script are in it


def test_sounds_are_served_whole_and_in_parts_and_are_not_cached(client):
    answer = client.get("/sounds/session/in.wav")
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["cache-control"] == "no-store"
    part = client.get("/sounds/session/in.wav", headers={"Range": "bytes=2-4"})  # what a player requests when it seeks
    assert (part.status_code, part.content) == (206, b"234")
    assert client.get("/sounds/").status_code == 404  # no list of sessions
    assert client.get("/sounds/%2e%2e/%2e%2e/etc/passwd").status_code == 404


def test_uploads_above_the_limit_are_rejected(client):
    sent = {"files": ("big.wav", bytes(600_000), "audio/wav")}
    answer = client.post("/gradio_api/upload", files=sent)
    assert answer.status_code == 413
    assert "maximum allowed size" in answer.text


def call(client, path):
    sound = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    body = {"data": [sound, ["bell"], 0.3], "fn_index": 0, "session_hash": "visitor"}
    return client.post("/gradio_api/queue/join", json=body)


def test_only_files_that_were_uploaded_can_be_used(client, tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"of this machine")
    sent = {"files": ("mine.wav", b"sound", "audio/wav")}
    (uploaded,) = client.post("/gradio_api/upload", files=sent).json()
    assert call(client, uploaded).status_code == 200
    elsewhere = [tmp_path / "secret.wav", "https://elsewhere.example/a.wav", "/etc/passwd", "a\0b", ""]
    (link := Path(uploaded).with_name("link.wav")).symlink_to(tmp_path / "secret.wav")
    for path in [*elsewhere, link, f"{Path(uploaded).parent}/../../sounds/session/in.wav"]:
        answer = call(client, path)
        assert (answer.status_code, answer.text) == (403, "Only files that were uploaded to this page can be used.")
    for content in (b"no JSON", b"[" * 100_000, b'{"data": "' + bytes(2 * 1024**2) + b'"}'):
        assert client.post("/gradio_api/queue/join", content=content).status_code == 403


def test_other_parts_of_gradio_are_not_served(client):
    for path in (
        "/gradio_api/proxy=https://elsewhere.example/",
        "/gradio_api/vibe-edit",
        "/gradio_api/process_recording",
        "/gradio_api/runs",
        "/gradio_api/info",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ):
        assert not is_allowed(path)
        assert (client.get(path).status_code, client.post(path).status_code) == (404, 404), path


def test_files_of_this_machine_are_not_served(client, checkpoint):
    assert client.get(f"/gradio_api/file={checkpoint}").status_code in (403, 404)
