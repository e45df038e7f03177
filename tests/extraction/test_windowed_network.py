import pytest
import torch

from tse_refine.extraction.windowed_network import WindowedNetwork

EVERYTHING = torch.ones(1, 3)


def largest(network: WindowedNetwork, blocks) -> torch.Tensor:
    return torch.cat(list(network.probabilities(blocks))).amax(0)


def extracted(network: WindowedNetwork, signal: torch.Tensor, queries: torch.Tensor, keep) -> torch.Tensor:
    return torch.cat(list(network.extract(signal.split(70, dim=-1), queries, keep)), dim=-1)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 1003])
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_a_network_that_changes_nothing_returns_the_recording(unchanged, samples, channels):
    signal = torch.randn(channels, samples)
    found = extracted(WindowedNetwork(unchanged), signal, torch.eye(3)[:2], lambda probability: EVERYTHING)
    assert found.shape == (2, channels, samples)
    torch.testing.assert_close(found, signal.expand(2, -1, -1), rtol=0, atol=1e-6)


def test_windows_have_the_length_of_the_training_and_overlap_by_a_quarter(unchanged):
    network = WindowedNetwork(unchanged)
    assert (network.length, network.hop) == (100, 75)
    extracted(network, torch.randn(1, 1000), EVERYTHING, lambda probability: EVERYTHING)
    assert unchanged.network.lengths == [100] * 13  # the last one begins where it is full


def test_a_probability_is_the_largest_over_windows_and_channels(unchanged):
    signal = torch.full((2, 1000), 0.1)
    signal[1, 640] = 0.7
    probability = largest(WindowedNetwork(unchanged), signal.split(70, dim=-1))
    torch.testing.assert_close(probability, torch.full((3,), 0.7))


def test_opposite_channels_do_not_cancel_a_sound(unchanged):
    sound = torch.rand(1, 100)
    probability = largest(WindowedNetwork(unchanged), [torch.cat([sound, -sound])])
    torch.testing.assert_close(probability, sound.max().expand(3))


def test_all_channels_keep_or_remove_a_class_together(unchanged):
    signal = torch.full((2, 1000), 0.01)
    signal[0, 400:600] = 0.8  # loud enough for a decision in one channel
    found = extracted(WindowedNetwork(unchanged), signal, EVERYTHING, lambda probability: (probability >= 0.5).float())
    torch.testing.assert_close(found[0, :, 400:600], signal[:, 400:600], rtol=0, atol=1e-6)
    assert not found[:, :, :300].any()
    assert not found[:, :, 700:].any()


def test_nothing_sounds_in_digital_silence(trained):
    network = WindowedNetwork(trained)
    assert not largest(network, [torch.zeros(2, 5000)]).any()
    assert largest(network, [torch.full((1, 5000), 1e-3)]).max() > 0.8


def test_rows_with_and_without_an_answer_go_through_together(trained):
    signal = torch.randn(2, 9000)
    network = WindowedNetwork(trained)
    queries = torch.eye(3)
    seen: list[int] = []

    def every_second(probability: torch.Tensor) -> torch.Tensor:
        kept = torch.tensor([[float((len(seen) + row) % 2), 1.0, 0.0] for row in range(len(probability))])
        seen.extend([0] * len(probability))
        return kept

    mixed = extracted(network, signal, queries, every_second)
    network.rows_at_once = 1
    seen.clear()
    one_by_one = extracted(network, signal, queries, every_second)
    torch.testing.assert_close(mixed, one_by_one, rtol=0, atol=1e-6)
    assert not mixed[2].any()
    always = extracted(network, signal, queries, lambda probability: EVERYTHING)
    torch.testing.assert_close(mixed[1], always[1], rtol=0, atol=1e-6)
    assert mixed[0].any()
    assert (mixed[0] - always[0]).abs().max() > 1e-3


def test_a_recording_of_one_window_is_extracted_as_the_network_does(trained):
    signal, query = torch.randn(1, 900), torch.tensor([[1.0, 0.0, 1.0]])
    found = extracted(WindowedNetwork(trained), signal, query, lambda probability: EVERYTHING)
    with torch.no_grad():
        torch.testing.assert_close(found[0], trained.network(signal, query)[0], rtol=0, atol=1e-6)


def test_many_windows_at_once_are_the_windows_one_by_one(trained):
    signal = torch.randn(1, 9001)
    network = WindowedNetwork(trained)
    assert network.rows_at_once > 8
    together = extracted(network, signal, EVERYTHING, lambda probability: EVERYTHING)
    network.rows_at_once = 1
    torch.testing.assert_close(
        extracted(network, signal, EVERYTHING, lambda probability: EVERYTHING), together, rtol=0, atol=1e-6
    )
