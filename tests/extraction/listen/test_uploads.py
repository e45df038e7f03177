import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tse_refine.extraction.listen import uploads as uploads_module
from tse_refine.extraction.listen.sounds import Limits
from tse_refine.extraction.listen.uploads import Uploads

FORM = b'--line\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n--line--\r\n'


@pytest.fixture
def uploads(gradio, tmp_path, monkeypatch) -> Uploads:
    """Uploads of up to half a megabyte; the test's folder is also that for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Uploads(tmp_path / "uploads", Limits(megabytes=0.5))


@pytest.fixture
def send(uploads) -> Callable:
    """Send the parts of a body; the connection breaks after them unless they end one."""

    async def post(*blocks: bytes, ends: bool = True, form: str = "multipart/form-data; boundary=line"):
        from starlette.requests import Request

        messages = [{"type": "http.request", "body": block, "more_body": True} for block in blocks]
        messages[-1]["more_body"] = not ends
        messages.append({"type": "http.disconnect"})

        async def receive():
            await asyncio.sleep(0)
            return messages.pop(0)

        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", form.encode())]}
        return await uploads.receive(Request(scope, receive))

    return post


def name_of(response) -> str:
    """Return the file's name for visitors."""
    assert response.status_code == 200, response.body
    (name,) = json.loads(response.body)
    return name


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_equal_files_of_two_visitors_are_two_files(uploads, send):
    async def both():
        return [name_of(await send(FORM % (b"same.wav", b"sound"))) for _ in range(2)]

    mine, another = asyncio.run(both())
    assert mine != another
    uploads[mine].unlink()
    assert uploads[another].read_bytes() == b"sound"


def test_uploads_at_the_same_time_do_not_mix(uploads, send):
    async def all_at_once():
        forms = [FORM % (b"%d.wav" % number, b"%d" % number * 100_000) for number in range(8)]
        return await asyncio.gather(
            *(send(*(form[at : at + 9_999] for at in range(0, len(form), 9_999))) for form in forms)
        )

    for number, response in enumerate(asyncio.run(all_at_once())):
        path = uploads[name_of(response)]
        assert (path.name, path.read_bytes()) == (f"{number}.wav", b"%d" % number * 100_000)


@pytest.mark.parametrize("size", [10, 400_000])  # below and above what is kept in memory
def test_nothing_is_left_of_an_upload_that_breaks_off(send, tmp_path, monkeypatch, size):
    from starlette.formparsers import MultiPartParser

    monkeypatch.setattr(MultiPartParser, "spool_max_size", 1000)
    form = FORM % (b"broken.wav", bytes(size))
    response = asyncio.run(send(form[: size // 2], form[size // 2 : -20], ends=False))
    assert response.status_code == 400
    assert files(tmp_path) == []


def test_nothing_is_left_of_an_upload_that_stops(uploads, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads_module, "MOST_IDLE_SECONDS", 0.01)

    async def stopped():
        from starlette.requests import Request

        scope = {
            "type": "http",
            "method": "POST",
            "headers": [(b"content-type", b"multipart/form-data; boundary=line")],
        }
        return await uploads.receive(Request(scope, asyncio.Event().wait))

    assert asyncio.run(stopped()).status_code == 400
    assert files(tmp_path) == []


@pytest.mark.filterwarnings("ignore:.*Unclosed file")  # the parser leaves those without an end to Python
@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"sound", "audio/wav"),
        (b"sound", "multipart/form-data; boundary=line"),
        (b"sound", "multipart/form-data"),
        (FORM.replace(b'; filename="%s"', b"") % b"sound", "multipart/form-data; boundary=line"),
        (FORM.replace(b'"files"', b'"other"') % (b"a.wav", b"sound"), "multipart/form-data; boundary=line"),
        (FORM.replace(b"--line--", b"") % (b"a.wav", b"sound"), "multipart/form-data; boundary=line"),
        (FORM[:-8] % (b"a.wav", b"a") + b"\r\n" + FORM % (b"b.wav", b"b"), "multipart/form-data; boundary=line"),
    ],
    ids=["no form", "no part", "no boundary", "no file", "another field", "no end", "two files"],
)
def test_whatever_is_not_a_form_with_one_whole_file_is_rejected(send, tmp_path, body, form):
    response = asyncio.run(send(body, form=form))
    assert (response.status_code, response.body) == (400, b"The upload is not a form with one whole file.")
    assert files(tmp_path) == []


def test_a_file_above_the_limit_is_rejected(send, tmp_path):
    for size in (524_289, 600_000):  # whose form is within what is read, and above that
        response = asyncio.run(send(FORM % (b"large.wav", bytes(size))))
        assert response.status_code == 413
        assert b"this page accepts up to 0.5 MB" in response.body
    assert files(tmp_path) == []
    assert asyncio.run(send(FORM % (b"fits.wav", bytes(524_288)))).status_code == 200


def test_a_full_disk_is_reported_and_leaves_nothing(send, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploads_module.shutil, "copyfileobj", full)
    response = asyncio.run(send(FORM % (b"in.wav", b"sound")))
    assert (response.status_code, response.body) == (507, b"The file cannot be stored (No space left on device).")
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("street.wav", "street.wav"),
        ("Türklingel 2.flac", "Türklingel 2.flac"),
        ("../../etc/passwd", "passwd"),
        (r"C:\sounds\dog.wav", "dog.wav"),
        ("<img src=x onerror=alert(1)>.wav", "_img src_x onerror_alert(1)_.wav"),
        ("two\x07\x1b[31m\u202elines.wav", "two__[31m_lines.wav"),
        ("..", "__"),
        ("", "_"),
        ("a" * 300 + ".wav", "a" * 60 + ".wav"),
        ("dog." + "x" * 300, "dog"),
    ],
)
def test_file_names_of_visitors_become_harmless(uploads, send, name, stored):
    received = name_of(asyncio.run(send(FORM % (name.encode(), b"sound"))))
    assert uploads[received].name == received.split("/")[1] == stored.replace("[", "_")


def test_uploads_that_nobody_reads_are_removed(uploads, send, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads_module, "MOST_UPLOADS", 2)

    async def waiting():
        for number in range(4):
            await send(FORM % (b"%d.wav" % number, b"sound"))
        before = files(tmp_path)
        monkeypatch.setattr(uploads_module, "MOST_WAITING_SECONDS", 0.01)
        await send(FORM % (b"last.wav", b"sound"))
        await asyncio.sleep(0.05)
        return before

    assert asyncio.run(waiting()) == ["2.wav", "3.wav"]  # the oldest of too many
    assert files(tmp_path) == ["3.wav"]  # and those that waited too long
    assert len(list((tmp_path / "uploads").iterdir())) == 1


def test_too_many_transfers_at_the_same_time_are_rejected(uploads, send, monkeypatch):
    monkeypatch.setattr(uploads_module, "MOST_UPLOADS", 2)

    async def crowd():
        return await asyncio.gather(*(send(FORM % (b"in.wav", b"sound")) for _ in range(3)))

    assert [response.status_code for response in asyncio.run(crowd())] == [200, 200, 503]
    assert asyncio.run(send(FORM % (b"in.wav", b"sound"))).status_code == 200
