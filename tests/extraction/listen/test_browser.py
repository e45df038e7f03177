"""The page in a real browser, which may reach this machine only. `make test-browser` runs these."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile
import torch

from tse_refine.model.checkpoint import CHECKPOINT_KEY

pytestmark = pytest.mark.browser

PHONE, DESK = {"width": 375, "height": 800}, {"width": 1280, "height": 900}
# as root, without a network, and without background activity
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)


@pytest.fixture(scope="module")
def browser():
    """Chromium, by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make test-browser`")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no Chromium: install it, or set CHROMIUM to its path")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@contextmanager
def served(checkpoint: Path, folder: Path, *options: str) -> Iterator[str]:
    """Run the command, and stop it at the end; yield the page's address. Its temporary files are in ``folder``."""
    folder.mkdir()
    command = [sys.executable, "-m", "tse_refine", "listen", "--checkpoint", str(checkpoint), "--port", "0", *options]
    with open(folder.parent / "stderr.txt", "w+") as stderr:
        server = subprocess.Popen(
            [*command, "--device", "cpu"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=os.environ | {"TMPDIR": str(folder)},
        )
        try:
            address = server.stdout.readline().strip()
            stderr.seek(0)
            assert address.startswith("http://127.0.0.1:"), stderr.read()
            yield address
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=30)
    assert server.returncode == 0
    assert not list(folder.glob("tse-refine-listen-*")), "the temporary folder is still there"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory) -> Path:
    """The folder for the server's temporary files."""
    return tmp_path_factory.mktemp("served") / "temporary"


@pytest.fixture(scope="module")
def address_of(browser, temporary: Path) -> Iterator[Callable]:
    """Serve the first checkpoint for all tests, which have equal ones: starting takes long, and visitors are many."""
    with ExitStack() as stack:
        addresses: list[str] = []

        def address(checkpoint: Path) -> str:
            if not addresses:
                addresses.append(stack.enter_context(served(checkpoint, temporary, "--max-megabytes", "1")))
            return addresses[0]

        yield address


@pytest.fixture
def address(address_of: Callable, checkpoint: Path) -> str:
    """The address of the page."""
    return address_of(checkpoint)


@pytest.fixture
def opened(browser) -> Iterator[Callable]:
    """Open pages; all their requests must go to this machine."""
    contexts, requests = [], []

    def open_page(address: str, viewport: dict[str, int] = DESK):
        context = browser.new_context(viewport=viewport, permissions=["microphone"])
        contexts.append(context)
        context.on("request", lambda request: requests.append(request.url))
        page = context.new_page()
        page.on("websocket", lambda socket: requests.append(socket.url))
        page.on("pageerror", lambda error: requests.append(f"error: {error}"))
        page.goto(address)
        page.get_by_role("button", name="Extract").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    hosts = {urlsplit(url.removeprefix("blob:")).hostname or urlsplit(url).scheme for url in requests}
    assert len(requests) > 20
    assert hosts <= {"127.0.0.1", "data"}, requests


def upload(page, path: Path) -> None:
    page.locator("#sound input[type=file]").set_input_files(path)


def tick(page, *names: str) -> None:
    for name in names:
        page.get_by_label(name, exact=True).check()


def table(page) -> dict[str, str]:
    """Return the state of each class."""
    return dict(
        page.locator(".listen-table tbody tr").evaluate_all(
            "rows => rows.map(row => [row.dataset.class, row.querySelector('.listen-state').textContent])"
        )
    )


def wait_for_table(page, name: str, state: str) -> None:
    page.locator(f'tr[data-class="{name}"] .listen-state', has_text=state).wait_for()


def durations(page) -> list[float]:
    """Return the seconds of each player, once all have read their files' headers."""
    return page.wait_for_function(
        """() => {
            const all = [...document.querySelectorAll(".listen-card audio")];
            return all.every((audio) => audio.readyState >= 1) && all.map((audio) => audio.duration);
        }"""
    ).json_value()


def click_threshold(page, share: float) -> None:
    box = page.locator("#threshold input[type=range]").bounding_box()
    page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)


def test_a_recording_is_uploaded_queried_refined_played_and_saved(opened, address, record, tmp_path):
    page = opened(address)
    path = record("street.wav", samples=3 * 44_100, channels=2, rate=44_100, level=3e-4)
    original, _ = soundfile.read(path, dtype="int16")
    upload(page, path)
    page.get_by_text("street.wav: 3.0 s, stereo, 44.1 kHz.").wait_for()
    tick(page, "alarm", "bell", "dog")
    wait_for_table(page, "dog", "removed")
    assert {name: state for name, state in table(page).items() if state != "–"} == {
        "alarm": "kept",
        "bell": "kept",
        "dog": "removed",
    }
    page.get_by_role("button", name="Extract").click()
    page.get_by_role("heading", name="Refined query").wait_for()
    assert page.locator(".listen-card h2").all_inner_texts() == ["Mixture", "Raw query", "Refined query"]

    click_threshold(page, 0.75)  # above the bell's 0.6: it is removed in the table and then in the extraction
    wait_for_table(page, "bell", "removed")
    assert table(page)["alarm"] == "kept"
    page.get_by_text("threshold 0.7").wait_for()
    removed = page.locator(".listen-card").last.locator(".removed")
    assert removed.all_text_contents() == ["bell (removed)", "dog (removed)"]

    lanes = page.locator(".listen-card").first.locator(".listen-lane")
    assert page.locator(".listen-card").first.locator(".listen-name").all_text_contents() == ["alarm", "bell"]
    picture, event = (page.locator(place).first.bounding_box() for place in (".listen-picture", ".listen-lane span"))
    for side in ("x", "width"):  # both classes sound from start to end
        assert event[side] == pytest.approx(picture[side], abs=1)

    players = page.locator(".listen-card audio")
    assert durations(page) == pytest.approx([3.0] * 3)
    page.locator(".listen-picture").first.click()  # goes on from the middle
    page.wait_for_function("document.querySelector('.listen-card audio').currentTime > 1.7")
    lanes.last.click()  # which starts it again there, so that it is behind where it was
    page.wait_for_function("Math.abs(document.querySelector('.listen-card audio').currentTime - 1.6) < 0.1")
    page.locator(".listen-picture").nth(1).click()
    page.wait_for_function("document.querySelectorAll('.listen-card audio')[1].currentTime > 1.7")
    assert players.evaluate_all("all => all.map(audio => audio.paused)") == [True, False, True]  # one at a time

    with page.expect_download() as saving:
        page.get_by_role("link", name="Save Mixture as WAV").click()
    assert saving.value.suggested_filename == "street - mixture.wav"
    saving.value.save_as(tmp_path / "saved.wav")
    saved, rate = soundfile.read(tmp_path / "saved.wav", dtype="int16")
    assert rate == 44_100
    assert np.abs(saved.astype(int) - original).max() <= 1  # near silence is still near silence
    with page.expect_download() as saving:
        page.get_by_role("link", name="Save Refined query as WAV").click()
    saving.value.save_as(tmp_path / "refined.wav")
    assert soundfile.info(tmp_path / "refined.wav").samplerate == 44_100
    assert soundfile.info(tmp_path / "refined.wav").frames == len(original)


def test_a_test_mixture_has_a_target_and_scores_and_fits_a_phone(opened, address):
    page = opened(address, PHONE)
    page.get_by_role("button", name="Load a test mixture").click()
    page.locator(".listen-card").first.wait_for()
    active = page.locator(".listen-card .listen-chips li").all_inner_texts()
    assert len(active) >= 3
    tick(page, *active[:2])
    page.get_by_role("button", name="Extract").click()
    page.get_by_role("heading", name="Refined query").wait_for()
    assert page.locator(".listen-card h2").all_inner_texts()[:2] == ["Mixture", "Target"]
    assert page.get_by_text("SNRi").count() >= 2
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["width"]
    for card in page.locator(".listen-card").all():
        box = card.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]


def test_a_recording_from_the_microphone_is_loaded(opened, address):
    page = opened(address)
    page.get_by_role("button", name="Record audio").click()
    recorder = page.locator("#sound")
    recorder.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    recorder.get_by_role("button", name="Stop", exact=True).last.click()
    page.locator(".listen-card audio").wait_for()
    (seconds,) = durations(page)
    assert seconds > 1.0


def test_invalid_and_large_uploads_are_rejected_with_a_message(opened, address, record):
    page = opened(address)
    path = record("fine.wav")
    text = path.with_name("text.wav")
    text.write_text("not a sound")
    upload(page, text)
    page.get_by_role("alert").filter(has_text="text.wav cannot be read as sound").wait_for()
    upload(page, record("large.wav", samples=600_000))
    page.get_by_text('exceed the maximum allowed size of 1.0 Mb: "large.wav"').wait_for()
    upload(page, path)  # and the page goes on
    page.get_by_text("fine.wav: 1.5 s, mono, 4 kHz.").wait_for()
    page.get_by_role("button", name="Extract").click()
    page.get_by_role("alert").filter(has_text="tick one class or more").wait_for()


def test_files_are_removed_when_the_sound_is_replaced_and_when_the_tab_is_closed(opened, address, record, temporary):
    def files() -> list[str]:
        names = sorted(path.name for path in temporary.rglob("*.wav"))
        return [name for name in names if name.startswith(("first", "second"))]  # those of other tests are closing

    page = opened(address)
    for name in ("first", "second"):
        upload(page, record(f"{name}.wav"))
        page.get_by_text(f"{name}.wav: 1.5 s").wait_for()
        assert files() == [f"{name} - mixture.wav"]
    page.close()
    other = opened(address)
    for _ in range(100):
        if not files():
            break
        other.wait_for_timeout(100)
    assert files() == []


def test_two_visitors_may_upload_equal_files_at_the_same_time(opened, address, record):
    path = record("same.wav")
    pages = [opened(address), opened(address)]
    for page in pages:
        upload(page, path)
    for page in pages:
        page.get_by_text("same.wav: 1.5 s, mono, 4 kHz.").wait_for()


ATTACK = """async (address) => {
    const form = new FormData();
    form.append("files", new Blob(["sound"]), "foreign.wav");
    const image = new Image();
    const shown = new Promise((done) => { image.onload = image.onerror = (event) => done(event.type); });
    image.src = address + "favicon.ico";
    const read = await fetch(address + "config").then((answer) => answer.text(), (error) => error.name);
    const sent = { method: "POST", mode: "no-cors", body: form };
    const stored = await fetch(address + "gradio_api/upload", sent).then(() => "stored", (error) => error.name);
    return [read, stored, await shown];
}"""


def test_a_page_at_another_port_can_neither_read_answers_nor_store_files(browser, address, temporary):
    page = browser.new_page()
    other = "http://127.0.0.1:8999/"
    page.route(other, lambda route: route.fulfill(body="<title>another page</title>", content_type="text/html"))
    page.goto(other)
    assert page.evaluate(ATTACK, address) == ["TypeError", "TypeError", "error"]
    assert not list(temporary.rglob("foreign.wav"))
    page.goto(address)  # a link to the page works
    page.get_by_role("button", name="Extract").wait_for()
    page.close()


def test_a_baseline_explains_that_it_cannot_refine(opened, browser, trained_baseline, checkpoint, record, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    network = trained_baseline.network
    content["state_dict"] = {f"network.{name}": value for name, value in network.state_dict().items()}
    content[CHECKPOINT_KEY]["network"]["classifier"] = None
    torch.save(content, checkpoint)
    with served(checkpoint, tmp_path / "temporary") as address:
        page = opened(address)
        page.get_by_text("cannot refine it").wait_for()
        assert not page.locator("#threshold").is_visible()
        upload(page, record("street.wav"))
        tick(page, "dog")
        page.get_by_role("button", name="Extract").click()
        page.get_by_role("heading", name="Raw query").wait_for()
        assert page.locator(".listen-card").count() == 2
        page.close()
