from collections import Counter

import numpy as np
import pytest
import torch

from tse_refine.evaluation.events import COUNTS, EventFinder, EventScores, count_events
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Network

RATE = 1000  # Hz
SECONDS = 10.0


def counts_of(estimated, true, seconds=SECONDS):
    """Counts of one class of one mixture; spans are (onset, offset) in seconds, at least 0.3 s apart if estimated."""
    logits = torch.full((1, round(50 * seconds), 1), -10.0)
    for onset, offset in estimated:
        logits[0, round(50 * onset) : round(50 * offset)] = 10.0
    spans = torch.tensor([true], dtype=torch.float64).mul(RATE).round().long().view(1, -1, 2)
    classes = torch.zeros(spans.shape[:2], dtype=torch.long)
    counts = count_events(logits, classes, spans, round(seconds * RATE), RATE)
    return {name: count[0, 0] for name, count in counts.items()}


@pytest.mark.parametrize(
    ("estimated", "true", "right"),
    [
        ([(1.0, 3.0)], [(1.0, 3.0)], 1),
        ([(1.2, 3.0)], [(1.0, 3.0)], 1),  # at the tolerance of the onset ...
        ([(1.22, 3.0)], [(1.0, 3.0)], 0),  # ... beyond it
        ([(1.0, 3.4)], [(1.0, 3.0)], 1),  # a fifth of two seconds
        ([(1.0, 3.42)], [(1.0, 3.0)], 0),
        ([(1.0, 1.7)], [(1.0, 1.5)], 1),  # of a short one 200 ms
        ([(1.0, 1.72)], [(1.0, 1.5)], 0),
        ([(1.0, 3.0), (5.0, 6.0)], [(1.0, 3.0)], 1),
        ([(1.0, 3.0)], [(1.0, 3.0), (1.1, 2.9)], 1),  # one event is paired once
        ([(1.0, 3.0)], [], 0),
        ([], [(1.0, 3.0)], 0),
    ],
)
def test_an_event_is_right_within_its_tolerances(estimated, true, right):
    counts = counts_of(estimated, true)
    assert (counts["events_true"], counts["events_estimated"]) == (len(true), len(estimated))
    assert counts["events_right"] == right


def test_events_are_paired_so_that_most_are_right():
    # the first estimate agrees with both true events, the second with the first of them alone
    assert counts_of([(1.0, 1.1), (1.4, 1.5)], [(1.2, 1.3), (0.9, 1.0)])["events_right"] == 2


@pytest.mark.parametrize(
    ("estimated", "true", "counted"),
    [
        ([(0.0, 1.0)], [(0.0, 1.0)], (1, 1, 1)),  # true, estimated, right
        ([(0.9, 1.1)], [(0.0, 1.0)], (1, 2, 1)),  # touches two segments
        ([(9.5, 10.0)], [(0.0, 10.0)], (10, 1, 1)),
        ([(0.0, 0.5), (0.9, 1.2)], [(0.2, 0.4), (0.6, 0.8)], (1, 2, 1)),
        ([(3.0, 4.0)], [], (0, 1, 0)),
    ],
)
def test_segments_need_no_tolerance(estimated, true, counted):
    counts = counts_of(estimated, true)
    assert tuple(counts[f"segments_{part}"] for part in ("true", "estimated", "right")) == counted


def test_the_last_segment_may_be_short():
    assert counts_of([(2.0, 2.4)], [(0.0, 2.4)], seconds=2.4)["segments_true"] == 3


def random_scenes(num_scenes=60, num_classes=3, seconds=10.0):
    """True events and estimated ones near them, missed and false ones among them: per scene and class (onset, offset).

    Estimated events of one class are on the grid of events, and too far apart to be joined.
    """
    rng = np.random.default_rng(0)
    scenes = []
    for _ in range(num_scenes):
        true = [[] for _ in range(num_classes)]
        estimated = [[] for _ in range(num_classes)]
        for label in range(num_classes):
            onset = rng.uniform(0.0, 3.0)
            while onset < seconds - 1.0:
                offset = min(seconds, onset + rng.uniform(0.3, 3.0))
                kind = rng.choice(["both", "both", "both", "missed", "false"])
                if kind != "false":
                    true[label].append((onset, offset))
                if kind != "missed":
                    begin, end = onset + rng.normal(0.0, 0.12), offset + rng.normal(0.0, 0.25)
                    begin, end = max(0.0, begin), min(seconds, max(end, begin + 0.2))
                    estimated[label].append((round(50 * begin) / 50, round(50 * end) / 50))
                onset = offset + rng.uniform(1.5, 4.0)
        scenes.append((true, estimated))
    return scenes


def test_counts_and_scores_are_those_of_sed_eval():
    # of sed_eval 0.2.1 on these scenes: EventBasedMetrics(t_collar=0.2, percentage_of_length=0.2) and
    # SegmentBasedMetrics(time_resolution=1.0), by class
    expected = {
        "events_true": [104, 102, 99],
        "events_estimated": [113, 102, 105],
        "events_right": [61, 48, 55],
        "segments_true": [273, 247, 261],
        "segments_estimated": [296, 262, 272],
        "segments_right": [203, 157, 181],
    }
    rate, seconds = 16_000, 10.0
    totals = {name: np.zeros(3, int) for name in COUNTS}
    for true, estimated in random_scenes():
        logits = torch.full((1, 500, 3), -10.0)
        for label, spans in enumerate(estimated):
            for onset, offset in spans:
                logits[0, round(50 * onset) : round(50 * offset), label] = 10.0
        flat = [(label, *span) for label, spans in enumerate(true) for span in spans]
        classes = torch.tensor([[label for label, *_ in flat]])
        spans = torch.tensor([[[round(rate * time) for time in span] for _, *span in flat]])
        for name, count in count_events(logits, classes, spans, round(rate * seconds), rate).items():
            totals[name] += count[0]
    assert {name: total.tolist() for name, total in totals.items()} == expected
    scores = EventScores(totals)
    assert scores.event_f1.round(6).tolist() == [0.562212, 0.470588, 0.539216]
    assert scores.segment_f1.round(6).tolist() == [0.713533, 0.616896, 0.679174]
    assert (scores.macro("event_f1"), scores.macro("segment_f1")) == pytest.approx((0.524005, 0.669868), abs=1e-6)


def test_classes_that_do_not_occur_count_in_no_average():
    counts = {name: np.array([2, 0, 0]) for name in COUNTS} | {"events_estimated": np.array([2, 3, 0])}
    scores = EventScores(counts)
    assert scores.event_f1.tolist() == [1.0, 0.0, 0.0]
    assert scores.macro("event_f1") == 1.0
    assert np.isnan(EventScores({name: np.zeros(2, int) for name in COUNTS}).macro("event_f1"))


def test_parts_of_any_length_have_the_same_events():
    probability = np.random.default_rng(1).random((4, 2000)).repeat(3, axis=1)
    whole, parts = EventFinder(4), EventFinder(4)
    whole.add(probability)
    for part in np.split(probability, [1, 7, 700, 701, 4000], axis=1):
        parts.add(part)
    assert parts.spans(120.0) == whole.spans(120.0)
    assert all(len(spans) > 10 for spans in whole.spans(120.0))


def test_evaluation_and_extraction_find_the_same_events(tiny_data, tiny_network_config):
    """In a mixture as long as a window; the untrained classifier's logits are spread, so that there are some."""
    torch.manual_seed(0)
    network = Network(len(tiny_data.class_names), tiny_data.sample_rate, tiny_network_config).eval()
    with torch.no_grad():
        network.classifier.linear.weight *= 40.0
    batch = tiny_data.datasets["test"].__getitems__([(0, index) for index in range(6)])
    with torch.no_grad():
        logits = network.features(batch["mixture"]).frame_logits
    truth = (batch["source_classes"], batch["source_spans"])
    counts = count_events(logits, *truth, batch["mixture"].shape[1], tiny_data.sample_rate)
    names = tuple(tiny_data.class_names)
    extractor = Extractor(TrainedNetwork(network, names, tiny_data.sample_rate, 0.1, duration_seconds=1.0))
    for row, mixture in enumerate(batch["mixture"]):
        events = extractor.extract(mixture, tiny_data.sample_rate, names[:1]).events
        of_class = Counter(event.name for event in events)
        assert [of_class[name] for name in names] == counts["events_estimated"][row].tolist()
    assert counts["events_estimated"].sum() > 10
