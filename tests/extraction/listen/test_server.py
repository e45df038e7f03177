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


@pytest.fixture
def without_gradio(monkeypatch):
    """Gradio is not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "gradio" else find_spec(name))


@pytest.fixture
def served(gradio, monkeypatch) -> list:
    """The application that the command serves, and its address."""
    calls = []
    monkeypatch.setattr(server, "run_server", lambda app, listening, address: calls.append((app, address)))
    return calls


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
    for name in ("elsewhere.example", "192.0.2.1", "", "localhost.elsewhere.example"):
        assert status(app, name) == 400  # a name of another owner that leads here


def test_serving_other_machines_prints_a_warning(served, checkpoint, capsys):
    main(["listen", "--checkpoint", str(checkpoint), "--host", "0.0.0.0", "--port", "0", "--device", "cpu"])
    assert "there is no password" in capsys.readouterr().err
    ((app, address),) = served
    assert address.startswith("http://0.0.0.0:")
    for name in ("192.0.2.1:7860", "[2001:db8::1]:7860", "localhost", "LAB3", socket.gethostname()):
        assert status(app, name) == 200
    assert status(app, "elsewhere.example") == 400


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "", "a" * 70, "http://localhost"])
def test_an_address_of_another_machine_is_rejected(host):
    with pytest.raises(InputError, match=f"--host {host} --port 0"), server.bound_socket(host, 0):
        pass


@pytest.mark.parametrize("port", [-1, 65_536, 99_999, 2**40])
def test_a_port_that_is_none_is_rejected_and_not_replaced_by_another(served, checkpoint, capsys, port):
    with pytest.raises(SystemExit, match="2"):
        main(["listen", "--checkpoint", str(checkpoint), "--port", str(port), "--device", "cpu"])
    assert f"--port {port}; a port is a number from 1 to 65535, or 0" in capsys.readouterr().err
    assert not served


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
