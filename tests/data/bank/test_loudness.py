from itertools import pairwise

import numpy as np
import pytest
import torch
import torchaudio.functional as audio_functional

from tse_refine.data.bank.loudness import LUFS_FLOOR, gated_loudness, hop_energies, loudest_block, rms_level


def reference(signal: torch.Tensor, rate: int) -> float:
    """BS.1770 by torchaudio, 12 dB lower so that its filters do not clamp."""
    return audio_functional.loudness(signal[None] / 4.0, rate).item() + 20 * np.log10(4.0)


def bursts(rate: int, seconds: float) -> torch.Tensor:
    """Decaying noise bursts and a swelling tone: loudness that changes from hop to hop."""
    generator = torch.Generator().manual_seed(rate)
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    noise = torch.randn(len(time), generator=generator, dtype=torch.float64)
    tone = torch.sin(2 * np.pi * 0.11 * rate * time) * (0.5 + 0.5 * torch.sin(2 * np.pi * 0.4 * time))
    return 0.3 * noise * torch.exp(-6.0 * (time % 0.9)) + 0.2 * tone


@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100, 48_000])
def test_any_excerpt_on_the_grid_has_the_loudness_of_bs_1770(rate):
    recording = bursts(rate, 9.0)
    hops, _ = hop_energies(recording, rate)
    for start in (0, 7, 31, 52):
        for num_hops in (5, 20, 35):
            edges = [round(hop * rate / 10) for hop in (start, start + num_hops)]
            measured = gated_loudness(hops[start : start + num_hops])
            assert measured == pytest.approx(reference(recording[slice(*edges)], rate), abs=0.1)


def test_a_full_scale_sine_of_997_hz_is_minus_3_lufs():
    time = torch.arange(5 * 48_000, dtype=torch.float64) / 48_000
    hops, plain = hop_energies(torch.sin(2 * np.pi * 997 * time), 48_000)
    # the filters by formula for any rate, as torchaudio's and Scaper's, are 0.04 dB off the standard's table
    assert gated_loudness(hops) == pytest.approx(-3.01, abs=0.05)
    assert rms_level(plain) == pytest.approx(-3.01, abs=0.01)


def test_loud_treble_is_not_clamped():
    time = torch.arange(2 * 48_000, dtype=torch.float64) / 48_000
    loud = torch.sin(2 * np.pi * 6000 * time)  # the shelf lifts it by 4 dB, over full scale
    louder, softer = (gated_loudness(hop_energies(scale * loud, 48_000)[0]) for scale in (1.0, 0.1))
    assert louder - softer == pytest.approx(20.0, abs=0.01)


def test_under_half_a_second_is_measured_repeated():
    short = bursts(16_000, 0.3)
    hops, _ = hop_energies(short, 16_000)
    assert len(hops) == 5
    assert gated_loudness(hops) == pytest.approx(reference(torch.cat([short, short])[:8000], 16_000), abs=0.1)


def test_pauses_do_not_count():
    sound = bursts(16_000, 3.0)
    with_pause = torch.cat([sound, torch.zeros(10 * 16_000, dtype=torch.float64)])
    alone, paused = (gated_loudness(hop_energies(signal, 16_000)[0]) for signal in (sound, with_pause))
    assert paused == pytest.approx(alone, abs=0.5)  # the blocks at the end of the sound are partly silent
    assert gated_loudness(np.zeros(30, np.float32)) == LUFS_FLOOR


@pytest.mark.parametrize("below_db", [20.0, 30.0])
def test_blocks_below_the_relative_gate_do_not_count(below_db):
    rate = 16_000
    loud = torch.sin(2 * np.pi * 1000 * torch.arange(3 * rate, dtype=torch.float64) / rate)
    faint = 10 ** (-below_db / 20) * torch.cat([loud, loud, loud])  # audible, over -70 LUFS, but under the gate
    signal = torch.cat([loud, faint])
    measured = gated_loudness(hop_energies(signal, rate)[0])
    # without the relative gate it would be 6 dB lower; the three blocks that have both cost 0.2 dB
    assert measured == pytest.approx(gated_loudness(hop_energies(loud, rate)[0]), abs=0.35)
    assert measured == pytest.approx(reference(signal, rate), abs=0.1)


def test_blocks_a_little_below_the_mean_count():
    hops = np.repeat(np.float32([0.1, 0.1 * 10 ** (-0.8)]), 1000)  # 8 dB apart: both pass the gate
    both = -0.691 + 10 * np.log10(hops.mean())
    assert gated_loudness(hops) == pytest.approx(both, abs=0.01)


@pytest.mark.parametrize("rate", [11_025, 44_100])
def test_each_hop_is_the_mean_power_of_its_own_100_ms(rate):
    recording = bursts(rate, 2.37)
    _, plain = hop_energies(recording, rate)
    assert len(plain) == 23  # the incomplete one is left out
    edges = [round(hop * rate / 10) for hop in range(24)]
    expected = [recording[begin:end].square().mean().item() for begin, end in pairwise(edges)]
    np.testing.assert_allclose(plain, expected, rtol=1e-5)


def test_filter_ringing_from_before_an_excerpt_does_not_count():
    time = torch.arange(16_000, dtype=torch.float64) / 16_000
    hum = 0.5 * torch.cos(2 * np.pi * 60 * time)  # cut off at its peak: the high-pass rings for some milliseconds
    hops, _ = hop_energies(torch.cat([hum, torch.zeros(32_000, dtype=torch.float64)]), 16_000)
    assert gated_loudness(hops[10:30]) == LUFS_FLOOR  # digital silence


def test_the_loudest_block_is_the_400_ms_that_hold_the_burst():
    signal = torch.zeros(5 * 16_000, dtype=torch.float64)
    time = torch.arange(6400, dtype=torch.float64) / 16_000
    signal[32_000:38_400] = 0.1 * torch.sin(2 * np.pi * 997 * time)
    # 20 dB under a full-scale sine; the filter's onset moves a little of it out of the 400 ms
    assert loudest_block(hop_energies(signal, 16_000)[0]) == pytest.approx(-23.01, abs=0.15)


def test_a_recording_of_one_sample_has_a_level():
    for hops in hop_energies(torch.tensor([0.5]), 16_000):
        assert len(hops) == 5
        assert np.isfinite(hops).all()
