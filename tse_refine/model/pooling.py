"""Linear softmax pooling: clip-level probabilities from those of the frames, and their logarithms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


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
