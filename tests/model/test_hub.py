import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.hub import COMMIT, Hub
from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import load_network
from tse_refine.model.hub import HubAddress, parse_address
from tse_refine.model.weights import find_checkpoint

CARD = {"licence": "CC-BY-4.0", "data": "tones of our own"}


@pytest.fixture
def trained(fixed_probabilities):
    """A network of two classes, untrained."""
    return fixed_probabilities({"dog": 0.9, "siren": 0.2}, 4000, 1.0)


@pytest.fixture
def published(hub, trained, tmp_path):
    """A Hub with the network in a repository, beside the same as a checkpoint with pickled parts."""
    trained.save(tmp_path / "model.safetensors", CARD)
    trained.save(tmp_path / "model.ckpt")
    hub.repositories["ann/sounds"] = {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
    hub.repositories["ann/pickled"] = {
        name: (tmp_path / "model.ckpt").read_bytes() for name in ("best.ckpt", "pytorch_model.bin")
    }
    return hub


def num_downloads(hub: Hub) -> int:
    return sum(method == "GET" and "/resolve/" in path for method, path in hub.requests)


@pytest.mark.parametrize("written", ["hf://ann/sounds", "hf://ann/sounds@v1", f"hf://ann/sounds@{COMMIT}"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_model_is_read_from_its_address(published, trained, written, kind):
    extractor = Extractor.load(kind(written), "cpu")
    assert extractor.class_names == trained.class_names
    revision = written.partition("@")[2] or "main"
    assert ("HEAD", f"/ann/sounds/resolve/{revision}/model.safetensors") in published.requests


def test_commands_take_the_address_in_place_of_a_checkpoint(published, capsys, tmp_path, record):
    main(["classes", "--checkpoint", "hf://ann/sounds"])
    assert capsys.readouterr().out == "dog\nsiren\n"
    words = ["--input", str(record()), "--query", "dog", "--output", str(tmp_path / "out.wav"), "--device", "cpu"]
    main(["extract", "--checkpoint", "hf://ann/sounds@v1", *words])
    assert (tmp_path / "out.wav").is_file()


def test_a_model_is_downloaded_once_and_works_offline_from_then_on(published, hub, monkeypatch):
    first = find_checkpoint("hf://ann/sounds")
    assert num_downloads(hub) == 1
    assert find_checkpoint("hf://ann/sounds") == first
    assert num_downloads(hub) == 1
    hub.repositories.clear()
    offline(monkeypatch)
    assert find_checkpoint("hf://ann/sounds") == first
    assert load_network("hf://ann/sounds").class_names == ("dog", "siren")


def offline(monkeypatch) -> None:
    """Let nothing answer any more, as without a network."""
    for module in ("constants", "file_download"):
        name = f"huggingface_hub.{module}.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(name, "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")


def test_without_a_network_and_a_cache_the_message_says_so(published, monkeypatch, refusal):
    offline(monkeypatch)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between several attempts
    message = refusal(main, ["classes", "--checkpoint", "hf://ann/sounds"], stdout="")
    assert message.startswith(
        "tse-refine: hf://ann/sounds: the Hub cannot be reached, and the model is not in the cache."
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://ann/nothing", "there is no such model, or you may not read it"),
        ("hf://ann/sounds@v9", "the model has no revision v9"),
        ("hf://ann/pickled", "it has no model.safetensors, and nothing else is read from there"),
        ("hf://sounds", r"hf://OWNER/NAME or hf://OWNER/NAME@REVISION is expected"),
        ("hf://ann/sounds/model.ckpt", "is not an address"),
        ("hf://ann/sounds@", "is not an address"),
        ("hf://ann/../../etc", "is not an address"),
    ],
)
def test_what_is_not_there_is_rejected_in_one_paragraph(published, refusal, address, message):
    assert message in refusal(main, ["classes", "--checkpoint", address], stdout="")
    assert num_downloads(published) == 0  # nothing pickled either


def test_another_program_s_weights_are_rejected(hub, tmp_path):
    import torch
    from safetensors.torch import save

    hub.repositories["ann/other"] = {"model.safetensors": save({"weight": torch.zeros(3)}, {"format": "pt"})}
    with pytest.raises(InputError, match=r"model.safetensors cannot be read as a checkpoint"):
        load_network("hf://ann/other")


def test_a_damaged_download_is_rejected(published):
    content = published.repositories["ann/sounds"]["model.safetensors"]
    published.repositories["ann/sounds"]["model.safetensors"] = content[:-100]
    with pytest.raises(InputError, match=r"model.safetensors cannot be read as a checkpoint"):
        load_network("hf://ann/sounds")


def test_without_the_library_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"hf://ann/sounds: .* install it with `pip install 'tse-refine\[hub\]'`"):
        find_checkpoint("hf://ann/sounds")


def test_an_address_survives_being_a_path():
    assert parse_address(Path("hf://ann/my.sounds-2@a/b")) == HubAddress("ann/my.sounds-2", "a/b")
    assert str(parse_address("hf://ann/sounds@v1")) == "hf://ann/sounds@v1"
    assert str(HubAddress("ann/sounds", None)) == "hf://ann/sounds"


def test_the_environment_decides_where_the_hub_is(published, tmp_path):
    environment = os.environ | {"HF_ENDPOINT": published.address, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "tse_refine", "classes", "--checkpoint", "hf://ann/sounds"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "dog\nsiren\n"), done.stderr
