"""The files of exported models, the command that writes them, and the examples of their use."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from onnxscript import ir

import tse_refine
from tests.fixtures.exports import CLASSES, RATE, SIZES, expected, export, inputs_of, write_checkpoint
from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.extraction.export import check_recurrences, export_checkpoint, metadata
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Network
from tse_refine.refinement import SoftThreshold

pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch reading its own files

DOCS = Path(__file__).parents[3] / "docs" / "export.md"


def test_a_model_with_a_fixed_refinement_has_no_other_inputs_and_states_it(fixed_model):
    assert set(inputs_of(fixed_model, 9)) == {"mixture", "query"}
    if fixed_model.path.suffix == ".onnx":
        onnx.checker.check_model(str(fixed_model.path), full_check=True)
        session = onnxruntime.InferenceSession(fixed_model.path)
        assert [value.name for value in session.get_inputs()] == ["mixture", "query"]
        rows = ["batch", len(CLASSES)]
        assert [value.shape for value in session.get_outputs()] == [["batch", "samples"], rows, rows]
        stored = json.loads(session.get_modelmeta().custom_metadata_map["refinement"])
    else:
        extra = {"metadata.json": ""}
        torch.export.load(fixed_model.path, extra_files=extra)
        stored = json.loads(extra["metadata.json"])["refinement"]
    assert stored == fixed_model.refinement.name


def test_an_onnx_file_is_valid_and_names_its_inputs_outputs_and_axes(onnx_model):
    onnx.checker.check_model(str(onnx_model.path), full_check=True)
    session = onnxruntime.InferenceSession(onnx_model.path)
    rows, signals = ["batch", len(CLASSES)], ["batch", "samples"]
    inputs, outputs = {"mixture": signals, "query": rows}, {"estimate": signals}
    if onnx_model.network.classifier is not None:
        inputs |= {"threshold": []}
        outputs |= {"probability": rows, "refined_query": rows}
    assert {value.name: value.shape for value in session.get_inputs()} == inputs
    assert {value.name: value.shape for value in session.get_outputs()} == outputs


@pytest.mark.parametrize(("size", "threshold"), [("pooled", 0.2), ("no classifier", None)])
def test_a_file_has_the_metadata_that_its_use_needs(models, size, threshold):
    described = {
        "class_names": CLASSES,
        "sample_rate": RATE,
        "recommended_threshold": threshold,
        "duration_seconds": 2.0,
        "tse_refine_version": tse_refine.__version__,
    }
    stored = onnxruntime.InferenceSession(models[size, "onnx"].path).get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in stored.items()} == described
    extra = {"metadata.json": ""}
    torch.export.load(models[size, "torch"].path, extra_files=extra)
    assert json.loads(extra["metadata.json"]) == described


def test_metadata_have_the_aliases_of_classes(fixed_probabilities):
    trained = replace(fixed_probabilities({"dog": 0.5, "siren": 0.5}, RATE, 1.0), aliases={"dog": ("Bark",)})
    assert metadata(trained)["aliases"] == {"dog": ["Bark"]}


def test_a_file_contains_no_path_of_the_machine(models):
    here = str(Path(tse_refine.__file__).parent).encode()
    assert here not in models["pooled", "onnx"].path.read_bytes()
    with zipfile.ZipFile(models["pooled", "torch"].path) as archive:
        assert not [name for name in archive.namelist() if here in archive.read(name)]


@pytest.fixture
def rejection(tmp_path, refusal):
    """Return the message of a rejected export, which must leave no new file."""

    def call(**options):
        options = {"checkpoint": tmp_path / "best.ckpt", "output": tmp_path / "model.onnx"} | options
        before = sorted(tmp_path.rglob("*"))
        words = (str(word) for name, value in options.items() for word in (f"--{name}", value))
        message = refusal(main, ["export", *words], stdout="")
        assert sorted(tmp_path.rglob("*")) == before
        return message

    return call


def test_checkpoints_that_cannot_be_used_are_rejected(rejection, tmp_path):
    assert "best.ckpt does not exist" in rejection()
    torch.save({"state_dict": {}}, tmp_path / "best.ckpt")
    assert "was not written by tse-refine" in rejection()
    write_checkpoint(tmp_path / "best.ckpt", SIZES["no classifier"])
    content = (tmp_path / "best.ckpt").read_bytes()
    (tmp_path / "best.ckpt").write_bytes(content[:-1000])
    assert "cannot be read as a checkpoint" in rejection()


def test_a_file_that_exists_or_has_another_suffix_is_rejected(rejection, tmp_path):
    (tmp_path / "model.onnx").write_text("mine")
    assert "model.onnx exists; name another file or replace it with --overwrite" in rejection()
    assert (tmp_path / "model.onnx").read_text() == "mine"
    assert "a file of the format torch ends in .pt2" in rejection(format="torch")
    assert "a file of the format onnx ends in .onnx" in rejection(output=tmp_path / "model")
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx is a folder" in rejection(output=tmp_path / "folder.onnx")


@pytest.mark.parametrize(
    ("size", "threshold", "message"),
    [
        ("pooled", "oracle", "'oracle' needs the true activity"),
        ("pooled", "7", "threshold: '7' is not a valid refinement: the threshold is 7; a number from 0 to 1"),
        ("no classifier", "soft:0.2-0.6", "no classifier (a baseline), so that its model cannot refine"),
        ("no classifier", "none", "no classifier (a baseline), so that its model cannot refine"),
    ],
)
def test_a_fixed_refinement_that_the_model_cannot_have_is_rejected(rejection, tmp_path, size, threshold, message):
    write_checkpoint(tmp_path / "best.ckpt", SIZES[size])
    assert message in rejection(threshold=threshold)


def test_an_existing_file_is_replaced_with_overwrite_and_a_missing_classifier_is_reported(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", SIZES["no classifier"])
    output = tmp_path / "model.pt2"
    output.write_text("existing")
    main(["export", "--checkpoint", str(checkpoint), "--output", str(output), "--format", "torch", "--overwrite"])
    assert zipfile.is_zipfile(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "model.pt2"]
    printed = capsys.readouterr()
    assert printed.out == f"{output}\n"
    assert "no classifier, so that the model has no input for a threshold" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(rejection, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    text = rejection()
    assert package in text
    assert "pip install 'tse-refine[export]'" in text


def test_a_translation_of_grus_that_differs_from_pytorch_is_rejected(models):
    model = ir.load(models["pooled", "onnx"].path)
    check_recurrences(model)
    for node in model.graph:
        node.attributes.pop("linear_before_reset", None)  # as onnxscript 0.7.0 and older write them
    with pytest.raises(tse_refine.InputError, match=r"onnxscript translates GRUs wrongly; 0\.7\.1"):
        check_recurrences(model)


@pytest.mark.parametrize("refinement", [None, SoftThreshold(0.1, 0.9)])
@pytest.mark.parametrize(
    ("number", "file_format", "unused"), [(0, "onnx", {"tse_refine", "torch"}), (1, "torch", {"tse_refine"})]
)
def test_the_examples_of_the_docs_run_without_this_package(number, file_format, unused, refinement, models, tmp_path):
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[number]
    if refinement is None:
        model = models["pooled", file_format]
        shutil.copy(model.path, tmp_path / f"model{model.path.suffix}")
    else:
        checkpoint = write_checkpoint(tmp_path / "model.ckpt", SIZES["pooled"], refinement.name)
        model = export(checkpoint, file_format, refinement)
    mixture = inputs_of(model, 9001, batch=1)["mixture"]
    soundfile.write(tmp_path / "street.wav", mixture[0].numpy(), RATE, subtype="FLOAT")
    check = f"\nimport sys; assert not {unused} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = expected(model, mixture, torch.tensor([[0.0, 1.0, 0.0, 1.0]]), torch.tensor(0.2))
    kept = [name for name, weight in zip(CLASSES, wanted["refined_query"][0], strict=True) if weight >= 0.5]
    assert kept == ["dog"]  # one class was kept, and one removed
    assert done.stdout == f"{kept}\n"
    estimate, rate = soundfile.read(tmp_path / "estimate.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(estimate, wanted["estimate"][0], rtol=0.0, atol=1e-6)


def test_a_recommended_refinement_that_is_not_the_model_s_input_is_reported(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", SIZES["every frame, no skip path"], "soft:0.2-0.6")
    export(checkpoint, "torch")
    assert "--threshold soft:0.2-0.6 makes it a part of the model" in capsys.readouterr().err
    export(checkpoint, "torch", SoftThreshold(0.2, 0.6), "--overwrite")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("stored", "written"), [(None, 0.1), (0.3, 0.3), ("soft:0.20-0.6", "soft:0.2-0.6")])
def test_the_recommended_threshold_is_written_as_in_yaml(tiny_network_config, stored, written):
    network = Network(2, 8000, tiny_network_config)
    assert metadata(TrainedNetwork(network, ("a", "b"), 8000, stored))["recommended_threshold"] == written


def test_an_output_below_a_file_is_rejected_first(tmp_path):
    (tmp_path / "text").touch()
    with pytest.raises(InputError, match=r"text is not a folder; name another file"):
        export_checkpoint(tmp_path / "no.ckpt", tmp_path / "text" / "model.pt2", "torch")
