import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork, load_network, read_checkpoint
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.training.module import ExtractionModule

NAMES = ("a", "b", "c")


@pytest.fixture
def trained(tiny_network_config):
    torch.manual_seed(0)
    network = Network(len(NAMES), 8000, tiny_network_config).eval()
    aliases = {"a": ("first", "the first")}
    return TrainedNetwork(network, NAMES, 8000, recommended_threshold=0.2, duration_seconds=2.0, aliases=aliases)


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
    data = SimpleNamespace(digest="0123", mixture=MixtureConfig(duration_seconds=2.0), aliases=trained.aliases)
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


def test_an_older_checkpoint_has_no_aliases(path):
    content = torch.load(path, weights_only=True)
    del content[CHECKPOINT_KEY]["aliases"]
    torch.save(content, path)
    assert load_network(path).aliases == {}


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


def changed(path, *keys, value):
    content = torch.load(path, weights_only=True)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    torch.save(content, path)


NETWORK = (CHECKPOINT_KEY, "network")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ((*NETWORK, "hidden_channels"), 10**6, r"do not fit .* is \[8\], by its sizes \[1000000\]"),
        ((*NETWORK, "mask_stacks"), 10**6, "do not fit .* blocks"),
        ((*NETWORK, "hidden_channels"), 10**9, "hidden_channels is 1000000000; at least 1 is expected"),
        ((*NETWORK, "num_filters"), float("nan"), "num_filters is nan"),
        ((*NETWORK, "window_ms"), float("nan"), "window_ms is nan"),
        ((*NETWORK, "kernel"), 3, "'kernel' is not a size of a network"),
        ((CHECKPOINT_KEY, "network"), [1], "network is list of 1; named values are expected"),
        ((CHECKPOINT_KEY, "sample_rate"), -8000, "sample_rate is -8000; a whole number from"),
        ((CHECKPOINT_KEY, "sample_rate"), "8000", "sample_rate is '8000'; a whole number from"),
        ((CHECKPOINT_KEY, "duration_seconds"), float("nan"), "duration_seconds is nan; a number from"),
        ((CHECKPOINT_KEY, "recommended_threshold"), 1.5, "recommended_threshold is 1.5; a number from 0 to 1"),
        ((CHECKPOINT_KEY, "recommended_threshold"), [0.1], "recommended_threshold is list of 1; a number"),
        ((CHECKPOINT_KEY, "class_names"), ["a", "b", "a"], "class 'a' occurs twice"),
        ((CHECKPOINT_KEY, "class_names"), ["a", "b", "\x1b[2J"], r"class 2 is '\\x1b\[2J'; 1 to 200 characters"),
        ((CHECKPOINT_KEY, "class_names"), ["a", "b", "\ud800"], "class 2 is .*1 to 200 characters"),
        ((CHECKPOINT_KEY, "class_names"), ["a", "b", ""], "class 2 is ''; 1 to 200 characters"),
        ((CHECKPOINT_KEY, "class_names"), ["a", "b", "c" * 10**6], "class 2 is 'ccc.*1 to 200 characters"),
        ((CHECKPOINT_KEY, "class_names"), {"a": 1}, "the names of each class are dict of 1"),
        ((CHECKPOINT_KEY, "aliases"), ["a"], "aliases is list of 1; named values are expected"),
        ((CHECKPOINT_KEY, "aliases"), {"d": ["first"]}, "'d' has aliases, but is not a class"),
        ((CHECKPOINT_KEY, "aliases"), {"a": "first"}, "the names of each alias are 'first'; a list"),
        ((CHECKPOINT_KEY, "aliases"), {"a": torch.zeros(2)}, "the names of each alias are Tensor; a list"),
        ((CHECKPOINT_KEY, "aliases"), {"a": ["\x1b[2J"]}, r"alias 0 is '\\x1b\[2J'; 1 to 200 characters"),
        (("state_dict",), None, "state_dict is None; named values are expected"),
        (("state_dict", "network.encoder.weight"), "x", "not an array of weights"),
    ],
)
def test_a_value_that_is_out_of_range_is_rejected_in_one_sentence(path, keys, value, message):
    changed(path, *keys, value=value)
    with pytest.raises(InputError, match=rf"best\.ckpt: .*{message}.*expected is checkpoints/best\.ckpt") as error:
        load_network(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_sizes_that_the_file_does_not_hold_are_rejected_before_memory_is_taken(path):
    changed(path, *NETWORK, "hidden_channels", value=10**6)
    changed(path, *NETWORK, "bottleneck_channels", value=10**6)
    code = (
        "import resource, sys; from tse_refine.model.checkpoint import load_network, InputError\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 2**31\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "try: load_network(sys.argv[1])\n"
        "except InputError as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "its weights do not fit the network it describes" in ended.stdout


def test_weights_that_are_many_in_their_shape_and_one_in_the_file_are_rejected(tmp_path):
    path, wide = tmp_path / "best.ckpt", TrainedNetwork(Network(3, 8000, NetworkConfig(64)), NAMES, 8000)
    views = {f"network.{name}": torch.zeros(1).expand(w.shape) for name, w in wide.network.state_dict().items()}
    torch.save({"state_dict": views, CHECKPOINT_KEY: wide.description()}, path)
    with pytest.raises(InputError, match=r"they would take more than its .* bytes"):
        load_network(path)


@pytest.mark.parametrize("kind", ["compressed", "flipped", "foreign class"])
def test_an_archive_that_torch_does_not_write_is_rejected(path, kind):
    if kind == "flipped":
        with zipfile.ZipFile(path) as archive:
            largest = archive.read(max(archive.infolist(), key=lambda part: part.file_size))
        content = bytearray(path.read_bytes())
        content[content.index(largest) + len(largest) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "compressed":
        with zipfile.ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name, part in parts.items():
                new.writestr(name, part)
    else:
        changed(path, "more", value=bytearray(5))
    found = {"compressed": "are compressed", "flipped": "checksum", "foreign class": r"refers to \w+ bytearray"}
    with pytest.raises(InputError, match=f"cannot be read as a checkpoint .*{found[kind]}"):
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
