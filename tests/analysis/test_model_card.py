import copy
import dataclasses
import os
import re
import shutil

import pytest
import torch
import yaml

from tests.fixtures.runs import CLASSES
from tse_refine.analysis.model_card import find_source, write_model
from tse_refine.errors import InputError
from tse_refine.model.checkpoint import weights_digest
from tse_refine.model.weights import DEFAULT_MODEL, find_checkpoint, read_card

CARD = {"licence": "CC-BY-4.0", "data": "tones of our own"}


@pytest.fixture
def trained(fixed_probabilities):
    return dataclasses.replace(fixed_probabilities(dict.fromkeys(CLASSES, 0.5), 8000, 2.0), recommended_threshold=0.3)


@pytest.fixture
def run(make_run, trained):
    """A run whose best checkpoint was tested, with another one."""
    folder = make_run("tones", weights=weights_digest(trained.network))
    trained.save(folder / "checkpoints" / "best.ckpt")
    other = copy.deepcopy(trained)
    torch.nn.init.zeros_(other.network.decoder.weight)
    other.save(folder / "checkpoints" / "other.ckpt")
    return folder


@pytest.fixture
def written(tmp_path):
    """Write a model's folder and return the text of its card."""

    def write(source, **card: str) -> str:
        write_model(source, tmp_path, "ann/sounds", {**CARD, **card})
        return (tmp_path / "README.md").read_text()

    return write


def front(text: str) -> dict:
    """Return what the Hub reads of a card."""
    return yaml.safe_load(re.fullmatch(r"---\n(.*?)---\n.*", text, re.DOTALL)[1])


def test_the_card_of_a_run_states_use_data_licence_scores_and_limits(run, written):
    text = written(run, limits="Sirens are not found.", contact="ann@example.org")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Licence", "Data", "Scores", "Limits", "Contact"]
    assert "tse-refine extract --checkpoint hf://ann/sounds --input yours.wav" in text
    assert "Classes: bell, dog, glass, rain, siren, tram." in text
    table = (line for line in text.splitlines() if line.startswith("| Proposed"))
    assert any("δ = 0.3" in line and re.search(r"\d\.\d\d \[", line) for line in table)
    assert "macro F1 of events" in text
    assert "nothing above 4 kHz" in text
    assert "Sirens are not found." in text
    assert "with the recall of the classifier: bell (100 %), dog (100 %)" in text
    assert str(run.parent) not in text  # nothing of this machine


def test_scores_are_those_of_the_weights_that_were_tested(run, written):
    best, other, again = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "other", "again"))
    assert find_source(run)[0] == find_source(best)[0] == best
    shutil.copy(best, again)
    for source in (run, best, again):
        assert "δ = 0.3" in written(source)
    assert "Not measured" in written(other)
    shutil.copyfile(other, best)  # as a training that goes on after its test does
    os.utime(best, (0, 0))
    for source in (run, best):
        assert "δ = 0.3" not in (text := written(source))
        assert "Not measured" in text


def test_of_a_test_that_recorded_no_weights_path_and_time_tell(make_run, trained, written):
    run = make_run("old")
    best, other = (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "other"))
    for path in (best, other):
        trained.save(path)
        os.utime(path, (0, 0))
    assert "δ = 0.3" in written(best)
    assert "Not measured" in written(other)
    (run / "test" / "config.yaml").write_text(
        (run / "config.yaml").read_text() + "ckpt_path: /gone/checkpoints/other.ckpt\n"
    )
    assert find_source(run)[0] == other
    assert "δ = 0.3" in written(other)
    trained.save(other)
    assert "Not measured" in written(run)


def test_the_limits_are_those_of_the_checkpoint_s_own_refinement(make_run, trained, written):
    weights = weights_digest(trained.network)
    run = make_run("calibrated", weights=weights, falls={"none": 2.0, 0.3: 0.5, 0.9: 0.5, "oracle": 0.0})
    trained.save(run / "checkpoints" / "best.ckpt")
    own = dataclasses.replace(trained, recommended_threshold=0.9)  # above every probability
    own.save(run / "checkpoints" / "calibrated.ckpt")
    config = (run / "config.yaml").read_text()
    for name, recall in (("best", 100), ("calibrated", 0)):
        (run / "test" / "config.yaml").write_text(f"{config}ckpt_path: checkpoints/{name}.ckpt\n")
        assert f"bell ({recall} %)" in written(run)


def test_a_shipped_model_brings_its_own_card(tmp_path):
    write_model(DEFAULT_MODEL, tmp_path, "ann/copy")
    text = (tmp_path / "README.md").read_text()
    assert "non-commercial use only" in text
    assert "SNRi on 400 test mixtures" in text
    assert read_card(tmp_path / "model.safetensors") == read_card(find_checkpoint(DEFAULT_MODEL))


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("MIT", {"license": "mit"}),
        ("Proprietary", {"license": "other", "license_name": "proprietary"}),
        ("CC-BY-5.0", {"license": "other", "license_name": "cc-by-5.0"}),
        ("非商用", {"license": "other", "license_name": "other"}),
        ("non-commercial use: only!", {"license": "other", "license_name": "non-commercial-use-only"}),
    ],
)
def test_the_hub_reads_the_licence(run, written, licence, expected):
    found = front(written(run / "checkpoints" / "other.ckpt", licence=licence))
    assert {name: value for name, value in found.items() if name.startswith("license")} == expected
    assert found["library_name"] == "tse-refine"


def test_a_folder_without_a_checkpoint_is_rejected(tmp_path, make_run):
    for folder in (tmp_path, make_run("empty")):
        with pytest.raises(InputError, match=r"best\.ckpt does not exist; give the folder of a run"):
            find_source(folder)


def test_a_classifier_alone_is_not_shared(trained, tmp_path):
    dataclasses.replace(trained, extracts=False).save(tmp_path / "best.ckpt")
    with pytest.raises(InputError, match="classifier alone"):
        write_model(tmp_path / "best.ckpt", tmp_path, "ann/sounds", CARD)
