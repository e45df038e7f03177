"""A network that does not change its input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Features

CLASSES = ("dog", "car_horn", "siren")
RATE = 4000  # Hz


class Identity(nn.Module):
    """A network whose estimate is the mixture, for any query; probabilities are the largest magnitude of a window."""

    classifier = object()
    stride = 5

    def __init__(self) -> None:
        super().__init__()
        self.lengths: list[int] = []
        self.queries: list[Tensor] = []

    def features(self, mixture: Tensor) -> Features:
        self.lengths += [mixture.shape[-1]] * len(mixture)
        probability = mixture.abs().amax(-1, keepdim=True).clamp(max=1.0).expand(-1, len(CLASSES))
        return Features(mixture[:, None], mixture[:, None], torch.logit(probability)[:, None], mixture.shape[-1])

    def extract(self, features: Features, query: Tensor) -> Tensor:
        self.queries.append(query)
        return features.encoded[:, 0]


@pytest.fixture
def identity() -> TrainedNetwork:
    """Windows of 100 samples."""
    return TrainedNetwork(Identity(), CLASSES, RATE, 0.3, duration_seconds=100 / RATE)
