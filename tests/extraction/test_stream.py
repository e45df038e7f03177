import dataclasses
from collections.abc import Iterator

import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.refinement import SoftThreshold

RATE = 8000


@pytest.fixture
def long_windows(identity: TrainedNetwork) -> TrainedNetwork:
    """A network that does not change its input, with windows of two seconds."""
    return dataclasses.replace(identity, duration_seconds=2.0)


def stream(trained, signal: torch.Tensor, size: int = 999, **options):
    return Extractor(trained).stream(lambda: signal.split(size, dim=-1), RATE, [("dog",), ("siren",)], **options)


@pytest.mark.parametrize(("samples", "size"), [(1, 1), (2, 1), (700, 1), (3, 999), (999, 999), (5001, 999)])
def test_parts_of_the_recording_are_yielded_with_their_estimates(identity, samples, size):
    tone = torch.sin(torch.arange(samples) / 10.0).expand(2, -1)
    parts = list(stream(identity, tone, size, threshold=0.0))
    assert all(estimate.shape == (2, *mixture.shape) for mixture, estimate in parts)
    assert torch.equal(torch.cat([mixture for mixture, _ in parts], dim=-1), tone)
    estimate = torch.cat([estimate for _, estimate in parts], dim=-1)
    middle = slice(100, -100)  # a recording's ends are steps, which resampling does not keep
    torch.testing.assert_close(estimate[0, :, middle], tone[:, middle], rtol=0, atol=0.01)


@pytest.mark.parametrize("scope", ["window", "file"])
def test_reading_is_ahead_of_the_estimates_by_a_fixed_number_of_windows(long_windows, scope):
    def most_ahead(seconds: int) -> float:
        read, ahead = 0, [0]

        def blocks() -> Iterator[torch.Tensor]:
            nonlocal read
            read = 0
            for _ in range(seconds):
                read += RATE
                yield torch.full((1, RATE), 0.5)

        done = 0
        for mixture, _ in Extractor(long_windows).stream(blocks, RATE, [("dog",)], scope=scope):
            done += mixture.shape[-1]
            ahead.append(read - done)
        assert done == seconds * RATE
        return max(ahead) / RATE

    assert most_ahead(120) == most_ahead(60) < 30


def test_a_file_is_read_twice_for_one_decision_and_once_for_one_per_window(trained, identity):
    signal = torch.full((1, 3000), 0.5)
    assert stream(identity, signal).passes == 1
    assert stream(identity, signal, scope="file").passes == 2
    assert stream(identity, signal, threshold="none", scope="file").passes == 1


def test_probabilities_are_estimated_without_extracting(trained):
    signal = torch.randn(2, 9000)
    stream = Extractor(trained).stream(lambda: [signal], RATE, [("dog",), ("siren", "car_horn")])
    assert stream.probability == {}
    stream.estimate_probabilities()
    assert stream.probability == pytest.approx({"dog": 0.9, "car_horn": 0.2, "siren": 0.6}, abs=1e-5)
    assert [decision.refined_query for decision in stream.decisions()] == [("dog",), ("siren",)]


def test_queries_may_be_words(extractor):
    signal = torch.full((1, 3000), 0.5)

    def estimates(queries):
        return torch.cat(
            [estimate for _, estimate in extractor.stream(lambda: [signal], RATE, queries, threshold=0.0)], dim=-1
        )

    assert torch.equal(estimates(["Car Horn"]), estimates([("car_horn",)]))
    assert estimates(["Car Horn"]).any()


def test_blocks_may_be_empty_and_of_any_floating_type(identity):
    blocks = [torch.full((2, 900), 0.5, dtype=torch.float64), torch.zeros(2, 0), torch.full((2, 9), 0.5)]
    parts = list(Extractor(identity).stream(lambda: blocks, RATE, ["dog"], threshold=0.0))
    mixture = torch.cat([mixture for mixture, _ in parts], dim=-1)
    assert torch.equal(mixture, torch.full((2, 909), 0.5))


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([("dgo",)], "did you mean 'dog'"),
        ([("dog",), ()], "query is empty"),
        ([], "queries is empty"),
        ("dog", "queries is 'dog'; a list of queries is expected"),
        (None, "queries is None; a list of queries is expected"),
    ],
)
def test_queries_without_a_class_are_rejected(identity, queries, message):
    with pytest.raises(InputError, match=message):
        Extractor(identity).stream(lambda: [torch.zeros(1, 9)], RATE, queries)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([torch.zeros(9)], r"a block has the shape \[9\]; \[channels, samples\] is expected"),
        ([torch.zeros(1, 9), torch.zeros(2, 9)], "a block has 2 channels, earlier ones 1;"),
        ([torch.zeros(1, 9), torch.tensor([[0.0, torch.nan]])], "a block has samples that are not finite"),
        ([torch.zeros(1, 9, dtype=torch.int16)], "a block has the type torch.int16"),
        ([[0.0, 0.1]], "a block is a list"),
        ([torch.zeros(99, 9)], "a block has 99 channels"),
        ([], "blocks returns no samples"),
        (None, "blocks returns a NoneType"),
    ],
)
def test_blocks_that_are_not_waveforms_are_rejected(identity, blocks, message):
    with pytest.raises(InputError, match=message):
        list(Extractor(identity).stream(lambda: blocks, RATE, ["dog"]))


def test_blocks_that_cannot_be_restarted_are_rejected(identity):
    blocks = [torch.full((1, 900), 0.5)]
    with pytest.raises(InputError, match="blocks is a list; a function is expected"):
        Extractor(identity).stream(blocks, RATE, ["dog"])
    once = iter(blocks)
    with pytest.raises(InputError, match="must restart the recording"):
        list(Extractor(identity).stream(lambda: once, RATE, ["dog"], scope="file"))


@pytest.mark.parametrize("scope", ["window", "file"])
def test_the_largest_probability_of_all_windows_is_kept(long_windows, scope):
    signal = torch.full((1, 60 * RATE), 0.01)
    signal[0, : RATE // 2] = 0.8
    extraction = stream(long_windows, signal, size=RATE, scope=scope)
    for _ in extraction:
        pass
    dog, _ = extraction.decisions()
    assert dog.probability["dog"] == pytest.approx(0.8, abs=0.1)  # resampling overshoots at the step
    assert dog.refined_query == ("dog",)
    assert dog.window_share["dog"] == pytest.approx(1 / 40)  # the last window starts after 58 s


def test_the_network_does_not_extract_where_nothing_is_kept(long_windows):
    signal = torch.full((1, 8 * RATE), 0.01)
    estimates = [estimate for _, estimate in stream(long_windows, signal, scope="file")]
    assert not torch.cat(estimates, dim=-1).any()
    assert len(long_windows.network.lengths) == 5  # windows, once


@pytest.mark.parametrize(("scope", "num_rows", "silent"), [("window", 1, True), ("file", 4, False)])
def test_a_soft_threshold_weighs_a_class_per_window_or_once_for_the_file(identity, scope, num_rows, silent):
    signal = torch.full((1, 325), 0.1)  # windows start at 0, 75, 150 and 225
    signal[:, 110:140] = 0.5
    soft = Extractor(identity).stream(lambda: [signal], 4000, ["dog"], SoftThreshold(0.2, 0.8), scope)
    estimate = torch.cat([estimate for _, estimate in soft], dim=-1)
    queries = torch.cat(identity.network.queries)
    torch.testing.assert_close(queries, torch.tensor([[0.5, 0.0, 0.0]]).expand(num_rows, -1))
    (decision,) = soft.decisions()
    assert decision.weight == pytest.approx({"dog": 0.5})
    assert decision.window_share["siren"] == decision.window_share["dog"] == 0.25
    assert bool(estimate[..., :75].any()) is not silent
    assert estimate[..., 110:140].all()
