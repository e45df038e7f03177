"""Exported models against their networks, in onnxruntime and in PyTorch."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from onnxscript import ir

import tse_refine
from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.extraction.export import check_recurrences, export_checkpoint, metadata
from tse_refine.model.checkpoint import TrainedNetwork, load_network
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.refinement import Gate, NoRefinement, Refinement, SoftThreshold, Threshold

pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch reading its own files

CLASSES = ["alarm", "dog", "Türklingel", "siren"]  # those of docs/export.md, and one that is not ASCII
RATE = 8000
SMALL = {"window_ms": 10.0, "bottleneck_channels": 8, "hidden_channels": 8, "mask_stacks": 1}
SIZES = {
    # many filters, so that sums over a minute are too long for one float32
    "pooled": NetworkConfig(
        **SMALL,
        num_filters=128,
        skip_channels=8,
        blocks_per_stack=2,
        classifier_pooling=4,
        classifier=ClassifierConfig(2),
        classifier_hidden_size=5,
    ),
    "every frame, no skip path": NetworkConfig(
        **SMALL, num_filters=8, skip_channels=None, blocks_per_stack=1, classifier=ClassifierConfig(1)
    ),
    "no classifier": NetworkConfig(**SMALL, num_filters=8, skip_channels=8, blocks_per_stack=1),
}
EXPORTS = [(size, "onnx") for size in SIZES] + [(size, "torch") for size in ("pooled", "no classifier")]
# frames are 40 samples apart, pools of the first network four frames; exports are made with 8003 samples
LENGTHS = [1, 2, 39, 40, 41, 120, 121, 160, 161, 1000, 7999, 8003, 16_000, 25_001]
THRESHOLDS = [0.0, 0.2, 0.5, 0.8, 1.0]
FIXED = [
    (SoftThreshold(0.4, 0.9), "onnx"),
    (SoftThreshold(0.4, 0.9), "torch"),
    (Threshold(0.45), "torch"),
    (Gate(0.45), "onnx"),
    (NoRefinement(), "onnx"),
    (NoRefinement(), "torch"),
]
FIXED_NAMES = [f"{refinement.name}-{file_format}" for refinement, file_format in FIXED]
SUFFIX = {"onnx": ".onnx", "torch": ".pt2"}
DOCS = Path(__file__).parents[2] / "docs" / "export.md"


def write_checkpoint(path, config, threshold=0.2):
    torch.manual_seed(8)  # noise then makes dog probable and siren not, of the first network's classes
    network = Network(len(CLASSES), RATE, config)
    if network.classifier is not None:
        torch.nn.init.normal_(network.classifier.linear.weight, std=3.0)  # probabilities near 0 and 1
    recommended = None if network.classifier is None else threshold
    TrainedNetwork(network, tuple(CLASSES), RATE, recommended, duration_seconds=2.0).save(path)
    return path


@dataclass
class Model:
    """An exported model, its network, and its fixed refinement."""

    path: Path
    network: Network
    run: Callable[..., dict[str, torch.Tensor]]
    refinement: Refinement | None = None


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Exports of every size."""
    folder = tmp_path_factory.mktemp("exported")
    exported = {}
    for size, file_format in EXPORTS:
        checkpoint = write_checkpoint(folder / f"{size}.ckpt", SIZES[size])
        path = folder / (size + SUFFIX[file_format])
        main(["export", "--checkpoint", str(checkpoint), "--output", str(path), "--format", file_format])
        exported[size, file_format] = Model(path, load_network(checkpoint).network, LOAD[file_format](path))
    return exported


@pytest.fixture(scope="module", params=FIXED, ids=FIXED_NAMES)
def fixed_model(request, tmp_path_factory):
    """An export with a fixed refinement."""
    refinement, file_format = request.param
    folder = tmp_path_factory.mktemp("fixed")
    path = folder / f"model{SUFFIX[file_format]}"
    checkpoint = write_checkpoint(folder / "best.ckpt", SIZES["every frame, no skip path"], threshold=0.45)
    words = ["export", "--checkpoint", checkpoint, "--output", path, "--format", file_format]
    main([*map(str, words), "--threshold", refinement.name])
    return Model(path, load_network(checkpoint).network, LOAD[file_format](path), refinement)


def load_onnx(path):
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]

    def run(**inputs):
        values = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return dict(zip(names, map(torch.from_numpy, values), strict=True))

    return run


def load_torch(path):
    return torch.export.load(path).module()


LOAD = {"onnx": load_onnx, "torch": load_torch}


@pytest.fixture(params=EXPORTS, ids="-".join)
def model(request, models):
    return models[request.param]


@pytest.fixture(params=[export for export in EXPORTS if "onnx" in export], ids="-".join)
def onnx_model(request, models):
    return models[request.param]


@pytest.fixture(params=["onnx", "torch"])
def refining_model(request, models):
    return models["pooled", request.param]


def expected(model, mixture, query, threshold=None):
    """Return the outputs of an export, computed with the parts that trainings and evaluations use."""
    with torch.no_grad():
        features = model.network.features(mixture)
        probability = features.probability()
        if probability is None:
            refined_query, others = query, {}
        else:
            rule = model.refinement or Threshold(threshold.item())
            refined_query = rule(query, probability)
            others = {"probability": probability, "refined_query": refined_query}
        estimate = model.network.extract(features, refined_query)
        estimate[~refined_query.any(dim=1)] = 0.0
        return {"estimate": estimate, **others}


def inputs_of(model, samples, batch=3, threshold=0.2, level=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {"mixture": level * torch.randn(batch, samples, generator=generator)}
    inputs["query"] = (torch.rand(batch, len(CLASSES), generator=generator) < 0.6).float()
    if model.network.classifier is not None and model.refinement is None:
        inputs["threshold"] = torch.tensor(threshold)
    return inputs


def check_agreement(model, inputs):
    """Check that a model agrees with its network to 1e-6 of full scale, and nearly so of the estimate's peak."""
    outputs, wanted = model.run(**inputs), expected(model, **inputs)
    assert list(outputs) == list(wanted)
    for name, value in wanted.items():
        assert outputs[name].shape == value.shape
        assert outputs[name].dtype == torch.float32
    difference = (outputs["estimate"] - wanted["estimate"]).abs().max()
    assert difference <= min(1e-6, 1e-5 * wanted["estimate"].abs().max())
    if "probability" in wanted:
        torch.testing.assert_close(outputs["probability"], wanted["probability"], rtol=0.0, atol=1e-5)
        if isinstance(model.refinement, SoftThreshold):
            torch.testing.assert_close(outputs["refined_query"], wanted["refined_query"], rtol=0.0, atol=2e-5)
        else:
            assert torch.equal(outputs["refined_query"], wanted["refined_query"])
    return outputs


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_model_agrees_with_the_network_at_any_length_and_threshold(model, samples):
    for threshold in THRESHOLDS:
        check_agreement(model, inputs_of(model, samples, threshold=threshold))


@pytest.mark.parametrize("samples", [1, 1000, 25_001])
def test_a_model_with_a_fixed_refinement_agrees_with_the_network(fixed_model, samples):
    inputs = inputs_of(fixed_model, samples, batch=20)
    outputs = check_agreement(fixed_model, inputs)
    assert list(outputs) == ["estimate", "probability", "refined_query"]
    is_changed = not torch.equal(outputs["refined_query"], inputs["query"])
    assert is_changed is not isinstance(fixed_model.refinement, NoRefinement)


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


@pytest.mark.parametrize("fixed_model", FIXED[:2], indirect=True, ids=FIXED_NAMES[:2])
def test_a_soft_threshold_weighs_classes_in_the_model(fixed_model):
    inputs = inputs_of(fixed_model, 4001, batch=40) | {"query": torch.ones(40, len(CLASSES))}
    weights = check_agreement(fixed_model, inputs)["refined_query"]
    assert ((weights > 0.0) & (weights < 1.0)).any()
    assert (weights == 0.0).any()
    assert (weights == 1.0).any()


def test_a_minute_is_as_exact_as_a_second(model):
    check_agreement(model, inputs_of(model, 60 * RATE + 1, batch=1))


@pytest.mark.parametrize("level", [1e-2, 1e-4, 1e-6, 0.0])
def test_estimates_of_faint_mixtures_and_silence_agree_with_the_network(model, level):
    outputs = check_agreement(model, inputs_of(model, 4001, level=level, threshold=0.0))
    assert all(output.isfinite().all() for output in outputs.values())


def test_rows_of_a_batch_do_not_influence_each_other(model):
    inputs = inputs_of(model, 5000, batch=5)
    together = model.run(**inputs)["estimate"]
    for row in range(5):
        item = {name: value if name == "threshold" else value[row : row + 1] for name, value in inputs.items()}
        torch.testing.assert_close(model.run(**item)["estimate"], together[row : row + 1], rtol=0.0, atol=1e-6)


def test_the_estimate_of_an_empty_query_is_exact_silence_and_its_neighbours_are_not(model):
    inputs = inputs_of(model, 4001, threshold=0.0)
    inputs["query"] = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 1, 1, 0]])
    with torch.no_grad():
        assert model.network(inputs["mixture"], inputs["query"])[0][1].any()  # the network alone is not silent
    estimate = model.run(**inputs)["estimate"]
    assert not estimate[1].any()
    assert estimate[0].any()
    assert estimate[2].any()


def test_refinement_removes_classes_less_probable_than_the_threshold(refining_model):
    inputs = inputs_of(refining_model, 4001)
    inputs["query"] = torch.ones(3, len(CLASSES))
    num_kept = []
    for threshold in THRESHOLDS:
        outputs = refining_model.run(**{**inputs, "threshold": torch.tensor(threshold)})
        assert torch.equal(outputs["refined_query"], (outputs["probability"] >= threshold).float())
        assert torch.equal(outputs["estimate"].any(dim=1), outputs["refined_query"].any(dim=1))
        num_kept.append(int(outputs["refined_query"].sum()))
    assert num_kept[0] == inputs["query"].numel()  # 0: the query as it is
    assert num_kept[-1] == 0  # 1: nothing, hence silence
    assert len(set(num_kept)) > 3  # the thresholds make a difference


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


@pytest.mark.parametrize(("number", "unused"), [(0, {"tse_refine", "torch"}), (1, {"tse_refine"})])
def test_the_examples_of_the_docs_run_without_this_package(number, unused, models, tmp_path):
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[number]
    for file_format, name in (("onnx", "model.onnx"), ("torch", "model.pt2")):
        shutil.copy(models["pooled", file_format].path, tmp_path / name)
    model = models["pooled", "onnx"]
    mixture = inputs_of(model, 9001, batch=1)["mixture"]
    soundfile.write(tmp_path / "street.wav", mixture[0].numpy(), RATE, subtype="FLOAT")
    check = f"\nimport sys; assert not {unused} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = expected(model, mixture, torch.tensor([[0.0, 1.0, 0.0, 1.0]]), torch.tensor(0.2))
    kept = [name for name, is_kept in zip(CLASSES, wanted["refined_query"][0], strict=True) if is_kept]
    assert kept == ["dog"]  # one class was kept, and one removed
    assert done.stdout == f"{kept}\n"
    estimate, rate = soundfile.read(tmp_path / "estimate.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(estimate, wanted["estimate"][0], rtol=0.0, atol=1e-6)


@pytest.mark.parametrize(("stored", "written"), [(None, 0.1), (0.3, 0.3), ("soft:0.20-0.6", "soft:0.2-0.6")])
def test_the_recommended_threshold_is_written_as_in_yaml(tiny_network_config, stored, written):
    network = Network(2, 8000, tiny_network_config)
    assert metadata(TrainedNetwork(network, ("a", "b"), 8000, stored))["recommended_threshold"] == written


def test_an_output_below_a_file_is_rejected_first(tmp_path):
    (tmp_path / "text").touch()
    with pytest.raises(InputError, match=r"text is not a folder; name another file"):
        export_checkpoint(tmp_path / "no.ckpt", tmp_path / "text" / "model.pt2", "torch")
