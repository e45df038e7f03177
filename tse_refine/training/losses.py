"""The training losses: thresholded SNR for the extraction, binary cross-entropy for the classification."""

from __future__ import annotations

import torch
from torch import Tensor

SILENT_RMS = 1e-8
_EPS = 1e-8


def thresholded_snr_loss(estimate: Tensor, target: Tensor, mixture: Tensor, snr_max_db: float = 30.0) -> Tensor:
    """Return the negative thresholded SNR of an active target, its inactive-sample form for a silent one, in dB.

    With r = ||s||^2 for an active target s and r = ||x||^2 for a silent one (RMS under 1e-8), and
    tau = 10^(-SNR_max / 10),

        10 log10( (||s - e||^2 + tau r + eps) / (r + eps) ).

    For an active target it is MixIT's loss (Wisdom et al. 2020, arXiv 2006.12701), at least -SNR_max; for a silent one
    that of FUSS (Wisdom et al. 2021, arXiv 2011.00803) relative to the mixture: it rewards a silent estimate. Value
    and gradient are finite for a silent estimate, target and mixture. Computed in float32, also under autocast.

    Args:
        estimate: e, ``[batch, samples]``.
        target: s, ``[batch, samples]``.
        mixture: x, ``[batch, samples]``.
        snr_max_db: SNR above which the loss stops rewarding, dB.

    Returns:
        ``[batch]``, dB, lower is better.

    >>> x = torch.tensor([[3.0, 4.0]])
    >>> thresholded_snr_loss(torch.zeros(1, 2), x, x).round(decimals=2), thresholded_snr_loss(x, x, x).round(decimals=2)
    (tensor([0.]), tensor([-30.]))
    """
    with torch.autocast(estimate.device.type, enabled=False):
        estimate, target, mixture = estimate.float(), target.float(), mixture.float()
        silent = target.square().mean(-1).sqrt() < SILENT_RMS
        reference = torch.where(silent, mixture.square().sum(-1), target.square().sum(-1))
        error = (target - estimate).square().sum(-1)
        tau = 10.0 ** (-snr_max_db / 10.0)
        return 10.0 * torch.log10((error + tau * reference + _EPS) / (reference + _EPS))


def clip_bce_loss(log_probability: Tensor, log_complement: Tensor, activity: Tensor) -> Tensor:
    """Return the binary cross-entropy of clip-level probabilities, mean over batch and classes.

    Args:
        log_probability: log p, ``[batch, classes]`` (:func:`tse_refine.model.classifier.pooled_log_probability`).
        log_complement: log(1 - p), ``[batch, classes]``.
        activity: 1 for an active class, ``[batch, classes]``.

    Returns:
        A scalar in nats.
    """
    return -(activity * log_probability + (1.0 - activity) * log_complement).mean()
