import math
from fractions import Fraction

import pytest
import torch
from torchaudio.transforms import Resample

from tse_refine.extraction.resampling import rate_ratio, resample


def parts_of(signal: torch.Tensor, longest: int) -> list[torch.Tensor]:
    """Cut a signal into parts of uneven lengths."""
    torch.manual_seed(0)
    sizes = []
    while sum(sizes) < signal.shape[-1]:
        sizes.append(min(int(torch.randint(1, longest + 1, ())), signal.shape[-1] - sum(sizes)))
    return list(signal.split(sizes, dim=-1))


@pytest.mark.parametrize(
    ("source", "target"),
    [(44_100, 8_000), (8_000, 44_100), (48_000, 16_000), (4_000, 16_000), (384_000, 16_000), (44_101, 16_000)],
)
@pytest.mark.parametrize("longest", [700, 30_000])
def test_a_signal_in_blocks_is_resampled_as_if_whole(source, target, longest):
    signal = torch.randn(2, 50_001)
    ratio = rate_ratio(source, target)
    whole = Resample(ratio.denominator, ratio.numerator)(signal)
    streamed = torch.cat(list(resample(parts_of(signal, longest), ratio)), dim=-1)
    assert streamed.shape[-1] == math.ceil(ratio * 50_001)
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 100, 441])
def test_a_signal_shorter_than_the_filter_is_resampled_whole(samples):
    signal = torch.randn(1, samples)
    streamed = torch.cat(list(resample(signal.split(1, dim=-1), Fraction(80, 441))), dim=-1)
    torch.testing.assert_close(streamed, Resample(441, 80)(signal), rtol=0, atol=1e-6)


@pytest.mark.parametrize("source", [4_000, 11_127, 22_050, 44_101, 48_000, 383_999])
def test_resampling_there_and_back_keeps_every_sample_in_place(source):
    seconds = torch.arange(source) / source
    tone = torch.sin(2 * torch.pi * 440.0 * seconds)[None] * torch.hann_window(source)
    ratio = rate_ratio(source, 8_000)
    back = torch.cat(list(resample(resample(tone.split(999, dim=-1), ratio), 1 / ratio)), dim=-1)[..., :source]
    assert back.shape == tone.shape
    assert (back - tone).abs().max() < 2e-3  # a delay of a tenth of a sample at 8 kHz would make 0.03


def test_every_rate_is_resampled_by_a_small_filter_and_at_most_half_a_thousandth_off():
    for rate in range(4_000, 384_001, 11):
        ratio = rate_ratio(rate, 16_000)
        assert ratio.numerator * ratio.denominator <= 1_000_001
        assert abs(ratio * Fraction(rate, 16_000) - 1) <= 0.0005
    for rate in (8_000, 11_025, 22_050, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000, 352_800, 384_000):
        assert rate_ratio(rate, 16_000) == Fraction(16_000, rate)


def test_a_signal_without_blocks_stays_without():
    assert list(resample([], Fraction(1, 2))) == []
