"""The classifier: which classes are active, from the shared features alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import avg_pool1d


@dataclass
class ClassifierConfig:
    """Sizes of the classifier.

    Attributes:
        num_layers: bidirectional GRU layers.
    """

    num_layers: int = 2


class Classifier(nn.Module):
    """Bidirectional GRU layers and a linear layer on the shared features: weakly supervised sound event detection.

    Args:
        channels: of the shared features.
        num_classes: classes in all.
        pooling: frames that are averaged into one in front of the GRU.
        hidden_size: of the GRU in each direction.
        config: sizes.
    """

    def __init__(
        self, channels: int, num_classes: int, pooling: int, hidden_size: int, config: ClassifierConfig
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.recurrence = nn.GRU(channels, hidden_size, config.num_layers, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, shared: Tensor) -> Tensor:
        """Map shared features ``[batch, channels, frames]`` to frame logits ``[batch, pooled frames, classes]``."""
        # the last frames may not fill a pool: they are averaged over what is there
        pooled = avg_pool1d(shared, self.pooling, ceil_mode=True) if self.pooling > 1 else shared
        return self.linear(self.recurrence(pooled.transpose(1, 2))[0])
