import pickle
from types import SimpleNamespace

import pytest
import torch

from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError
from tse_refine.model.checkpoint import CHECKPOINT_KEY, load_network, read_checkpoint
from tse_refine.training.module import ExtractionModule


@pytest.fixture
def checkpoint(tiny_network_config, tmp_path):
    """A checkpoint as Lightning writes it, and the module it is of."""
    module = ExtractionModule(["a", "b", "c"], 8000, tiny_network_config)
    content = {"state_dict": module.state_dict(), "epoch": 3, "optimizer_states": [{"state": {}}]}
    data = SimpleNamespace(digest="0123", mixture=MixtureConfig(duration_seconds=2.0))
    module._trainer = SimpleNamespace(datamodule=data)
    module.on_save_checkpoint(content)
    content[CHECKPOINT_KEY]["recommended_threshold"] = 0.2
    path = tmp_path / "best.ckpt"
    torch.save(content, path)
    return path, module


def test_the_network_of_a_checkpoint_extracts_as_it_did(checkpoint):
    path, module = checkpoint
    trained = load_network(path)
    assert trained.class_names == ("a", "b", "c")
    assert trained.sample_rate == 8000
    assert trained.recommended_threshold == 0.2
    assert trained.duration_seconds == 2.0
    assert not trained.network.training
    mixture, query = torch.randn(1, 3000), torch.tensor([[1.0, 0.0, 1.0]])
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(trained.network(mixture, query)[0], module.network(mixture, query)[0])


def test_an_older_checkpoint_that_does_not_say_how_long_its_mixtures_were_had_six_seconds(checkpoint):
    path, _ = checkpoint
    content = torch.load(path, weights_only=True)
    del content[CHECKPOINT_KEY]["duration_seconds"]
    torch.save(content, path)
    assert load_network(path).duration_seconds == MixtureConfig().duration_seconds == 6.0


def test_a_checkpoint_whose_weights_do_not_fit_is_refused(checkpoint):
    path, _ = checkpoint
    content = torch.load(path, weights_only=True)
    content[CHECKPOINT_KEY]["class_names"] = ["a", "b"]
    torch.save(content, path)
    with pytest.raises(InputError, match=r"best\.ckpt: its weights do not fit"):
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
def test_what_is_no_checkpoint_of_ours_is_refused_and_not_executed(content, found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "other.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=rf"other\.ckpt {found}"):
        read_checkpoint(path)
    assert not (tmp_path / "harm").exists()


def test_a_checkpoint_that_breaks_off_is_refused(checkpoint):
    path, _ = checkpoint
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(InputError, match="is a folder; expected is checkpoints/best"):
        read_checkpoint(tmp_path)
