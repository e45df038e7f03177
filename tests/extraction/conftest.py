"""A network that believes what a test wants, and one that changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork
from tse_refine.model.network import Features, NetworkConfig

CLASSES = ("dog", "car_horn", "siren")
PROBABILITY = {"dog": 0.9, "car_horn": 0.2, "siren": 0.6}
RATE = 4000


class Unchanged(nn.Module):
    """A network whose estimate is the mixture, whatever is asked; a class is as probable as its window is loud."""

    classifier = object()
    stride = 5

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []

    def features(self, mixture: Tensor) -> Features:
        self.lengths += [mixture.shape[-1]] * len(mixture)
        probability = mixture.abs().amax(-1, keepdim=True).clamp(max=1.0).expand(-1, len(CLASSES))
        return Features(mixture[:, None], mixture[:, None], torch.logit(probability)[:, None], mixture.shape[-1])

    def extract(self, features: Features, query: Tensor) -> Tensor:
        return features.encoded[:, 0]


@pytest.fixture
def unchanged() -> TrainedNetwork:
    """Windows of 100 samples."""
    return TrainedNetwork(Unchanged(), CLASSES, RATE, 0.3, duration_seconds=100 / RATE)


@pytest.fixture
def trained(believing: Callable[..., TrainedNetwork]) -> TrainedNetwork:
    """An untrained network with windows of a quarter of a second, whose classes are as probable as PROBABILITY says."""
    return believing(PROBABILITY, RATE, 0.25)


@pytest.fixture
def extractor(trained: TrainedNetwork) -> Extractor:
    return Extractor(trained)


@pytest.fixture
def checkpoint(trained: TrainedNetwork, tiny_network_config: NetworkConfig, tmp_path: Path) -> Path:
    """The same network as a training saves it."""
    about = {"class_names": list(CLASSES), "sample_rate": RATE, "duration_seconds": trained.duration_seconds}
    about |= {"network": asdict(tiny_network_config), "recommended_threshold": trained.recommended_threshold}
    weights = {f"network.{name}": value for name, value in trained.network.state_dict().items()}
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": weights, CHECKPOINT_KEY: about}, path)
    return path


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Make noise, ``[samples]`` or ``[channels, samples]``, another one each time."""
    rng = np.random.default_rng(0)

    def make(*shape: int, level: float = 0.1) -> np.ndarray:
        return level * rng.standard_normal(shape).astype(np.float32)

    return make


@pytest.fixture
def record(noise, tmp_path: Path) -> Callable[..., Path]:
    """Write a recording of noise."""

    def write(
        name: str = "in.wav", rate: int = RATE, channels: int = 1, samples: int = 1500, subtype: str | None = "FLOAT"
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(samples, channels), rate, subtype)
        return path

    return write
