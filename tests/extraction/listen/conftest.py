"""A run whose network estimates given probabilities, and sounds for the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tse_refine.data.corpora import SyntheticSounds
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.server import build_app, temporary_folder
from tse_refine.extraction.listen.sounds import Limits, Sound
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork
from tse_refine.model.network import Network, NetworkConfig

RATE = 4000
PROBABILITY = dict.fromkeys(SyntheticSounds().classes(), 0.05) | {"alarm": 0.9, "bell": 0.6, "dog": 0.2}


@pytest.fixture
def trained(fixed_probabilities: Callable[..., TrainedNetwork]) -> TrainedNetwork:
    """An untrained network with windows of one second that estimates PROBABILITY for every sound."""
    return fixed_probabilities(PROBABILITY, RATE, 1.0)


@pytest.fixture
def extractor(trained: TrainedNetwork) -> Extractor:
    return Extractor(trained)


@pytest.fixture
def trained_baseline(tiny_network_config: NetworkConfig) -> TrainedNetwork:
    """An untrained network without a classifier."""
    network = Network(len(PROBABILITY), RATE, replace(tiny_network_config, classifier=None)).eval()
    return TrainedNetwork(network, tuple(PROBABILITY), RATE, None, duration_seconds=1.0)


@pytest.fixture
def baseline(trained_baseline: TrainedNetwork) -> Extractor:
    return Extractor(trained_baseline)


@pytest.fixture
def run_folder(trained: TrainedNetwork, tiny_network_config: NetworkConfig, tiny_config_file: Path) -> Path:
    """A run as a training leaves it, on the tiny data."""
    folder = tiny_config_file.parent / "run"
    (folder / "checkpoints").mkdir(parents=True)
    about = {"class_names": list(trained.class_names), "sample_rate": RATE, "duration_seconds": 1.0}
    about |= {"network": asdict(tiny_network_config), "recommended_threshold": trained.recommended_threshold}
    weights = {f"network.{name}": value for name, value in trained.network.state_dict().items()}
    torch.save({"state_dict": weights, CHECKPOINT_KEY: about}, folder / "checkpoints" / "best.ckpt")
    config = yaml.safe_load(tiny_config_file.read_text())
    config["data"]["queries"] = {"inactive_sample_rate": 0.0}
    config["model"]["loss_weight"] = 10.0
    config["evaluation"] = {"threshold": 0.1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def checkpoint(run_folder: Path) -> Path:
    return run_folder / "checkpoints" / "best.ckpt"


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Make noise, ``[channels, samples]``, different each time."""
    rng = np.random.default_rng(0)

    def make(channels: int = 1, samples: int = 6000, level: float = 0.1) -> np.ndarray:
        return (level * rng.standard_normal((channels, samples))).astype(np.float32)

    return make


@pytest.fixture
def recording(noise) -> Sound:
    """A stereo recording, whose sample rate is not the network's."""
    return Sound("street.wav", noise(2, 12_000), 8000)


@pytest.fixture
def mixture(noise) -> Sound:
    """A mixture of an alarm, a dog and a background."""
    sources = {name: noise() for name in ("alarm", "dog")}
    return Sound("test mixture 7", sources["alarm"] + sources["dog"] + noise(level=0.01), RATE, sources)


@pytest.fixture
def record(noise, tmp_path: Path) -> Callable[..., Path]:
    """Write a recording of noise."""

    def write(name: str, samples: int = 6000, channels: int = 1, rate: int = RATE, level: float = 0.1) -> Path:
        path = tmp_path / "uploads" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(channels, samples, level).T, rate, "PCM_16" if level <= 1 else "FLOAT")
        return path

    return write


@pytest.fixture
def gradio(monkeypatch, tmp_path):
    """Gradio; the event loops that it makes, one per lock, are closed at the end."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))  # where it makes a folder when it is imported
    module = pytest.importorskip("gradio")
    loops = []
    make = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(make()) or loops[-1])
    yield module
    asyncio.set_event_loop(None)
    for loop in loops:
        loop.close()


@pytest.fixture
def folder(gradio) -> Iterator[Path]:
    """The folder of all files of the page."""
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def client(folder, extractor, checkpoint):
    """A client of the page, which is not a browser."""
    from starlette.testclient import TestClient

    app = build_app(extractor, checkpoint, Limits(megabytes=0.5), folder, "testserver", is_local=True)
    (folder / "sounds" / "session").mkdir()
    (folder / "sounds" / "session" / "in.wav").write_bytes(b"0123456789")
    return TestClient(app, raise_server_exceptions=False)
