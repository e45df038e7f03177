"""When a class sounds: the classifier's frames put together along a recording, and the events in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    on_grid = ((round(part.start / step), _on_grid(part, step)) for part in windows)
    overlap = max(1, round((windows[0].samples - hop) / step))
    tracks = list(overlap_add(on_grid, max(1, round(hop / step)), overlap))
    track = torch.cat(tracks, dim=-1).numpy()  # [classes, steps]
    found = [
        Event(
            round(begin * STEP_SECONDS, 3),
            min(round(end * STEP_SECONDS, 3), seconds),
            name,
            round(float(probability[begin:end].max()), 3),
        )
        for name, probability in zip(class_names, track, strict=True)
        for begin, end in _spans(probability)
        if begin * STEP_SECONDS < seconds
    ]
    return tuple(sorted(found, key=lambda event: (event.onset, event.offset, event.name)))


def _on_grid(part: WindowFrames, step: float) -> Tensor:
    """Return the probabilities at every step of the windows, ``[windows, classes, steps]``."""
    num_frames = part.probability.shape[-1]
    num_steps = math.ceil(part.samples / step - 1e-6)
    frame = ((torch.arange(num_steps) + 0.5) * num_frames / num_steps).long().clamp(max=num_frames - 1)
    return part.probability[..., frame].float()


def _spans(probability: np.ndarray) -> list[tuple[int, int]]:
    """Return the first step of each event of one class, and the one after its last."""
    sounding = _runs(probability >= OFFSET_PROBABILITY)
    sure = np.concatenate([[0], np.cumsum(probability >= ONSET_PROBABILITY)])
    spans: list[tuple[int, int]] = []
    for begin, end in sounding:
        if sure[end] == sure[begin]:
            continue
        if spans and (begin - spans[-1][1]) * STEP_SECONDS < LONGEST_GAP_SECONDS:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return [(begin, end) for begin, end in spans if (end - begin) * STEP_SECONDS >= SHORTEST_SECONDS]


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the first place of each run of true values, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
