import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from tse_refine.evaluation.metrics import (
    ATTENUATION,
    CEILING_DB,
    FMQ,
    MEASURES,
    SI_SDRI,
    SNRI,
    Energies,
    Measure,
    add_measure,
    attenuation_db,
    si_sdr_db,
    snr_db,
)


def noise(seed, batch=4, samples=3000):
    return torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def energies(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def test_snr_equals_its_formula():
    rng = np.random.default_rng(0)
    target, error, mixture = 10.0 ** rng.uniform(-6, 3, size=(3, 5, 7))
    eps = 1e-12 * mixture
    expected = 10.0 * np.log10((target + eps) / (error + eps))
    np.testing.assert_allclose(snr_db(*map(torch.from_numpy, (target, error, mixture))), expected, rtol=1e-9)


def test_attenuation_equals_its_formula():
    rng = np.random.default_rng(0)
    mixture, estimate = 10.0 ** rng.uniform(-6, 3, size=(2, 5, 7))
    expected = 10.0 * np.log10(mixture / estimate)
    np.testing.assert_allclose(attenuation_db(*map(torch.from_numpy, (mixture, estimate))), expected, rtol=1e-9)


def test_snri_equals_its_formula():
    estimate, target, interference = noise(0), noise(1), 3.0 * noise(2)
    mixture = target + interference
    e, s, x = (signal.numpy() for signal in (estimate, target, mixture))
    after = 10.0 * np.log10((s**2).sum(1) / ((s - e) ** 2).sum(1))
    before = 10.0 * np.log10((s**2).sum(1) / ((s - x) ** 2).sum(1))
    np.testing.assert_allclose(SNRI.of_signals(estimate, target, mixture), after - before, atol=1e-8)


def test_snri_of_the_mixture_itself_is_zero():
    mixture = noise(0)
    assert torch.equal(SNRI.of_signals(mixture, noise(1), mixture), torch.zeros(4, dtype=torch.float64))


def test_halving_the_interference_improves_by_six_db():
    target, interference = noise(0), noise(1)
    improvement = SNRI.of_signals(target + 0.5 * interference, target, target + interference)
    np.testing.assert_allclose(improvement, 20.0 * np.log10(2.0), atol=1e-8)


def test_snri_of_a_perfect_estimate_is_the_ceiling_less_the_mixtures_snr():
    # as loud a target as its interference: the mixture has 0 dB and twice the energy of the target
    target = torch.tensor([[1.0, 0.0]])
    mixture = torch.tensor([[1.0, 1.0]])
    # eps is -120 dB of the mixture, so the SNR of a target at -3 dB ends at 117 dB
    assert SNRI.of_signals(target, target, mixture).item() == pytest.approx(120.0 - 10.0 * np.log10(2.0))


@pytest.mark.parametrize(
    ("target", "error", "mixture", "expected"),
    [(1.0, 0.0, 1.0, 120.0), (1e6, 0.0, 1.0, 120.0), (0.0, 1.0, 1.0, -120.0), (1.0, 1e20, 1.0, -120.0)],
)
def test_snr_is_within_the_ceiling(target, error, mixture, expected):
    assert snr_db(*energies(target, error, mixture)).item() == pytest.approx(expected)
    assert abs(snr_db(*energies(target, error, mixture)).item()) <= CEILING_DB


def test_attenuation_is_at_most_the_ceiling_which_silence_has():
    assert attenuation_db(*energies(1.0, 0.0)).item() == 120.0
    assert attenuation_db(*energies(1.0, 1e-15)).item() == 120.0
    assert attenuation_db(*energies(1.0, 1e-11)).item() == pytest.approx(110.0)


def test_an_amplifying_estimate_has_negative_attenuation():
    assert attenuation_db(*energies(1.0, 100.0)).item() == pytest.approx(-20.0)


def test_a_silent_estimate_has_an_snr_of_zero_db_and_full_attenuation():
    target = noise(0)
    mixture, silence = target + 2.0 * noise(1), torch.zeros_like(target)
    energy, mixture_energy = target.square().sum(1), mixture.square().sum(1)
    assert torch.equal(snr_db(energy, energy, mixture_energy), torch.zeros(4, dtype=torch.float64))
    assert attenuation_db(mixture_energy, silence.square().sum(1)).tolist() == [120.0] * 4
    before = snr_db(energy, (target - mixture).square().sum(1), mixture_energy)
    torch.testing.assert_close(SNRI.of_signals(silence, target, mixture), -before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("estimate_energy", [0.0, 1.0])
def test_a_silent_mixture_gives_finite_values(dtype, estimate_energy):
    nothing, some = torch.zeros((), dtype=dtype), torch.tensor(estimate_energy, dtype=dtype)
    assert torch.isfinite(snr_db(nothing, some, nothing))
    assert torch.isfinite(attenuation_db(nothing, some))
    assert torch.isfinite(SNRI.of_signals(some[None, None], nothing[None, None], nothing[None, None])).all()


def test_snri_is_measured_in_float64_whatever_comes_in():
    # a perfect estimate but for rounding: in float32 sums the error would drown
    target, mixture = noise(0).float(), noise(1).float()
    estimate = target + 1e-4 * noise(2).float()
    improvement = SNRI.of_signals(estimate, target, mixture)
    assert improvement.dtype == torch.float64
    torch.testing.assert_close(improvement, SNRI.of_signals(estimate.double(), target.double(), mixture.double()))


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_metrics_do_not_depend_on_the_level(factor):
    estimate, target, mixture = noise(0), noise(1), noise(2)
    scaled = SNRI.of_signals(factor * estimate, factor * target, factor * mixture)
    torch.testing.assert_close(scaled, SNRI.of_signals(estimate, target, mixture))


def test_si_sdr_improvement_agrees_with_torchmetrics():
    estimate, target, mixture = 0.7 * noise(0) + noise(1), noise(1), noise(1) + 3.0 * noise(2)
    after, before = (scale_invariant_signal_distortion_ratio(signal, target) for signal in (estimate, mixture))
    torch.testing.assert_close(SI_SDRI.of_signals(estimate, target, mixture), after - before, atol=1e-6, rtol=0.0)


def test_si_sdr_of_an_estimate_does_not_depend_on_its_level():
    estimate, target, mixture = noise(0) + noise(1), noise(1), noise(1) + 3.0 * noise(2)
    expected = SI_SDRI.of_signals(estimate, target, mixture)
    torch.testing.assert_close(SI_SDRI.of_signals(1e-3 * estimate, target, mixture), expected)


def test_si_sdr_of_a_silent_estimate_is_zero_as_in_torchmetrics_and_of_a_scaled_target_the_ceiling():
    target = noise(0)
    silence = torch.zeros_like(target)
    assert torch.equal(si_sdr_db(Energies.of_signals(silence, target, target)), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(scale_invariant_signal_distortion_ratio(silence, target), torch.zeros(4).double())
    assert (si_sdr_db(Energies.of_signals(0.5 * target, target, target)) > 110.0).all()
    assert torch.isfinite(si_sdr_db(Energies.of_signals(target, silence, target))).all()


def test_energies_of_silence_are_those_of_a_silent_estimate():
    estimate, target, mixture = noise(0), noise(1), noise(2)
    expected = Energies.of_signals(torch.zeros_like(estimate), target, mixture)
    for computed, direct in zip(Energies.of_signals(estimate, target, mixture).of_silence(), expected, strict=True):
        assert torch.equal(computed, direct)


def test_attenuation_of_signals_is_that_of_their_energies():
    estimate, mixture = 0.1 * noise(0), noise(0)
    torch.testing.assert_close(ATTENUATION.of_signals(estimate, noise(1), mixture), torch.full((4,), 20.0).double())


def test_a_measure_is_computed_in_one_way_and_has_a_name_of_its_own():
    with pytest.raises(ValueError, match="one of from_energies and from_waveforms"):
        Measure("nothing", "nothing", "", frozenset({FMQ}))
    with pytest.raises(ValueError, match="there is a measure 'snri_db' already"):
        add_measure(Measure("snri_db", "another", "dB", frozenset({FMQ}), si_sdr_db))
    assert MEASURES["snri_db"] is SNRI
    add_measure(SNRI)  # importing a module twice changes nothing
