import dataclasses

import pytest
import torch

from tse_refine.evaluation.events import frame_probability
from tse_refine.extraction.events import WindowFrames, find_events, thinned
from tse_refine.extraction.extractor import Extractor

RATE = 4000


def events_of(*probabilities, seconds_per_frame=0.2):
    """Events of one window of one class."""
    frames = torch.tensor([[probabilities]])
    samples = round(len(probabilities) * seconds_per_frame * RATE)
    found = find_events([WindowFrames(0, samples, frames)], samples, RATE, ["dog"])
    return [(event.onset, event.offset) for event in found]


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ((0.0, 0.0, 0.0), []),
        ((0.4, 0.4, 0.4), []),  # never sure
        ((0.9, 0.9, 0.9), [(0.0, 0.6)]),
        ((0.0, 0.9, 0.0), [(0.2, 0.4)]),
        ((0.3, 0.9, 0.3, 0.1), [(0.0, 0.6)]),  # as far as it is likely
        ((0.9, 0.1, 0.9), [(0.0, 0.6)]),  # a short gap is closed ...
        ((0.9, 0.1, 0.1, 0.9), [(0.0, 0.2), (0.6, 0.8)]),  # ... a longer one is not
        ((0.9, 0.1, 0.3, 0.3), [(0.0, 0.2)]),  # what is only likely is no event
    ],
)
def test_events_begin_where_a_class_is_sure_and_last_while_it_is_likely(probabilities, expected):
    assert events_of(*probabilities) == expected


def test_what_is_shorter_than_an_event_is_left_out():
    assert events_of(0.0, 0.9, 0.0, seconds_per_frame=0.08) == []
    assert events_of(0.0, 0.9, 0.0, seconds_per_frame=0.12) == [(0.12, 0.24)]


@pytest.fixture
def extractor(identity):
    """A network for which a class is as probable as a window of half a second is loud."""
    return Extractor(dataclasses.replace(identity, duration_seconds=0.5))


def test_windows_are_put_together_along_a_recording(extractor):
    signal = torch.zeros(40 * RATE)
    signal[10 * RATE : 14 * RATE] = 0.9
    signal[30 * RATE : 31 * RATE] = 0.6
    found = [event for event in extractor.extract(signal, RATE, "dog").events if event.name == "dog"]
    assert [event.probability for event in found] == pytest.approx([0.9, 0.6], abs=1e-3)
    spans = [time for event in found for time in (event.onset, event.offset)]
    assert spans == pytest.approx([10.0, 14.0, 30.0, 31.0], abs=0.6)  # a window is one frame here


@pytest.mark.parametrize("scope", ["window", "file"])
def test_the_louder_channel_decides_in_either_scope(extractor, scope):
    signal = torch.zeros(2, 3 * RATE)
    signal[1] = 0.8
    events = extractor.extract(signal, RATE, "dog", threshold=0.3, scope=scope).events
    assert [(event.name, event.onset, event.offset) for event in events] == [
        (name, 0.0, 3.0) for name in ("car_horn", "dog", "siren")
    ]


def test_another_rate_and_a_short_recording_keep_their_time(extractor):
    (event, *_) = extractor.extract(torch.full((round(0.3 * 44_100),), 0.8), 44_100, "dog").events
    assert (event.onset, event.offset) == (0.0, pytest.approx(0.3, abs=0.01))


def test_silence_has_no_events(extractor):
    assert extractor.extract(torch.zeros(RATE), RATE, "dog").events == ()


def test_fine_frames_are_kept_no_finer_than_events_and_give_the_same():
    probability = torch.zeros(2, 3, 800)  # 400 frames per second
    probability[0, 1, 500:] = probability[1, 1, :300] = 0.75
    probability = frame_probability(probability.logit())
    kept = thinned(0, 2 * RATE, probability, RATE)
    assert kept.probability.shape == (2, 3, 100)
    assert kept.probability.dtype == torch.float16  # hours of a recording fit in memory
    names, hop = ["bell", "dog", "rain"], 2 * RATE
    events = [find_events([part], hop, RATE, names) for part in (kept, WindowFrames(0, 2 * RATE, probability))]
    assert events[0] == events[1]
    assert [(event.onset, event.name) for event in events[0]] == [(pytest.approx(1.25, abs=0.02), "dog")]


def test_coarse_frames_are_kept_as_they_are():
    assert thinned(0, 2 * RATE, torch.zeros(1, 3, 25), RATE).probability.shape == (1, 3, 25)
