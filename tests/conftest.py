"""Fixtures that several test files share: tiny data and a tiny network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from tse_refine.data.corpora import EmbeddedBackgrounds, EmbeddedSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.recipes import MixtureConfig
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import NetworkConfig


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clip banks that the whole session shares."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_data(cache_dir: Path) -> MixtureDataModule:
    """Embedded sounds at 4 kHz, 1 s mixtures, with the data sets of every split."""
    data = MixtureDataModule(
        EmbeddedSounds(2, 2, 2),
        EmbeddedBackgrounds(1, 1, 1),
        sample_rate=4000,
        mixture=MixtureConfig(duration_seconds=1.0, event_seconds=(0.5, 0.8)),
        batch_size=4,
        num_workers=0,
        num_train=8,
        num_val=6,
        num_test=6,
        cache_dir=str(cache_dir),
    )
    data.setup("test")
    test = data.datasets
    data.setup("fit")
    data.datasets |= test
    return data


@pytest.fixture
def tiny_network_config() -> NetworkConfig:
    """The cheapest network with every part."""
    return NetworkConfig(16, 10.0, 8, 8, 8, 3, 2, 1, 1, 4, ClassifierConfig(4, 1))


@pytest.fixture
def tiny_config_file(tmp_path: Path, cache_dir: Path) -> Path:
    """A config that goes through fit, validate, test and predict in seconds on a CPU."""
    network = {"num_filters": 16, "window_ms": 10.0, "bottleneck_channels": 8, "hidden_channels": 8}
    network |= {"skip_channels": 8, "blocks_per_stack": 2, "shared_stacks": 1, "mask_stacks": 1}
    network |= {"classifier_pooling": 4, "classifier": {"num_layers": 1}}
    corpora = "tse_refine.data.corpora."
    instances = {"train_instances": 2, "val_instances": 2, "test_instances": 2}
    config = {
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "accelerator": "cpu",
            "max_epochs": 1,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "model": {"network": network},
        "data": {
            "foregrounds": {"class_path": corpora + "EmbeddedSounds", "init_args": instances},
            "backgrounds": {
                "class_path": corpora + "EmbeddedBackgrounds",
                "init_args": {"train_instances": 1, "val_instances": 1, "test_instances": 1},
            },
            "sample_rate": 4000,
            "mixture": {"duration_seconds": 1.0, "event_seconds": [0.5, 0.8]},
            "batch_size": 4,
            "num_workers": 0,
            "num_train": 8,
            "num_val": 6,
            "num_test": 6,
            "cache_dir": str(cache_dir),
            "predict_indices": [0, 3],
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Tiny tensors lose time to many threads, and tests must not depend on the number of cores."""
    torch.set_num_threads(1)
