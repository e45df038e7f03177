"""`push`: a model's folder, written or uploaded to a Hub on this machine."""

import json

import pytest

from tse_refine.cli.main import main
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.weights import read_card

CARD = {"licence": "CC-BY-4.0", "data": "tones of our own"}


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(CARD))
    return path


def test_what_is_pushed_can_be_used_from_its_address(hub, checkpoint, card, capsys):
    main(["push", str(checkpoint), "ann/sounds", "--card", str(card), "--private"])
    assert capsys.readouterr().out.startswith(f"{hub.address}/ann/sounds/commit/")
    assert ("POST", "/api/models/ann/sounds/commit/main") in hub.requests
    ((repository, summary, files),) = hub.commits
    assert (repository, summary, sorted(files)) == (
        "ann/sounds",
        "Upload by tse-refine",
        ["README.md", "model.safetensors"],
    )
    assert hub.created[0]["visibility"] == "private"
    extractor = Extractor.load("hf://ann/sounds", "cpu")
    assert extractor.class_names == Extractor.load(checkpoint, "cpu").class_names
    main(["push", "hf://ann/sounds", "ann/again"])  # with the card that it has already
    assert "tones of our own" in hub.repositories["ann/again"]["README.md"].decode()


def test_with_an_output_nothing_is_uploaded(hub, checkpoint, card, tmp_path, capsys, refusal):
    folder = tmp_path / "folder"
    words = ["push", str(checkpoint), "ann/sounds", "--card", str(card), "--output", str(folder)]
    main(words)
    assert capsys.readouterr().out == f"{folder}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.safetensors"]
    assert read_card(folder / "model.safetensors") == CARD
    assert not hub.requests
    assert "--overwrite" in refusal(main, words)
    main([*words, "--overwrite"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"licence": "MIT"}, "nothing states the data of this model"),
        ({"data": "tones"}, "nothing states the licence of this model"),
        ({"title": "tones"}, "nothing states the licence and the data"),
        (["MIT"], "is not a card"),
    ],
)
def test_without_licence_or_data_nothing_is_shared(hub, checkpoint, card, tmp_path, refusal, content, message):
    card.write_text(json.dumps(content))
    words = ["push", str(checkpoint), "ann/sounds", "--card", str(card)]
    assert message in refusal(main, words, stdout="")
    assert message in refusal(main, [*words, "--output", str(tmp_path / "folder")], stdout="")
    assert not (tmp_path / "folder").exists()
    assert not hub.requests


def test_a_rejected_upload_is_one_paragraph(hub, checkpoint, card, monkeypatch, refusal):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    message = refusal(main, ["push", str(checkpoint), "ann/sounds", "--card", str(card)], stdout="")
    assert "ann/sounds: the model cannot be uploaded" in message
    assert "`hf auth login`" in message
    assert "licence" in message
    assert "hf_wrong" not in message
    assert not hub.commits


@pytest.mark.parametrize("name", ["sounds", "ann/sounds/more", "ann/", "https://ann/sounds", "ann/..", "../up"])
def test_what_is_not_a_repository_is_rejected(checkpoint, card, refusal, name):
    message = refusal(main, ["push", str(checkpoint), name, "--card", str(card)])
    assert "OWNER/NAME is expected" in message


def test_without_a_network_nothing_is_uploaded_and_the_message_says_so(hub, checkpoint, card, monkeypatch, refusal):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # between several attempts
    message = refusal(main, ["push", str(checkpoint), "ann/sounds", "--card", str(card)], stdout="")
    assert "ann/sounds: the model cannot be uploaded" in message
