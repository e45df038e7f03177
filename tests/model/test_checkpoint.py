import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork, load_network, read_checkpoint
from tse_refine.model.network import Network
from tse_refine.training.module import ExtractionModule

NAMES = ("a", "b", "c")


@pytest.fixture
def trained(tiny_network_config):
    torch.manual_seed(0)
    network = Network(len(NAMES), 8000, tiny_network_config).eval()
    return TrainedNetwork(network, NAMES, 8000, recommended_threshold=0.2, duration_seconds=2.0)


@pytest.fixture
def path(trained, tmp_path):
    trained.save(tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def assert_same(loaded, trained):
    assert replace(loaded, network=None) == replace(trained, network=None)
    assert not loaded.network.training
    mixture, query = torch.randn(1, 3000), torch.tensor([[1.0, 0.0, 1.0]])
    with torch.no_grad():
        assert torch.equal(loaded.network(mixture, query)[0], trained.network(mixture, query)[0])


def test_a_saved_network_is_loaded_as_it_was(trained, path):
    assert_same(load_network(path), trained)


@pytest.mark.parametrize("recommended", [None, "soft:0.2-0.6"])
def test_any_recommendation_is_loaded_as_it_was(trained, path, recommended):
    replace(trained, recommended_threshold=recommended).save(path)
    assert load_network(path).recommended_threshold == recommended


def test_a_checkpoint_of_a_training_is_loaded_likewise(trained, tiny_network_config, tmp_path):
    module = ExtractionModule(list(NAMES), 8000, tiny_network_config)
    module.network.load_state_dict(trained.network.state_dict())
    content = {"state_dict": module.state_dict(), "epoch": 3, "optimizer_states": [{"state": {}}]}
    data = SimpleNamespace(digest="0123", mixture=MixtureConfig(duration_seconds=2.0))
    module._trainer = SimpleNamespace(datamodule=data)
    module.on_save_checkpoint(content)
    content[CHECKPOINT_KEY]["recommended_threshold"] = 0.2  # the evaluation callback's part
    torch.save(content, tmp_path / "best.ckpt")
    assert_same(load_network(tmp_path / "best.ckpt"), trained)


def test_an_older_checkpoint_without_a_duration_has_mixtures_of_six_seconds(path):
    content = torch.load(path, weights_only=True)
    del content[CHECKPOINT_KEY]["duration_seconds"]
    torch.save(content, path)
    assert load_network(path).duration_seconds == MixtureConfig().duration_seconds == 6.0


def test_a_checkpoint_whose_weights_do_not_fit_is_rejected(path):
    content = torch.load(path, weights_only=True)
    content[CHECKPOINT_KEY]["class_names"] = ["a", "b"]
    torch.save(content, path)
    with pytest.raises(InputError, match=r"best\.ckpt: its weights do not fit"):
        load_network(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_diverged_training_are_rejected(path, value):
    content = torch.load(path, weights_only=True)
    next(iter(content["state_dict"].values())).view(-1)[0] = value
    torch.save(content, path)
    with pytest.raises(InputError, match=r"best\.ckpt: the weights .* not all finite.*model\.learning_rate"):
        load_network(path)


class Harm:
    def __reduce__(self):
        return (open, ("harm", "w"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "does not exist"),
        (b"", "cannot be read as a checkpoint"),
        (b"RIFF no checkpoint", "cannot be read as a checkpoint"),
        (pickle.dumps(Harm()), "cannot be read as a checkpoint"),
        ({"state_dict": {}}, "was not written by tse-refine"),
        ([1, 2], "was not written by tse-refine"),
        (Harm(), "cannot be read as a checkpoint"),
    ],
)
def test_foreign_files_are_rejected_and_never_executed(content, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "other.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=rf"other\.ckpt {found}"):
        read_checkpoint(path)
    assert not (tmp_path / "harm").exists()


def test_a_truncated_checkpoint_is_rejected(path):
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_a_folder_is_rejected(tmp_path):
    with pytest.raises(InputError, match="is a folder; expected is checkpoints/best"):
        read_checkpoint(tmp_path)


def test_unicode_forms_of_a_class_name_are_one_name(tiny_network_config, tmp_path):
    network = Network(2, 8000, tiny_network_config).eval()
    TrainedNetwork(network, ("Tu\u0308r", "dog"), 8000).save(tmp_path / "other.ckpt")
    content = torch.load(tmp_path / "other.ckpt", weights_only=True)
    content[CHECKPOINT_KEY]["class_names"] = ["Tu\u0308r", "dog"]  # as earlier versions wrote it
    torch.save(content, tmp_path / "other.ckpt")
    assert load_network(tmp_path / "other.ckpt").class_names == ("T\u00fcr", "dog")
