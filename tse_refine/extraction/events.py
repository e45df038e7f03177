"""When a class sounds: the classifier's frames put together along a recording, and the events in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tse_refine.extraction.windows import overlap_add

STEP_SECONDS = 0.02  # resolution of events; frames of classifiers are longer
# of frames: an event begins above the first and lasts while they stay above the second, so that one sound is one event
ONSET_PROBABILITY, OFFSET_PROBABILITY = 0.5, 0.25
SHORTEST_SECONDS = 0.1  # shorter ones are left out ...
LONGEST_GAP_SECONDS = 0.3  # ... and shorter gaps closed before


@dataclass(frozen=True)
class Event:
    """One class that sounds without a break.

    Attributes:
        onset: seconds from the start of the recording.
        offset: seconds from the start of the recording, above ``onset``.
        name: class.
        probability: largest probability of its frames, in [0, 1].
    """

    onset: float
    offset: float
    name: str
    probability: float


@dataclass(frozen=True)
class WindowFrames:
    """Frame probabilities of several windows of a recording.

    Attributes:
        start: first sample of the first window.
        samples: length of a window.
        probability: ``[windows, classes, frames]``, in [0, 1]; frames divide a window into equal parts.
    """

    start: int
    samples: int
    probability: Tensor


def find_events(
    windows: Sequence[WindowFrames], hop: int, sample_rate: int, class_names: Sequence[str]
) -> tuple[Event, ...]:
    """Return the events of a recording, in the order in which they begin.

    Windows are crossfaded where they overlap. An event begins where the probability reaches ``ONSET_PROBABILITY`` and
    reaches, before and after that, as far as it stays at ``OFFSET_PROBABILITY`` or above.

    Args:
        windows: frames of the recording's windows, in order.
        hop: samples from the start of a window to that of the next one.
        sample_rate: Hz, of the windows.
        class_names: names by index.

    >>> frames = torch.tensor([[[0.0, 0.3, 0.9, 0.4, 0.1]]])  # of a second each
    >>> find_events([WindowFrames(0, 40000, frames)], 40000, 8000, ["dog"])
    (Event(onset=1.0, offset=4.0, name='dog', probability=0.9),)
    """
    if not windows:
        return ()
    step = STEP_SECONDS * sample_rate  # samples, not always whole
    seconds = (windows[-1].start + (len(windows[-1].probability) - 1) * hop + windows[-1].samples) / sample_rate
    on_grid = ((round(part.start / step), _on_grid(part.probability, part.samples, step).float()) for part in windows)
    overlap = max(1, round((windows[0].samples - hop) / step))
    runs: list[list[_Run]] = [[] for _ in class_names]
    first = 0
    for block in overlap_add(on_grid, max(1, round(hop / step)), overlap):  # of any recording a block at a time
        for of_class, probability in zip(runs, block.numpy(), strict=True):
            _add_runs(of_class, probability, first)
        first += block.shape[-1]
    found = [
        Event(
            round(run.begin * STEP_SECONDS, 3),
            min(round(run.end * STEP_SECONDS, 3), seconds),
            name,
            round(run.probability, 3),
        )
        for name, of_class in zip(class_names, runs, strict=True)
        for run in _events_of(of_class)
        if run.begin * STEP_SECONDS < seconds
    ]
    return tuple(sorted(found, key=lambda event: (event.onset, event.offset, event.name)))


def thinned(start: int, samples: int, probability: Tensor, sample_rate: int) -> WindowFrames:
    """Return the frames of windows to keep of a recording: in half precision, and none finer than events are.

    Args:
        start: first sample of the first window.
        samples: length of a window.
        probability: ``[windows, classes, frames]``, in [0, 1].
        sample_rate: Hz.
    """
    step = STEP_SECONDS * sample_rate
    if probability.shape[-1] * step > samples:
        probability = _on_grid(probability, samples, step)
    return WindowFrames(start, samples, probability.half())


class _Run(NamedTuple):
    """Steps in which a class is likely: the first, the one after the last, and the largest probability."""

    begin: int
    end: int
    probability: float


def _on_grid(probability: Tensor, samples: int, step: float) -> Tensor:
    """Return the probabilities at every step of the windows, ``[windows, classes, steps]``."""
    num_frames = probability.shape[-1]
    num_steps = math.ceil(samples / step - 1e-6)
    frame = ((torch.arange(num_steps) + 0.5) * num_frames / num_steps).long().clamp(max=num_frames - 1)
    return probability[..., frame]


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
