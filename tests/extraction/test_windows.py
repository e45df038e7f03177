import math

import pytest
import torch

from tse_refine.extraction.windows import cut_windows, overlap_add

LENGTH, HOP = 100, 75


def blocks(signal: torch.Tensor, size: int = 33):
    return signal.split(size, dim=-1)


@pytest.mark.parametrize("samples", [1, 2, 33, 99, 100, 101, 174, 175, 176, 999, 1000, 1001, 1003])
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("hop", [25, 50, 75, 100])
def test_a_signal_cut_and_added_is_the_signal(samples, at_once, hop):
    signal = torch.randn(2, 3, samples)
    added = torch.cat(list(overlap_add(cut_windows(blocks(signal), LENGTH, hop, at_once), hop, LENGTH - hop)), dim=-1)
    torch.testing.assert_close(added, signal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 33, 5000])
def test_the_blocks_do_not_matter(size):
    signal = torch.randn(1, 1234)
    expected = [(start, windows) for start, windows in cut_windows([signal], LENGTH, HOP, 2)]
    for (start, windows), (right_start, right) in zip(
        cut_windows(blocks(signal, size), LENGTH, HOP, 2), expected, strict=True
    ):
        assert start == right_start
        assert torch.equal(windows, right)


@pytest.mark.parametrize("samples", [101, 175, 998, 1000])
def test_every_window_is_full_and_the_last_ends_with_the_signal(samples):
    signal = torch.arange(float(samples))[None]
    found = [
        (start + number * HOP, window[0])
        for start, windows in cut_windows(blocks(signal), LENGTH, HOP, 4)
        for number, window in enumerate(windows)
    ]
    for start, window in found:
        assert torch.equal(window, signal[0, start : start + LENGTH])
        assert len(window) == LENGTH
    starts = [start for start, _ in found]
    assert starts[:-1] == list(range(0, HOP * (len(starts) - 1), HOP))
    assert starts[-1] == samples - LENGTH
    assert 0 < starts[-1] - starts[-2] <= HOP


def test_a_signal_shorter_than_a_window_is_one_window_and_none_is_none():
    assert [(start, windows.shape) for start, windows in cut_windows([torch.zeros(2, 7)], LENGTH, HOP)] == [
        (0, (1, 2, 7))
    ]
    assert list(cut_windows([], LENGTH, HOP)) == []
    assert list(overlap_add([], HOP, LENGTH - HOP)) == []


def differently_heard(signal: torch.Tensor, gains: tuple[float, float], length: int, hop: int) -> torch.Tensor:
    """Put a signal together from windows that the network hears alternately louder and softer."""
    windows = (
        (start, windows * gains[number % 2])
        for number, (start, windows) in enumerate(cut_windows(blocks(signal, 1000), length, hop))
    )
    return torch.cat(list(overlap_add(windows, hop, length - hop)), dim=-1)


def test_where_windows_disagree_by_a_decibel_a_tone_has_no_step():
    rate, length = 8000, 16_000
    tone = torch.sin(2 * math.pi * 100.0 * torch.arange(8 * rate) / rate)[None]
    gains = (10 ** (0.5 / 20), 10 ** (-0.5 / 20))
    added = differently_heard(tone, gains, length, 12_000)
    steps = added.diff().abs().max() / tone.diff().abs().max()
    assert 20 * math.log10(steps) < 0.51  # the louder window's own steps: none at the seams
    constant = torch.ones(1, 8 * rate)
    assert differently_heard(constant, gains, length, 12_000).diff().abs().max() < 5e-5
    assert differently_heard(constant, gains, length, length).diff().abs().max() > 0.1  # without a crossfade


def test_where_windows_disagree_by_a_decibel_noise_keeps_its_level():
    torch.manual_seed(0)
    noise = torch.randn(1, 200_000)
    added = differently_heard(noise, (10 ** (0.5 / 20), 10 ** (-0.5 / 20)), 16_000, 12_000)
    level = 10 * torch.log10((added**2).unfold(-1, 400, 400).mean(-1) / (noise**2).unfold(-1, 400, 400).mean(-1))
    assert level.abs().max() < 0.51
    assert level.diff().abs().max() < 0.2  # dB in 50 ms: a crossfade takes 500


def test_a_window_fades_into_the_next_along_a_squared_sine():
    added = differently_heard(torch.ones(1, 3 * LENGTH), (1.0, 0.0), LENGTH, HOP)[0]
    place = (torch.arange(LENGTH - HOP) + 0.5) / (LENGTH - HOP)
    assert torch.equal(added[:HOP], torch.ones(HOP))
    torch.testing.assert_close(added[HOP:LENGTH], torch.cos(0.5 * math.pi * place) ** 2, rtol=0, atol=1e-6)
    assert not added[LENGTH : 2 * HOP].any()
