"""The classifier, weakly supervised sound event detection on the shared features, and its linear softmax pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, logsigmoid

from tse_refine.errors import InputError
from tse_refine.files.documents import shown
from tse_refine.model.recurrence import run_gru

_MOST_BLOCKS = 12
_LARGEST_COUNT = 100_000


@dataclass
class ClassifierConfig:
    """Kind and sizes of the classifier.

    Attributes:
        num_layers: number of bidirectional GRU layers.
        input: ``shared`` for the published classifier, on the shared features; ``mel`` for one on a log-mel spectrogram
            (:class:`tse_refine.model.mel_classifier.MelClassifier`), which no gradient connects to the extractor.
        mel_bands: number of mel bands, for ``mel``.
        channels: widths of the convolution blocks, for ``mel``.
    """

    num_layers: int = 2
    input: Literal["shared", "mel"] = "shared"
    mel_bands: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 128)

    def check(self) -> None:
        """Reject sizes that no classifier can have.

        Raises:
            InputError: names the option, what was found and what would be right.
        """
        option = "model.network.classifier"
        if self.input not in ("shared", "mel"):
            raise InputError(f"{option}.input is {shown(self.input)}; shared or mel is expected.")
        if not isinstance(self.channels, list | tuple) or not 1 <= len(self.channels) <= _MOST_BLOCKS:
            raise InputError(
                f"{option}.channels is {shown(self.channels)}; a list of 1 to {_MOST_BLOCKS} widths is expected."
            )
        counts = {"num_layers": self.num_layers, "mel_bands": self.mel_bands}
        counts |= {f"channels[{number}]": width for number, width in enumerate(self.channels)}
        for name, value in counts.items():
            if type(value) is not int or not 1 <= value <= _LARGEST_COUNT:
                raise InputError(
                    f"{option}.{name} is {shown(value)}; at least 1 is expected, a whole number up to {_LARGEST_COUNT}."
                )
        if self.mel_bands >> len(self.channels) < 1:
            raise InputError(
                f"{option}.mel_bands is {self.mel_bands}, but each of the {len(self.channels)} blocks of "
                f"{option}.channels halves them; at least {1 << len(self.channels)} bands are expected."
            )


class Classifier(nn.Module):
    """Bidirectional GRU layers and a linear layer on the shared features: weakly supervised sound event detection.

    Args:
        channels: width of the shared features.
        num_classes: number of classes.
        pooling: number of frames averaged into one in front of the GRU.
        hidden_size: width of the GRU in each direction.
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
        # the last frames may not fill a pool: they are averaged over as many as there are
        pooled = avg_pool1d(shared, self.pooling, ceil_mode=True) if self.pooling > 1 else shared
        return self.linear(run_gru(self.recurrence, pooled.transpose(1, 2)))


@torch.no_grad()
def rescale_logits(linear: nn.Linear, scale: float, shift: Tensor) -> None:
    """Change a classifier's last layer so that its logits z become ``scale * z + shift``, in place.

    Args:
        linear: last layer of a classifier.
        scale: one for all classes.
        shift: one for each class, ``[classes]``.
    """
    linear.weight *= scale
    linear.bias.mul_(scale).add_(shift.to(linear.bias))


def pooled_log_probability(frame_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of the pooled probability y and of 1 - y.

    With frame probabilities p = sigmoid(z), linear softmax pooling is y = sum(p^2) / sum(p) (Wang et al. 2019, arXiv
    1810.09050). In logarithms, with l = logsigmoid(z) and LSE the log of the sum of exponentials over frames,

        log y = LSE(2 l) - LSE(l),    log(1 - y) = LSE(l + logsigmoid(-z)) - LSE(l),

    since 1 - y = sum(p (1 - p)) / sum(p). The plain ratio with an epsilon has no gradient once all logits are very
    negative; these forms keep theirs. Computed in float32, also under autocast.

    Args:
        frame_logits: z, ``[batch, frames, classes]``.

    Returns:
        log y and log(1 - y), ``[batch, classes]`` each, at most 0.

    >>> log_y, log_not_y = pooled_log_probability(torch.zeros(1, 4, 1))
    >>> torch.exp(log_y).item(), torch.exp(log_not_y).item()
    (0.5, 0.5)
    """
    with torch.autocast(frame_logits.device.type, enabled=False):
        logits = frame_logits.float()
        log_p = logsigmoid(logits)
        log_sum = torch.logsumexp(log_p, dim=1)
        log_y = torch.logsumexp(2.0 * log_p, dim=1) - log_sum
        log_not_y = torch.logsumexp(log_p + logsigmoid(-logits), dim=1) - log_sum
        return log_y, log_not_y


def pooled_probability(frame_logits: Tensor) -> Tensor:
    """Return the clip-level probability, ``[batch, classes]`` in [0, 1], float32.

    Args:
        frame_logits: ``[batch, frames, classes]``.
    """
    return torch.exp(pooled_log_probability(frame_logits)[0]).clamp(0.0, 1.0)
