"""When classes sound: the events in a classifier's frames, and how well they agree with the true ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

STEP_SECONDS = 0.02  # resolution of events; frames of classifiers are longer
# of frames: an event begins above the first and lasts while they stay above the second, so that one sound is one event
ONSET_PROBABILITY, OFFSET_PROBABILITY = 0.5, 0.25
SHORTEST_SECONDS = 0.1  # shorter ones are left out ...
LONGEST_GAP_SECONDS = 0.3  # ... and shorter gaps closed before
# tolerances and segments of DCASE's challenges (Mesaros et al. 2016, Metrics for polyphonic sound event detection)
COLLAR_SECONDS, COLLAR_OF_LENGTH = 0.2, 0.2
SEGMENT_SECONDS = 1.0
_ROUNDING = 1e-6  # seconds: an event at a tolerance, or at the border of a segment, is there in any arithmetic


class Span(NamedTuple):
    """Time from one event's beginning to its end.

    Attributes:
        onset: seconds from the start of the recording.
        offset: seconds from the start of the recording, above ``onset``.
        probability: largest probability of its frames, in [0, 1]; 1 for a true event.
    """

    onset: float
    offset: float
    probability: float = 1.0


class EventFinder:
    """Finds the events of classes in steps of ``STEP_SECONDS`` that arrive a part at a time.

    An event begins where the probability reaches ``ONSET_PROBABILITY`` and reaches, before and after that, as far as it
    stays at ``OFFSET_PROBABILITY`` or above.

    Args:
        num_classes: number of classes.

    >>> finder = EventFinder(1)
    >>> finder.add(np.repeat([[0.0, 0.3, 0.9, 0.4, 0.1]], 50, axis=1))
    >>> finder.spans(seconds=5.0)
    [[Span(onset=1.0, offset=4.0, probability=0.9)]]
    """

    def __init__(self, num_classes: int) -> None:
        self._runs: list[list[_Run]] = [[] for _ in range(num_classes)]
        self._num_steps = 0

    def add(self, probability: np.ndarray) -> None:
        """Add the next steps, ``[classes, steps]``, in [0, 1]."""
        for runs, of_class in zip(self._runs, probability, strict=True):
            _add_runs(runs, of_class, self._num_steps)
        self._num_steps += probability.shape[-1]

    def spans(self, seconds: float) -> list[list[Span]]:
        """Return the events of each class so far, in order.

        Args:
            seconds: length of the recording, at which the last events end.
        """
        return [
            [
                Span(
                    round(run.begin * STEP_SECONDS, 3),
                    min(round(run.end * STEP_SECONDS, 3), seconds),
                    round(run.probability, 3),
                )
                for run in _events_of(runs)
                if run.begin * STEP_SECONDS < seconds
            ]
            for runs in self._runs
        ]


@dataclass(frozen=True)
class EventScores:
    """Agreement of estimated with true events, by class; macro averages run over the classes that occur.

    An estimated event is right where it can be paired with a true one of its class whose onset is within
    ``COLLAR_SECONDS`` and whose offset is within the larger of that and ``COLLAR_OF_LENGTH`` of its length. Segments
    need no tolerance: a class is active in a segment of ``SEGMENT_SECONDS`` where an event touches it.

    Attributes:
        counts: by the names of :data:`COUNTS`, ``[classes]``.
    """

    counts: Mapping[str, np.ndarray]

    @property
    def event_f1(self) -> np.ndarray:
        """Event-based F1, ``[classes]``; 0 for a class without true and estimated events."""
        return self._f1("events_right", "events_true", "events_estimated")

    @property
    def segment_f1(self) -> np.ndarray:
        """Segment-based F1, ``[classes]``; 0 for a class without true and estimated events."""
        return self._f1("segments_right", "segments_true", "segments_estimated")

    def macro(self, name: str) -> float:
        """Return the mean of ``event_f1`` or ``segment_f1`` over the classes that occur; NaN where none does."""
        occurs = self.counts["events_true"] > 0
        return float(getattr(self, name)[occurs].mean()) if occurs.any() else float("nan")

    def _f1(self, right: str, true: str, estimated: str) -> np.ndarray:
        both = (self.counts[true] + self.counts[estimated]).astype(float)
        return np.divide(2.0 * self.counts[right], both, out=np.zeros_like(both), where=both > 0)


COUNTS = (
    *("events_true", "events_estimated", "events_right"),
    *("segments_true", "segments_estimated", "segments_right"),
)
EVENT_SCORES = ("event_f1", "segment_f1")  # of EventScores


def frame_probability(frame_logits: Tensor) -> Tensor:
    """Return the probabilities that events are found in, of the logits' shape, in half precision.

    Frames of hours fit in memory so, and events are the same wherever they are found.

    Args:
        frame_logits: output of a classifier, of any shape.
    """
    return frame_logits.float().sigmoid().half()


def on_steps(probability: Tensor, seconds: float) -> Tensor:
    """Return the probability at every step of a window, ``[..., steps]``.

    Args:
        probability: ``[..., frames]``; frames divide a window into equal parts.
        seconds: length of a window.
    """
    num_frames = probability.shape[-1]
    num_steps = math.ceil(seconds / STEP_SECONDS - 1e-6)
    frame = ((torch.arange(num_steps) + 0.5) * num_frames / num_steps).long().clamp(max=num_frames - 1)
    return probability[..., frame]


def count_events(
    frame_logits: Tensor, source_classes: Tensor, source_spans: Tensor, num_samples: int, sample_rate: float
) -> dict[str, np.ndarray]:
    """Count the events of mixtures that are estimated, true, and right.

    Args:
        frame_logits: output of the classifier, ``[batch, frames, classes]``.
        source_classes: class of each source, ``[batch, events]``; -1 for none.
        source_spans: first sample of each source and the one after the last, ``[batch, events, 2]``.
        num_samples: samples of a mixture.
        sample_rate: Hz.

    Returns:
        By the names of :data:`COUNTS`, ``[batch, classes]``.
    """
    seconds, num_classes = num_samples / sample_rate, frame_logits.shape[-1]
    steps = on_steps(frame_probability(frame_logits).cpu().transpose(1, 2), seconds).float().numpy()
    counts = np.zeros((len(COUNTS), len(steps), num_classes), int)
    truth = (source_classes.tolist(), source_spans.tolist())
    for row, (probability, classes, spans) in enumerate(zip(steps, *truth, strict=True)):
        finder = EventFinder(num_classes)
        finder.add(probability)
        true: list[list[Span]] = [[] for _ in range(num_classes)]
        for label, (begin, end) in zip(classes, spans, strict=True):
            if label >= 0:
                true[label].append(Span(begin / sample_rate, end / sample_rate))
        for label, (estimated, of_class) in enumerate(zip(finder.spans(seconds), true, strict=True)):
            if estimated or of_class:
                counts[:, row, label] = _count(estimated, of_class, seconds)
    return dict(zip(COUNTS, counts, strict=True))


def _count(estimated: Sequence[Span], true: Sequence[Span], seconds: float) -> tuple[int, ...]:
    """Return the numbers of :data:`COUNTS` for one class of one mixture."""
    rolls = [_segments(spans, seconds) for spans in (true, estimated)]
    segments = (*(int(roll.sum()) for roll in rolls), int((rolls[0] & rolls[1]).sum()))
    return len(true), len(estimated), _num_pairs(estimated, true), *segments


def _num_pairs(estimated: Sequence[Span], true: Sequence[Span]) -> int:
    """Return the largest number of pairs of an estimated and a true event that agree, none in two pairs."""
    agreeing = [[place for place, other in enumerate(true) if _agree(span, other)] for span in estimated]
    partner: dict[int, int] = {}  # estimated event by the true one that it is paired with

    def pair(number: int, tried: set[int]) -> bool:
        for place in agreeing[number]:
            if place not in tried:
                tried.add(place)
                if place not in partner or pair(partner[place], tried):  # whose partner finds another
                    partner[place] = number
                    return True
        return False

    return sum(pair(number, set()) for number in range(len(estimated)))


def _agree(estimated: Span, true: Span) -> bool:
    collar = max(COLLAR_SECONDS, COLLAR_OF_LENGTH * (true.offset - true.onset))
    return (
        abs(estimated.onset - true.onset) <= COLLAR_SECONDS + _ROUNDING
        and abs(estimated.offset - true.offset) <= collar + _ROUNDING
    )


def _segments(spans: Sequence[Span], seconds: float) -> np.ndarray:
    """Return in which segments of a recording there is an event, ``[segments]``."""
    active = np.zeros(math.ceil(seconds / SEGMENT_SECONDS - _ROUNDING), bool)
    for span in spans:
        first = math.floor(span.onset / SEGMENT_SECONDS + _ROUNDING)
        active[first : math.ceil(span.offset / SEGMENT_SECONDS - _ROUNDING)] = True
    return active


class _Run(NamedTuple):
    """Steps in which a class is likely: the first, the one after the last, and the largest probability."""

    begin: int
    end: int
    probability: float


def _add_runs(runs: list[_Run], probability: np.ndarray, first: int) -> None:
    """Add the runs of a class in the next steps, in place; one that goes on from before is made longer.

    Args:
        runs: runs so far.
        probability: ``[steps]``.
        first: number of the first step.
    """
    likely = np.concatenate([[False], probability >= OFFSET_PROBABILITY, [False]])
    edges = np.flatnonzero(np.diff(likely.astype(np.int8))).tolist()
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        run = _Run(first + begin, first + end, float(probability[begin:end].max()))
        if runs and runs[-1].end == run.begin:
            before = runs.pop()
            run = _Run(before.begin, run.end, max(before.probability, run.probability))
        runs.append(run)


def _events_of(runs: Sequence[_Run]) -> list[_Run]:
    """Return the runs that are sure somewhere, those with a short gap between them joined, without short ones."""
    events: list[_Run] = []
    for run in runs:
        if run.probability < ONSET_PROBABILITY:
            continue
        if events and (run.begin - events[-1].end) * STEP_SECONDS < LONGEST_GAP_SECONDS:
            before = events.pop()
            run = _Run(before.begin, run.end, max(before.probability, run.probability))
        events.append(run)
    return [run for run in events if (run.end - run.begin) * STEP_SECONDS >= SHORTEST_SECONDS]
