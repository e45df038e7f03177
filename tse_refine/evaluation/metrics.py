"""SNR, SNR improvement and attenuation, in dB; defined for silence too.

They are functions of energies (sums of squares), because the evaluation of many queries of one mixture gets all of its
energies from inner products and never forms an error signal.
"""

from __future__ import annotations

import torch
from torch import Tensor

CEILING_DB = 120.0
_RELATIVE_EPS = 1e-12  # -120 dB of the mixture's energy
_TINY = 1e-30  # keeps a mixture of exact silence from dividing by zero


def snr_db(target_energy: Tensor, error_energy: Tensor, mixture_energy: Tensor) -> Tensor:
    """Return 10 log10((||s||^2 + eps) / (||s - e||^2 + eps)) with eps = 1e-12 ||x||^2, within +-120 dB.

    A silent estimate of any target has 0 dB. A silent target has no meaningful SNR: never average one.

    Args:
        target_energy: ||s||^2, any shape.
        error_energy: ||s - e||^2, same shape.
        mixture_energy: ||x||^2, same shape.

    >>> snr_db(torch.tensor(1.0), torch.tensor(0.1), torch.tensor(1.0)).round(decimals=3)
    tensor(10.)
    """
    eps = _RELATIVE_EPS * mixture_energy + _TINY
    return (10.0 * torch.log10((target_energy + eps) / (error_energy + eps))).clamp(-CEILING_DB, CEILING_DB)


def attenuation_db(mixture_energy: Tensor, estimate_energy: Tensor) -> Tensor:
    """Return 10 log10(||x||^2 / ||e||^2), at most 120 dB, which exact silence has.

    Args:
        mixture_energy: ||x||^2, any shape.
        estimate_energy: ||e||^2, same shape.

    >>> attenuation_db(torch.tensor(1.0), torch.tensor([0.01, 0.0]))
    tensor([ 20., 120.])
    """
    ratio = (mixture_energy + _TINY) / (estimate_energy + _TINY)
    return (10.0 * torch.log10(ratio)).clamp(-CEILING_DB, CEILING_DB)


def snri_db(estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
    """Return the improvement in SNR from the mixture to the estimate, SNR(e, s) - SNR(x, s).

    Args:
        estimate: e, ``[batch, samples]``.
        target: s, ``[batch, samples]``, not silent.
        mixture: x, ``[batch, samples]``.

    Returns:
        ``[batch]``, dB.
    """
    mixture_energy, target_energy = _energy(mixture), _energy(target)
    after = snr_db(target_energy, _energy(target - estimate), mixture_energy)
    return after - snr_db(target_energy, _energy(target - mixture), mixture_energy)


def _energy(signal: Tensor) -> Tensor:
    return signal.double().square().sum(-1)
