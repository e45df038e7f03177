import math

import pytest
import torch

from tse_refine.extraction.windows import WindowedNetwork, cut_windows, overlap_add

LENGTH, HOP = 100, 75


def blocks(signal: torch.Tensor, size: int = 33):
    return signal.split(size, dim=-1)


@pytest.mark.parametrize("samples", [1, 2, 33, 99, 100, 101, 174, 175, 176, 999, 1000, 1001, 1003])
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("hop", [25, 50, 75, 100])
def test_the_overlap_added_windows_of_a_signal_are_the_signal(samples, at_once, hop):
    signal = torch.randn(2, 3, samples)
    added = torch.cat(list(overlap_add(cut_windows(blocks(signal), LENGTH, hop, at_once), hop, LENGTH - hop)), dim=-1)
    torch.testing.assert_close(added, signal, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 33, 5000])
def test_windows_do_not_depend_on_the_block_size(size):
    signal = torch.randn(1, 1234)
    expected = list(cut_windows([signal], LENGTH, HOP, 2))
    cut = list(cut_windows(blocks(signal, size), LENGTH, HOP, 2))
    assert [start for start, _ in cut] == [start for start, _ in expected]
    assert all(torch.equal(windows, other) for (_, windows), (_, other) in zip(cut, expected, strict=True))


@pytest.mark.parametrize("samples", [101, 175, 998, 1000])
def test_every_window_is_full_and_the_last_ends_with_the_signal(samples):
    signal = torch.arange(float(samples))[None]
    windows = [
        (start + number * HOP, window[0])
        for start, group in cut_windows(blocks(signal), LENGTH, HOP, 4)
        for number, window in enumerate(group)
    ]
    for start, window in windows:
        assert torch.equal(window, signal[0, start : start + LENGTH])
        assert len(window) == LENGTH
    starts = [start for start, _ in windows]
    assert starts[:-1] == list(range(0, HOP * (len(starts) - 1), HOP))
    assert starts[-1] == samples - LENGTH
    assert 0 < starts[-1] - starts[-2] <= HOP


def test_a_signal_shorter_than_a_window_is_one_window_and_an_empty_one_has_none():
    assert [(start, windows.shape) for start, windows in cut_windows([torch.zeros(2, 7)], LENGTH, HOP)] == [
        (0, (1, 2, 7))
    ]
    assert list(cut_windows([], LENGTH, HOP)) == []
    assert list(overlap_add([], HOP, LENGTH - HOP)) == []


def reassemble_with_gains(signal: torch.Tensor, gains: tuple[float, float], length: int, hop: int) -> torch.Tensor:
    """Overlap-add windows of a signal that were scaled by two gains in turn."""
    windows = (
        (start, windows * gains[number % 2])
        for number, (start, windows) in enumerate(cut_windows(blocks(signal, 1000), length, hop))
    )
    return torch.cat(list(overlap_add(windows, hop, length - hop)), dim=-1)


def test_a_tone_has_no_step_where_windows_differ_by_a_decibel():
    rate, length = 8000, 16_000
    tone = torch.sin(2 * math.pi * 100.0 * torch.arange(8 * rate) / rate)[None]
    gains = (10 ** (0.5 / 20), 10 ** (-0.5 / 20))
    added = reassemble_with_gains(tone, gains, length, 12_000)
    steps = added.diff().abs().max() / tone.diff().abs().max()
    assert 20 * math.log10(steps) < 0.51  # the louder window's own steps: none at the seams
    constant = torch.ones(1, 8 * rate)
    assert reassemble_with_gains(constant, gains, length, 12_000).diff().abs().max() < 5e-5
    assert reassemble_with_gains(constant, gains, length, length).diff().abs().max() > 0.1  # without a crossfade


def test_noise_keeps_its_level_where_windows_differ_by_a_decibel():
    torch.manual_seed(0)
    noise = torch.randn(1, 200_000)
    added = reassemble_with_gains(noise, (10 ** (0.5 / 20), 10 ** (-0.5 / 20)), 16_000, 12_000)
    level = 10 * torch.log10((added**2).unfold(-1, 400, 400).mean(-1) / (noise**2).unfold(-1, 400, 400).mean(-1))
    assert level.abs().max() < 0.51
    assert level.diff().abs().max() < 0.2  # dB in 50 ms: a crossfade takes 500


def test_a_window_fades_into_the_next_along_a_squared_sine():
    added = reassemble_with_gains(torch.ones(1, 3 * LENGTH), (1.0, 0.0), LENGTH, HOP)[0]
    position = (torch.arange(LENGTH - HOP) + 0.5) / (LENGTH - HOP)
    assert torch.equal(added[:HOP], torch.ones(HOP))
    torch.testing.assert_close(added[HOP:LENGTH], torch.cos(0.5 * math.pi * position) ** 2, rtol=0, atol=1e-6)
    assert not added[LENGTH : 2 * HOP].any()


QUERIES = torch.eye(3)
ALL = torch.ones(1, 1, 3)  # one query for all classes, in every window


def largest_probability(network: WindowedNetwork, blocks) -> torch.Tensor:
    return torch.cat(list(network.probabilities(blocks))).amax(0)


def extract(network: WindowedNetwork, signal: torch.Tensor, refine_queries) -> torch.Tensor:
    return torch.cat(list(network.extract(signal.split(70, dim=-1), refine_queries)), dim=-1)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 1003])
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_a_network_that_does_not_change_its_input_returns_the_recording(identity, samples, channels):
    signal = torch.randn(channels, samples)
    estimate = extract(WindowedNetwork(identity), signal, lambda probability: QUERIES[None, :2])
    assert estimate.shape == (2, channels, samples)
    torch.testing.assert_close(estimate, signal.expand(2, -1, -1), rtol=0, atol=1e-6)


def test_windows_have_the_length_of_the_training_mixtures_and_overlap_by_a_quarter(identity):
    network = WindowedNetwork(identity)
    assert (network.length, network.hop) == (100, 75)
    extract(network, torch.randn(1, 1000), lambda probability: ALL)
    assert identity.network.lengths == [100] * 13  # the last one starts where it is full


def test_a_probability_is_the_largest_over_windows_and_channels(identity):
    signal = torch.full((2, 1000), 0.1)
    signal[1, 640] = 0.7
    probability = largest_probability(WindowedNetwork(identity), signal.split(70, dim=-1))
    torch.testing.assert_close(probability, torch.full((3,), 0.7))


def test_opposite_channels_do_not_cancel_a_sound(identity):
    sound = torch.rand(1, 100)
    probability = largest_probability(WindowedNetwork(identity), [torch.cat([sound, -sound])])
    torch.testing.assert_close(probability, sound.max().expand(3))


def test_all_channels_keep_or_remove_a_class_together(identity):
    signal = torch.full((2, 1000), 0.01)
    signal[0, 400:600] = 0.8  # loud enough for a decision in one channel
    estimate = extract(WindowedNetwork(identity), signal, lambda probability: (probability >= 0.5).float()[:, None])
    torch.testing.assert_close(estimate[0, :, 400:600], signal[:, 400:600], rtol=0, atol=1e-6)
    assert not estimate[:, :, :300].any()
    assert not estimate[:, :, 700:].any()


def test_probabilities_are_zero_in_digital_silence(trained):
    network = WindowedNetwork(trained)
    assert not largest_probability(network, [torch.zeros(2, 5000)]).any()
    assert largest_probability(network, [torch.full((1, 5000), 1e-3)]).max() > 0.8


def test_rows_with_and_without_a_query_go_through_together(trained):
    signal = torch.randn(2, 9000)
    network = WindowedNetwork(trained)
    num_windows = 0

    def every_second(probability: torch.Tensor) -> torch.Tensor:
        nonlocal num_windows
        kept = torch.tensor([[float((num_windows + row) % 2), 1.0, 0.0] for row in range(len(probability))])
        num_windows += len(probability)
        return QUERIES * kept[:, None]

    mixed = extract(network, signal, every_second)
    network.rows_per_pass, num_windows = 1, 0
    one_by_one = extract(network, signal, every_second)
    torch.testing.assert_close(mixed, one_by_one, rtol=0, atol=1e-6)
    assert not mixed[2].any()
    always = extract(network, signal, lambda probability: QUERIES[None])
    torch.testing.assert_close(mixed[1], always[1], rtol=0, atol=1e-6)
    assert mixed[0].any()
    assert (mixed[0] - always[0]).abs().max() > 1e-3


@pytest.mark.parametrize("weights", [[1.0, 0.0, 1.0], [0.3, 0.0, 0.7], [0.01, 0.0, 0.0]])
def test_a_recording_of_one_window_is_extracted_as_by_the_network_alone(trained, weights):
    signal, query = torch.randn(1, 900), torch.tensor([weights])
    estimate = extract(WindowedNetwork(trained), signal, lambda probability: query[None])
    with torch.no_grad():
        torch.testing.assert_close(estimate[0], trained.network(signal, query)[0], rtol=0, atol=1e-6)


def test_many_windows_at_once_are_the_windows_one_by_one(trained):
    signal = torch.randn(1, 9001)
    network = WindowedNetwork(trained)
    assert network.rows_per_pass > 8
    together = extract(network, signal, lambda probability: ALL)
    network.rows_per_pass = 1
    torch.testing.assert_close(extract(network, signal, lambda probability: ALL), together, rtol=0, atol=1e-6)
