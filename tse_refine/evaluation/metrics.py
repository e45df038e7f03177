"""The table of measures: SNR improvement, SI-SDR improvement and attenuation, in dB, defined for silence too.

Measures follow from energies (sums of squares) and inner products, because the evaluation of many queries of one
mixture computes all of them from inner products and never forms an error signal. A measure for which that is not
enough is computed from the waveforms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

CEILING_DB = 120.0
FMQ, PMQ, FUQ = "FMQ", "PMQ", "FUQ"  # fully matched, partially matched, fully unmatched query
_RELATIVE_EPS = 1e-12  # -120 dB of the mixture's energy
_TINY = 1e-30  # keeps a mixture of exact silence from dividing by zero


class Energies(NamedTuple):
    """Sums of squares and the inner product from which measures follow, of any one shape, float64.

    Attributes:
        target: ||s||^2.
        estimate: ||e||^2.
        product: <e, s>.
        mixture: ||x||^2.
    """

    target: Tensor
    estimate: Tensor
    product: Tensor
    mixture: Tensor

    @property
    def error(self) -> Tensor:
        """||s - e||^2."""
        return (self.target - 2.0 * self.product + self.estimate).clamp(min=0.0)

    def of_silence(self) -> Energies:
        """Return the energies of an estimate of exact silence."""
        return self._replace(estimate=torch.zeros_like(self.estimate), product=torch.zeros_like(self.product))

    @staticmethod
    def of_signals(estimate: Tensor, target: Tensor, mixture: Tensor) -> Energies:
        """Compute the energies of signals ``[..., samples]``."""
        estimate, target, mixture = estimate.double(), target.double(), mixture.double()
        return Energies(
            target.square().sum(-1), estimate.square().sum(-1), (estimate * target).sum(-1), mixture.square().sum(-1)
        )


@dataclass(frozen=True)
class Measure:
    """One entry of the table of measures; exactly one of the two functions is given.

    Attributes:
        name: column of the result files and name in logged metrics: letters, digits and ``_`` only.
        label: name in tables and figures.
        unit: such as ``dB``; empty for none.
        kinds: queries for which the measure exists, of FMQ, PMQ and FUQ.
        from_energies: value from energies, any shape.
        from_waveforms: value from estimates, targets and mixtures, ``[cells, samples]`` each, as ``[cells]``.
        is_improvement: whether the value of the mixture itself, taken as the estimate, is subtracted.
    """

    name: str
    label: str
    unit: str
    kinds: frozenset[str]
    from_energies: Callable[[Energies], Tensor] | None = None
    from_waveforms: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    is_improvement: bool = False

    def __post_init__(self) -> None:
        """Check that there is one way to compute the measure."""
        if (self.from_energies is None) == (self.from_waveforms is None):
            raise ValueError(f"{self.name}: one of from_energies and from_waveforms is expected.")

    @property
    def axis_label(self) -> str:
        """Label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def of_signals(self, estimate: Tensor, target: Tensor, mixture: Tensor) -> Tensor:
        """Compute the measure of signals ``[cells, samples]`` each, as ``[cells]`` in float64."""

        def value(signal: Tensor) -> Tensor:
            if self.from_energies is not None:
                return self.from_energies(Energies.of_signals(signal, target, mixture))
            assert self.from_waveforms is not None
            return self.from_waveforms(signal, target, mixture).double()

        return value(estimate) - value(mixture) if self.is_improvement else value(estimate)


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


def si_sdr_db(energies: Energies) -> Tensor:
    """Return the scale-invariant SDR (Le Roux et al. 2019, arXiv 1811.02508), within +-120 dB.

    With the projection of the estimate on the target, ||a s||^2 = <e, s>^2 / ||s||^2, it is
    10 log10((||a s||^2 + eps) / (||e||^2 - ||a s||^2 + eps)), eps = 1e-12 ||e||^2. A silent estimate has 0 dB, as in
    torchmetrics; of a silent target there is no meaningful value.

    >>> tone = torch.tensor([[1.0, -1.0, 1.0, -1.0]])
    >>> noisy = 3.0 * tone + torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    >>> si_sdr_db(Energies.of_signals(noisy, tone, noisy)).round(decimals=2)
    tensor([9.5400], dtype=torch.float64)
    """
    projection = energies.product.square() / (energies.target + _TINY)
    eps = _RELATIVE_EPS * energies.estimate + _TINY
    ratio = (projection + eps) / ((energies.estimate - projection).clamp(min=0.0) + eps)
    return (10.0 * torch.log10(ratio)).clamp(-CEILING_DB, CEILING_DB)


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


SNRI = Measure(
    "snri_db", "SNRi", "dB", frozenset({FMQ, PMQ}), lambda e: snr_db(e.target, e.error, e.mixture), is_improvement=True
)
SI_SDRI = Measure("si_sdri_db", "SI-SDRi", "dB", frozenset({FMQ, PMQ}), si_sdr_db, is_improvement=True)
ATTENUATION = Measure(
    "attenuation_db", "attenuation", "dB", frozenset({FUQ}), lambda e: attenuation_db(e.mixture, e.estimate)
)
HEADLINES = (SNRI, ATTENUATION)  # what tables show of a condition; their values for exact silence stand beside them
MEASURES: dict[str, Measure] = {measure.name: measure for measure in (SNRI, SI_SDRI, ATTENUATION)}


def add_measure(measure: Measure) -> None:
    """Add an entry to the table: a column of every result file, a row of every table of measures.

    Args:
        measure: entry with a name of its own.

    Raises:
        ValueError: another measure has the name.
    """
    if MEASURES.setdefault(measure.name, measure) is not measure:
        raise ValueError(f"there is a measure {measure.name!r} already.")
