import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tse_refine.cli.main import main
from tse_refine.data.corpora import SyntheticSounds
from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.model import weights
from tse_refine.model.checkpoint import load_network
from tse_refine.model.weights import DEFAULT_MODEL, find_checkpoint, shipped_models

DOCS = Path(__file__).parents[2] / "docs"
CARD = {"licence": "CC BY 4.0", "data": "tones of our own"}


@pytest.fixture
def trained(fixed_probabilities):
    """A network of two classes, untrained."""
    return replace(fixed_probabilities({"dog": 0.9, "siren": 0.2}, 4000, 1.0), recommended_threshold="soft:0.2-0.6")


@pytest.fixture
def shipped(trained, tmp_path, monkeypatch):
    """A folder in the place of the package's, with one model in it."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    trained.save(folder / "tiny.safetensors", CARD)
    monkeypatch.setattr(weights, "FOLDER", folder)
    return folder


def rewrite(path: Path, change):
    """Write the file again with changed metadata."""
    metadata = {"tse_refine": json.dumps({"class_names": ["dog"]}), "card": "{}"}
    change(metadata)
    save_file(load_file(path), path, metadata)


def test_the_models_of_the_package_are_small_documented_and_extract():
    models = {model.name: model for model in shipped_models()}
    assert DEFAULT_MODEL in models
    for name, model in models.items():
        assert model.path.stat().st_size <= 5_000_000
        assert {"licence", "data", "scores"} <= model.card.keys()
        assert (DOCS / "models" / f"{name}.md").is_file()
        extractor = Extractor.load(name)
        noise = 0.1 * np.random.default_rng(0).standard_normal(2 * model.sample_rate)
        extraction = extractor.extract(noise, model.sample_rate, model.class_names[0], threshold=0.0)
        assert np.isfinite(extraction.waveform).all()
        assert extraction.waveform.any()


def test_the_default_model_extracts_a_synthesised_dog_and_no_siren():
    """Of real dogs alone it has learned what a dog is."""
    corpus = SyntheticSounds(1, 1, 1)
    clip = next(clip for clip in corpus.clips() if clip.label == "dog" and clip.split == "test")
    samples, rate = corpus.read(clip)
    dog = samples[: 3 * rate, 0]
    extraction = Extractor.load(DEFAULT_MODEL).extract(dog, rate, ["dog", "siren"])
    assert extraction.refined_query == ("dog",)
    assert 10 * np.log10(np.sum(dog**2) / np.sum((dog - extraction.waveform) ** 2)) > 3.0


def test_a_file_in_safetensors_holds_everything_of_a_network(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    trained.save(path, CARD)
    read = load_network(path)
    assert (read.class_names, read.sample_rate, read.duration_seconds) == (trained.class_names, 4000, 1.0)
    assert read.recommended_threshold == "soft:0.2-0.6"
    mixture, query = torch.randn(2, 1000), torch.eye(2)
    assert torch.equal(read.network(mixture, query)[0], trained.network(mixture, query)[0])


def test_a_model_is_found_by_its_name_and_a_file_goes_before_it(shipped, trained, tmp_path, monkeypatch):
    assert find_checkpoint("tiny") == shipped / "tiny.safetensors"
    assert Extractor.load("tiny").class_names == ("dog", "siren")
    monkeypatch.chdir(tmp_path)
    Path("tiny").touch()
    assert find_checkpoint("tiny") == Path("tiny")
    assert find_checkpoint("runs/tiny") == Path("runs/tiny")


def test_an_unknown_name_is_rejected_with_the_nearest_one(shipped):
    with pytest.raises(InputError, match=r"tinny: there is no such file, and no model .* did you mean 'tiny'\?"):
        Extractor.load("tinny")


def test_models_are_listed_with_their_cards(shipped, capsys, refusal):
    (model,) = shipped_models()
    assert (model.name, model.sample_rate, model.recommended, model.card) == ("tiny", 4000, "soft:0.2-0.6", CARD)
    main(["models"])
    assert "tiny   CC BY 4.0        2  4000  soft:0.2-0.6" in capsys.readouterr().out
    main(["models", "tiny"])
    assert capsys.readouterr().out.splitlines() == [
        "licence: CC BY 4.0",
        "data: tones of our own",
        "classes: dog, siren",
    ]
    assert "'tinny' is not a model of this package; did you mean 'tiny'?" in refusal(main, ["models", "tinny"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda about: about.pop("tse_refine"), "its metadata have no tse_refine"),
        (lambda about: about.update(tse_refine="{"), "Expecting property name"),
        (lambda about: about.update(tse_refine=json.dumps({"class_names": ["dog", "dog"]})), "'dog' occurs twice"),
    ],
)
def test_a_file_that_is_not_of_this_package_is_rejected_by_name(trained, shipped, tmp_path, change, problem):
    path = shipped / "tiny.safetensors"
    rewrite(path, change)
    with pytest.raises(InputError, match=problem):
        load_network(path)
    with pytest.raises(InputError, match=problem):
        shipped_models()


def test_a_file_that_is_cut_off_is_rejected_by_name(shipped):
    path = shipped / "tiny.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"tiny\.safetensors cannot be read as a checkpoint"):
        load_network(path)


def test_a_run_is_exported_with_a_card_and_tested_from_the_file(tiny_config_file, tmp_path, capsys):
    main(["fit", "-c", str(tiny_config_file)])
    checkpoint, path = tmp_path / "run" / "checkpoints" / "best.ckpt", tmp_path / "model.safetensors"
    card = tmp_path / "card.json"
    card.write_text(json.dumps(CARD))
    main(["export", "--checkpoint", str(checkpoint), "--output", str(path), "--card", str(card), "--threshold=0.25"])
    assert load_network(path).recommended_threshold == 0.25
    results = []
    for given in (checkpoint, path):
        main(["test", "-c", str(tiny_config_file), f"--ckpt_path={given}"])
        results.append((tmp_path / "run" / "test" / "results.csv").read_text())
    assert results[0] == results[1]
    tested = yaml.safe_load((tmp_path / "run" / "test" / "config.yaml").read_text())
    assert tested["ckpt_path"] == str(path)


def test_weights_alone_cannot_be_resumed_but_start_a_training(trained, tiny_config_file, tmp_path, refusal):
    path = tmp_path / "model.safetensors"
    trained.save(path)
    message = refusal(main, ["fit", "-c", str(tiny_config_file), f"--ckpt_path={path}"])
    assert f"start a new one from them with --model.init_from {path}" in message


@pytest.mark.parametrize("text", ["[]", '{"licence": 3}', "{", '{"licence": "two\\nlines"}'])
def test_a_card_is_texts_by_heading(trained, tmp_path, text, refusal):
    checkpoint, card = tmp_path / "x.ckpt", tmp_path / "card.json"
    trained.save(checkpoint)
    card.write_text(text)
    words = ["export", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "m.safetensors")]
    assert "--card" in refusal(main, [*words, "--card", str(card)])
    assert not (tmp_path / "m.safetensors").exists()


def test_other_formats_have_no_place_for_a_card(trained, tmp_path, refusal):
    checkpoint = tmp_path / "x.ckpt"
    trained.save(checkpoint)
    words = ["export", "--checkpoint", str(checkpoint), "--output", str(tmp_path / "m.onnx"), "--card", "card.json"]
    assert "--card is for files in safetensors" in refusal(main, words)
