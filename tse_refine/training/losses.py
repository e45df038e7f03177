"""The training losses: thresholded SNR for the extraction, binary cross-entropy for the classification."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

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


def frame_activity(classes: Tensor, spans: Tensor, num_classes: int, num_samples: int, num_frames: int) -> Tensor:
    """Return which classes sound in each frame of a classifier: those whose event covers the middle of the frame.

    Args:
        classes: class of each event, -1 for none, ``[batch, events]``.
        spans: first sample of each event and the one after its last, ``[batch, events, 2]``.
        num_classes: number of classes.
        num_samples: length of the mixtures.
        num_frames: number of frames, which divide a mixture evenly.

    Returns:
        Multi-hot, ``[batch, frames, classes]``, float32.

    >>> frame_activity(torch.tensor([[1, -1]]), torch.tensor([[[4, 8], [0, 0]]]), 2, 8, 4)[0].T
    tensor([[0., 0., 0., 0.],
            [0., 0., 1., 1.]])
    """
    middles = (torch.arange(num_frames, device=spans.device) + 0.5) * (num_samples / num_frames)
    sounding = (spans[..., :1] <= middles) & (middles < spans[..., 1:])  # [batch, events, frames]
    one_hot = torch.arange(num_classes, device=classes.device) == classes[..., None]  # [batch, events, classes]
    return torch.einsum("bef,bec->bfc", sounding.float(), one_hot.float()).clamp(max=1.0)


def frame_bce_loss(frame_logits: Tensor, activity: Tensor) -> Tensor:
    """Return the binary cross-entropy of frame probabilities, mean over batch, frames and classes.

    Args:
        frame_logits: ``[batch, frames, classes]``.
        activity: 1 where a class sounds, ``[batch, frames, classes]`` (:func:`frame_activity`).

    Returns:
        A scalar in nats.
    """
    return binary_cross_entropy_with_logits(frame_logits.float(), activity)
