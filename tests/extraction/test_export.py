"""Exported models against the network they are of, in onnxruntime and in PyTorch."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork, load_network
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.refinement import refine

pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch's loading of its own files

CLASSES = ["alarm", "dog", "Türklingel", "siren"]  # of docs/export.md, and one that is not ASCII
RATE = 8000
SIZES = {
    # many filters, so that a minute has sums that are too long for one float32
    "pooled": NetworkConfig(128, 10.0, 8, 8, 8, 3, 2, 1, 1, 4, ClassifierConfig(2), classifier_hidden_size=5),
    "every frame, no skip path": NetworkConfig(8, 10.0, 8, 8, None, 3, 1, 1, 1, 1, ClassifierConfig(1)),
    "no classifier": NetworkConfig(8, 10.0, 8, 8, 8, 3, 1, 1, 1),
}
EXPORTS = [(size, "onnx") for size in SIZES] + [(size, "torch") for size in ("pooled", "no classifier")]
# frames are 40 samples apart, pools of the first network four frames; exports are made with 8003 samples
LENGTHS = [1, 2, 39, 40, 41, 120, 121, 160, 161, 1000, 7999, 8003, 16_000, 25_001]
THRESHOLDS = [0.0, 0.2, 0.5, 0.8, 1.0]
DOCS = Path(__file__).parents[2] / "docs" / "export.md"


def write_checkpoint(path, config):
    torch.manual_seed(8)  # of the first network's classes, noise makes dog probable and siren not
    network = Network(len(CLASSES), RATE, config)
    about = {"class_names": CLASSES, "sample_rate": RATE, "network": asdict(config), "duration_seconds": 2.0}
    if config.classifier is not None:
        torch.nn.init.normal_(network.classifier.linear.weight, std=3.0)  # decided probabilities
        about["recommended_threshold"] = 0.2
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": weights, CHECKPOINT_KEY: about}, path)
    return path


@dataclass
class Model:
    """An exported model, and the network it is of."""

    path: Path
    network: Network
    run: Callable[..., dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Exports of every size."""
    folder = tmp_path_factory.mktemp("exported")
    found = {}
    for size, file_format in EXPORTS:
        checkpoint = write_checkpoint(folder / f"{size}.ckpt", SIZES[size])
        path = folder / (size + {"onnx": ".onnx", "torch": ".pt2"}[file_format])
        main(["export", "--checkpoint", str(checkpoint), "--output", str(path), "--format", file_format])
        load = {"onnx": load_onnx, "torch": load_torch}[file_format]
        found[size, file_format] = Model(path, load_network(checkpoint).network, load(path))
    return found


def load_onnx(path):
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]

    def run(**inputs):
        values = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        return dict(zip(names, map(torch.from_numpy, values), strict=True))

    return run


def load_torch(path):
    return torch.export.load(path).module()


@pytest.fixture(params=EXPORTS, ids="-".join)
def model(request, models):
    return models[request.param]


@pytest.fixture(params=[export for export in EXPORTS if "onnx" in export], ids="-".join)
def onnx_model(request, models):
    return models[request.param]


@pytest.fixture(params=["onnx", "torch"])
def refining_model(request, models):
    return models["pooled", request.param]


def expected(network, mixture, query, threshold=None):
    """Return what an export promises, from the parts that trainings and evaluations use."""
    with torch.no_grad():
        features = network.features(mixture)
        if threshold is None:
            estimate = network.extract(features, query)
            estimate[~query.any(dim=1)] = 0.0
            return {"estimate": estimate}
        probability = features.probability()
        refined_query = refine(query, probability, threshold.item())
        estimate = network.extract(features, refined_query)
        estimate[~refined_query.any(dim=1)] = 0.0
        return {"estimate": estimate, "probability": probability, "refined_query": refined_query}


def inputs_of(network, samples, batch=3, threshold=0.2, level=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {"mixture": level * torch.randn(batch, samples, generator=generator)}
    inputs["query"] = (torch.rand(batch, len(CLASSES), generator=generator) < 0.6).float()
    if network.classifier is not None:
        inputs["threshold"] = torch.tensor(threshold)
    return inputs


def check_agreement(model, inputs):
    """Check that a model answers as its network, to a millionth of full scale and nearly so of the answer's peak."""
    found, wanted = model.run(**inputs), expected(model.network, **inputs)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == torch.float32
    difference = (found["estimate"] - wanted["estimate"]).abs().max()
    assert difference <= min(1e-6, 1e-5 * wanted["estimate"].abs().max())
    if "probability" in wanted:
        torch.testing.assert_close(found["probability"], wanted["probability"], rtol=0.0, atol=1e-5)
        assert torch.equal(found["refined_query"], wanted["refined_query"])
    return found


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_model_answers_as_the_network_at_any_length_and_threshold(model, samples):
    for threshold in THRESHOLDS:
        check_agreement(model, inputs_of(model.network, samples, threshold=threshold))


def test_a_minute_is_answered_as_exactly_as_a_second(model):
    check_agreement(model, inputs_of(model.network, 60 * RATE + 1, batch=1))


@pytest.mark.parametrize("level", [1e-2, 1e-4, 1e-6, 0.0])
def test_faint_mixtures_and_silence_are_answered_as_by_the_network(model, level):
    answers = check_agreement(model, inputs_of(model.network, 4001, level=level, threshold=0.0))
    assert all(answer.isfinite().all() for answer in answers.values())


def test_rows_of_a_batch_do_not_influence_each_other(model):
    inputs = inputs_of(model.network, 5000, batch=5)
    together = model.run(**inputs)["estimate"]
    for row in range(5):
        item = {name: value if name == "threshold" else value[row : row + 1] for name, value in inputs.items()}
        torch.testing.assert_close(model.run(**item)["estimate"], together[row : row + 1], rtol=0.0, atol=1e-6)


def test_an_empty_query_is_answered_by_exact_silence_and_its_neighbours_are_not(model):
    inputs = inputs_of(model.network, 4001, threshold=0.0)
    inputs["query"] = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 1, 1, 0]])
    with torch.no_grad():
        assert model.network(inputs["mixture"], inputs["query"])[0][1].any()  # the network alone would not be silent
    estimate = model.run(**inputs)["estimate"]
    assert not estimate[1].any()
    assert estimate[0].any()
    assert estimate[2].any()


def test_refinement_removes_what_is_less_probable_than_the_threshold(refining_model):
    inputs = inputs_of(refining_model.network, 4001)
    inputs["query"] = torch.ones(3, len(CLASSES))
    num_kept = []
    for threshold in THRESHOLDS:
        answer = refining_model.run(**{**inputs, "threshold": torch.tensor(threshold)})
        assert torch.equal(answer["refined_query"], (answer["probability"] >= threshold).float())
        assert torch.equal(answer["estimate"].any(dim=1), answer["refined_query"].any(dim=1))
        num_kept.append(int(answer["refined_query"].sum()))
    assert num_kept[0] == inputs["query"].numel()  # 0: the query as it is
    assert num_kept[-1] == 0  # 1: nothing, hence silence
    assert len(set(num_kept)) > 3  # so that the thresholds above decide something


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
def test_a_file_says_what_it_takes_to_use_it(models, size, threshold):
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


def test_a_file_holds_no_path_of_the_machine_it_was_made_on(models):
    here = str(Path(tse_refine.__file__).parent).encode()
    assert here not in models["pooled", "onnx"].path.read_bytes()
    with zipfile.ZipFile(models["pooled", "torch"].path) as archive:
        assert not [name for name in archive.namelist() if here in archive.read(name)]


@pytest.fixture
def refusal(tmp_path, capsys):
    """What a refused export says; it must end with status 2 and leave no new file."""

    def call(**options):
        options = {"checkpoint": tmp_path / "best.ckpt", "output": tmp_path / "model.onnx"} | options
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as stop:
            main(["export", *(str(word) for name, value in options.items() for word in (f"--{name}", value))])
        assert stop.value.code == 2
        assert sorted(tmp_path.rglob("*")) == before
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        return said.err

    return call


def test_what_cannot_be_exported_is_refused(refusal, tmp_path):
    assert "best.ckpt does not exist" in refusal()
    torch.save({"state_dict": {}}, tmp_path / "best.ckpt")
    assert "was not written by tse-refine" in refusal()
    write_checkpoint(tmp_path / "best.ckpt", SIZES["no classifier"])
    content = (tmp_path / "best.ckpt").read_bytes()
    (tmp_path / "best.ckpt").write_bytes(content[:-1000])
    assert "cannot be read as a checkpoint" in refusal()


def test_a_file_that_exists_or_is_called_otherwise_is_refused(refusal, tmp_path):
    (tmp_path / "model.onnx").write_text("mine")
    assert "model.onnx exists; name another file or replace it with --overwrite" in refusal()
    assert (tmp_path / "model.onnx").read_text() == "mine"
    assert "a file of the format torch ends in .pt2" in refusal(format="torch")
    assert "a file of the format onnx ends in .onnx" in refusal(output=tmp_path / "model")
    (tmp_path / "folder.onnx").mkdir()
    assert "folder.onnx is a folder" in refusal(output=tmp_path / "folder.onnx")


def test_an_earlier_file_is_replaced_when_asked_to_and_a_missing_classifier_is_told(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "best.ckpt", SIZES["no classifier"])
    output = tmp_path / "model.pt2"
    output.write_text("an earlier one")
    main(["export", "--checkpoint", str(checkpoint), "--output", str(output), "--format", "torch", "--overwrite"])
    assert zipfile.is_zipfile(output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "model.pt2"]
    said = capsys.readouterr()
    assert said.out == f"{output}\n"
    assert "no classifier, so that the model takes no threshold" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_what_installs_it(refusal, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    text = refusal()
    assert package in text
    assert "pip install 'tse-refine[export]'" in text


def test_a_translation_of_grus_that_is_not_pytorchs_is_refused(models):
    model = ir.load(models["pooled", "onnx"].path)
    check_recurrences(model)
    for node in model.graph:
        node.attributes.pop("linear_before_reset", None)  # as onnxscript 0.7.0 and older write them
    with pytest.raises(tse_refine.InputError, match=r"onnxscript translates GRUs wrongly; 0\.7\.1"):
        check_recurrences(model)


@pytest.mark.parametrize(("number", "spared"), [(0, {"tse_refine", "torch"}), (1, {"tse_refine"})])
def test_the_examples_of_the_docs_run_without_this_package(number, spared, models, tmp_path):
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[number]
    for file_format, name in (("onnx", "model.onnx"), ("torch", "model.pt2")):
        shutil.copy(models["pooled", file_format].path, tmp_path / name)
    network = models["pooled", "onnx"].network
    mixture = inputs_of(network, 9001, batch=1)["mixture"]
    soundfile.write(tmp_path / "street.wav", mixture[0].numpy(), RATE, subtype="FLOAT")
    check = f"\nimport sys; assert not {spared} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = expected(network, mixture, torch.tensor([[0.0, 1.0, 0.0, 1.0]]), torch.tensor(0.2))
    kept = [name for name, is_kept in zip(CLASSES, wanted["refined_query"][0], strict=True) if is_kept]
    assert kept == ["dog"]  # something to hear, and something that was removed
    assert done.stdout == f"{kept}\n"
    estimate, rate = soundfile.read(tmp_path / "estimate.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(estimate, wanted["estimate"][0], rtol=0.0, atol=1e-6)


def test_a_threshold_that_was_never_measured_is_the_default(tiny_network_config):
    network = Network(2, 8000, tiny_network_config)
    assert metadata(TrainedNetwork(network, ("a", "b"), 8000, None))["recommended_threshold"] == 0.1


def test_an_output_below_a_file_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "text").touch()
    with pytest.raises(InputError, match=r"text is not a folder; name another file"):
        export_checkpoint(tmp_path / "no.ckpt", tmp_path / "text" / "model.pt2", "torch")
