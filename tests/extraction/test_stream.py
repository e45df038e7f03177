import dataclasses
from collections.abc import Iterator

import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import TrainedNetwork

RATE = 8000


@pytest.fixture
def unhurried(unchanged: TrainedNetwork) -> TrainedNetwork:
    """A network that changes nothing, with windows of two seconds."""
    return dataclasses.replace(unchanged, duration_seconds=2.0)


def stream(trained, signal: torch.Tensor, size: int = 999, **options):
    return Extractor(trained).stream(lambda: signal.split(size, dim=-1), RATE, [("dog",), ("siren",)], **options)


@pytest.mark.parametrize(("samples", "size"), [(1, 1), (2, 1), (700, 1), (3, 999), (999, 999), (5001, 999)])
def test_parts_of_the_recording_come_with_their_estimates(unchanged, samples, size):
    tone = torch.sin(torch.arange(samples) / 10.0).expand(2, -1)
    parts = list(stream(unchanged, tone, size, threshold=0.0))
    assert all(estimate.shape == (2, *mixture.shape) for mixture, estimate in parts)
    assert torch.equal(torch.cat([mixture for mixture, _ in parts], dim=-1), tone)
    estimate = torch.cat([estimate for _, estimate in parts], dim=-1)
    middle = slice(100, -100)  # a recording's ends are steps, which no resampling keeps
    torch.testing.assert_close(estimate[0, :, middle], tone[:, middle], rtol=0, atol=0.01)


@pytest.mark.parametrize("refinement", ["window", "file"])
def test_reading_runs_ahead_of_the_estimates_by_a_number_of_windows_whatever_the_length(unhurried, refinement):
    def most_ahead(seconds: int) -> float:
        read, ahead = 0, [0]

        def blocks() -> Iterator[torch.Tensor]:
            nonlocal read
            read = 0
            for _ in range(seconds):
                read += RATE
                yield torch.full((1, RATE), 0.5)

        given = 0
        for mixture, _ in Extractor(unhurried).stream(blocks, RATE, [("dog",)], refinement=refinement):
            given += mixture.shape[-1]
            ahead.append(read - given)
        assert given == seconds * RATE
        return max(ahead) / RATE

    assert most_ahead(120) == most_ahead(60) < 30


def test_a_file_is_read_twice_for_one_decision_and_once_for_many(trained, unchanged):
    signal = torch.full((1, 3000), 0.5)
    assert stream(unchanged, signal).passes == 1
    assert stream(unchanged, signal, refinement="file").passes == 2


def test_listening_alone_gives_the_probabilities(trained):
    found = stream(trained, torch.randn(2, 9000))
    assert found.probability == {}
    found.listen()
    assert found.probability == pytest.approx({"dog": 0.9, "car_horn": 0.2, "siren": 0.6}, abs=1e-5)
    assert found.refined(("siren", "car_horn")) == ("siren",)


def test_queries_are_words_as_elsewhere(extractor):
    signal = torch.full((1, 3000), 0.5)

    def estimates(queries):
        return torch.cat([one for _, one in extractor.stream(lambda: [signal], RATE, queries, threshold=0.0)], dim=-1)

    assert torch.equal(estimates(["Car Horn"]), estimates([("car_horn",)]))
    assert estimates(["Car Horn"]).any()


def test_blocks_of_any_floating_type_and_empty_ones_are_taken(unchanged):
    blocks = [torch.full((2, 900), 0.5, dtype=torch.float64), torch.zeros(2, 0), torch.full((2, 9), 0.5)]
    parts = list(Extractor(unchanged).stream(lambda: blocks, RATE, ["dog"], threshold=0.0))
    mixture = torch.cat([mixture for mixture, _ in parts], dim=-1)
    assert torch.equal(mixture, torch.full((2, 909), 0.5))


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ([("dgo",)], "did you mean 'dog'"),
        ([("dog",), ()], "query is empty"),
        ([], "queries is empty"),
        ("dog", "queries is 'dog'; a list of queries is expected"),
        (None, "queries is None; a list of queries is expected"),
    ],
)
def test_queries_that_ask_for_nothing_are_refused(unchanged, queries, said):
    with pytest.raises(InputError, match=said):
        Extractor(unchanged).stream(lambda: [torch.zeros(1, 9)], RATE, queries)


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([torch.zeros(9)], r"a block has the shape \[9\]; \[channels, samples\] is expected"),
        ([torch.zeros(1, 9), torch.zeros(2, 9)], "a block has 2 channels after others of 1"),
        ([torch.zeros(1, 9), torch.tensor([[0.0, torch.nan]])], "a block has samples that are not finite"),
        ([torch.zeros(1, 9, dtype=torch.int16)], "a block holds torch.int16"),
        ([[0.0, 0.1]], "a block is a list"),
        ([torch.zeros(99, 9)], "a block has 99 channels"),
        ([], "blocks gives no samples"),
        (None, "blocks gives a NoneType"),
    ],
)
def test_blocks_that_are_no_sound_are_refused(unchanged, blocks, said):
    with pytest.raises(InputError, match=said):
        list(Extractor(unchanged).stream(lambda: blocks, RATE, ["dog"]))


def test_blocks_that_cannot_begin_anew_are_refused(unchanged):
    blocks = [torch.full((1, 900), 0.5)]
    with pytest.raises(InputError, match="blocks is a list; a function is expected"):
        Extractor(unchanged).stream(blocks, RATE, ["dog"])
    once = iter(blocks)
    with pytest.raises(InputError, match="begins the recording anew each time"):
        list(Extractor(unchanged).stream(lambda: once, RATE, ["dog"], refinement="file"))


@pytest.mark.parametrize("refinement", ["window", "file"])
def test_a_class_that_was_heard_long_ago_is_not_forgotten(unhurried, refinement):
    signal = torch.full((1, 60 * RATE), 0.01)
    signal[0, : RATE // 2] = 0.8
    found = stream(unhurried, signal, size=RATE, refinement=refinement)
    for _ in found:
        pass
    assert found.probability["dog"] == pytest.approx(0.8, abs=0.1)  # resampling overshoots at the step
    assert found.refined(("dog",)) == ("dog",)
    assert found.window_share["dog"] == pytest.approx(1 / 40)  # the last begins after 58 s


def test_where_nothing_is_kept_the_network_only_listens(unhurried):
    signal = torch.full((1, 8 * RATE), 0.01)
    estimates = [estimate for _, estimate in stream(unhurried, signal, refinement="file")]
    assert not torch.cat(estimates, dim=-1).any()
    assert len(unhurried.network.lengths) == 5  # windows, once
