import json
import re
from pathlib import Path

import pytest

from tse_refine.errors import InputError
from tse_refine.extraction.listen import server
from tse_refine.extraction.listen.sounds import Limits

SOUND = {"files": ("mine.wav", b"sound", "audio/wav")}
OURS = "http://testserver"
ALL = [
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/sounds/session/in.wav"),
    ("GET", "/gradio_api/queue/data?session_hash=visitor"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/run/predict"),
    ("OPTIONS", "/gradio_api/upload"),
    ("OPTIONS", "/config"),
]

FOREIGN = [
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://testserver:8888"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},  # another port of this machine
    {"Origin": OURS, "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://elsewhere.example", "Sec-Fetch-Site": "same-origin"},
]


def call(client, path, **changes):
    sound = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    body = {"data": [sound, ["bell"], 0.3, 0.0], "fn_index": 0, "session_hash": "visitor"} | changes
    return client.post("/gradio_api/queue/join", json=body)


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


def test_pages_of_others_can_neither_call_the_server_nor_read_its_answers(client, folder):
    for headers in FOREIGN:
        for method, path in ALL:
            asked = {"Access-Control-Request-Method": "POST"} if method == "OPTIONS" else {}
            answer = client.request(method, path, headers=headers | asked, files=SOUND if "upload" in path else None)
            assert answer.status_code == 403, (method, path, headers)
            assert not [name for name in answer.headers if name.startswith("access-control-")]
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not list(folder.rglob("*mine*"))


def test_the_page_itself_and_programs_may_call_it_and_no_answer_is_for_others(client):
    for headers in ({}, {"Origin": OURS, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        for answer in (
            client.get("/config", headers=headers),
            client.post("/gradio_api/upload", headers=headers, files=SOUND),
        ):
            assert answer.status_code == 200
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_a_link_from_elsewhere_opens_the_page_but_nothing_else(client):
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=followed).status_code == 200
    assert client.get("/config", headers=followed).status_code == 403
    assert client.get("/", headers=followed | {"Sec-Fetch-Dest": "iframe"}).status_code == 403


def test_sounds_are_served_whole_and_in_parts_and_are_not_cached(client):
    answer = client.get("/sounds/session/in.wav")
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert answer.headers["cache-control"] == "no-store"
    part = client.get("/sounds/session/in.wav", headers={"Range": "bytes=2-4"})  # what a player requests when it seeks
    assert (part.status_code, part.content) == (206, b"234")
    assert client.get("/sounds/").status_code == 404  # no list of sessions
    assert client.get("/sounds/%2e%2e/%2e%2e/etc/passwd").status_code == 404


def test_only_files_that_were_uploaded_can_be_used(client, folder, tmp_path):
    (tmp_path / "secret.wav").write_bytes(b"of this machine")
    (uploaded,) = client.post("/gradio_api/upload", files=SOUND).json()
    assert call(client, uploaded).status_code == 200
    (path,) = (folder / "uploads").rglob("mine.wav")
    token = uploaded.split("/")[0]
    elsewhere = [tmp_path / "secret.wav", "https://elsewhere.example/a.wav", "/etc/passwd", "a\0b", "", path]
    for name in [*elsewhere, f"{token}/../{uploaded}", f"{token}/other.wav"]:
        answer = call(client, name)
        assert (answer.status_code, "files that were uploaded" in answer.text) == (403, True), name
    for content in (b"no JSON", b"[]", b"[" * 100_000, b'{"data": "' + bytes(2 * 1024**2) + b'"}'):
        assert client.post("/gradio_api/queue/join", content=content).status_code == 403


def test_calls_without_a_visitor_or_with_other_values_are_rejected(client):
    (name,) = client.post("/gradio_api/upload", files=SOUND).json()
    for changes in ({"session_hash": None}, {"session_hash": "a" * 65}, {"session_hash": "../a"}, {"fn_index": "0"}):
        assert call(client, name, **changes).status_code == 403, changes
    assert call(client, name, data={"path": name}).status_code == 403
    assert call(client, name, data=[{"path": [name]}]).status_code == 403
    assert client.post("/gradio_api/queue/join", json={"path": name}).status_code == 403


def test_too_many_calls_that_wait_for_the_network_are_rejected(client):
    sent = {"data": [[], 0.3, 0.0], "fn_index": 1, "session_hash": "visitor"}  # nothing runs without a server
    answers = [client.post("/gradio_api/queue/join", json=sent).status_code for _ in range(server.MOST_EVENTS + 1)]
    assert answers == [200] * server.MOST_EVENTS + [503]


def answers(client) -> str:
    """Return what the server sends: the page, and results of calls of all of its actions, right and wrong."""
    texts = [client.get(path).text for path in ("/", "/config", "/theme.css", "/manifest.json", "/nowhere")]
    for event in json.loads(texts[1])["dependencies"]:
        (name,) = client.post("/gradio_api/upload", files=SOUND).json()
        for data in ([{"path": name}, ["bell"], 0.3, 0.0], [["bell"], 0.3, 0.0], [["no class"], "text", None], []):
            for trigger in (None, "wrong"):
                sent = {"data": data, "fn_index": event["id"], "session_hash": "visitor", "trigger_id": trigger}
                texts.append(client.post("/gradio_api/run/predict", json=sent).text)
        texts.append(name)
    return "".join(texts)


def test_no_path_of_this_machine_is_in_what_visitors_get(client, folder, checkpoint, run_folder):
    received = answers(client)
    assert "mine.wav cannot be read as sound" in received
    assert "best.ckpt" in received
    for path in (folder, run_folder.parent, Path.home(), Path(pytest.__file__).parent):
        assert str(path) not in received
    assert "Traceback" not in received


def test_why_there_are_no_test_mixtures_is_printed_and_not_sent(folder, extractor, checkpoint, monkeypatch, capsys):
    def missing(*_):
        raise InputError(f"No test mixtures: {checkpoint} is alone.")

    monkeypatch.setattr(server, "find_mixtures", missing)
    app = server.build_app(extractor, checkpoint, Limits(), folder, "testserver", is_local=True)
    from starlette.testclient import TestClient

    page = TestClient(app).get("/").text
    assert "There are no test mixtures" in page
    assert "is alone" not in page
    assert "is alone" in capsys.readouterr().err


def test_other_parts_of_gradio_are_not_served(client, checkpoint):
    for path in (
        "/gradio_api/proxy=https://elsewhere.example/",
        "/gradio_api/file=https://elsewhere.example/",
        f"/gradio_api/file={checkpoint}",
        "/gradio_api/upload_progress?upload_id=1",
        "/gradio_api/vibe-edit",
        "/gradio_api/process_recording",
        "/gradio_api/runs",
        "/gradio_api/info",
        "/gradio_api/call/extract",
        "/monitoring",
        "/docs",
        "/openapi.json",
    ):
        assert (client.get(path).status_code, client.post(path).status_code) == (404, 404), path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code == 404
        assert client.request(method, "/sounds/session/in.wav").status_code == 404
    assert client.get("/gradio_api/upload").status_code == 404


def test_websockets_are_rejected(client):
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/queue/join"):
        pass
