"""When a class sounds in a recording: the classifier's frames put together along it, and the events in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tse_refine.evaluation.events import STEP_SECONDS, EventFinder, on_steps
from tse_refine.extraction.windows import overlap_add


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

    Windows are crossfaded where they overlap; what an event is, :class:`tse_refine.evaluation.events.EventFinder` says.

    Args:
        windows: frames of the recording's windows, in order.
        hop: samples from the start of a window to that of the next one.
        sample_rate: Hz, of the windows.
        class_names: names by index.

    >>> import torch
    >>> frames = torch.tensor([[[0.0, 0.3, 0.9, 0.4, 0.1]]])  # of a second each
    >>> find_events([WindowFrames(0, 40000, frames)], 40000, 8000, ["dog"])
    (Event(onset=1.0, offset=4.0, name='dog', probability=0.9),)
    """
    if not windows:
        return ()
    step = STEP_SECONDS * sample_rate  # samples, not always whole
    seconds = (windows[-1].start + (len(windows[-1].probability) - 1) * hop + windows[-1].samples) / sample_rate
    on_grid = (
        (round(part.start / step), on_steps(part.probability, part.samples / sample_rate).float()) for part in windows
    )
    overlap = max(1, round((windows[0].samples - hop) / step))
    finder = EventFinder(len(class_names))
    for block in overlap_add(on_grid, max(1, round(hop / step)), overlap):  # of any recording a block at a time
        finder.add(block.numpy())
    found = [
        Event(span.onset, span.offset, name, span.probability)
        for name, spans in zip(class_names, finder.spans(seconds), strict=True)
        for span in spans
    ]
    return tuple(sorted(found, key=lambda event: (event.onset, event.offset, event.name)))


def thinned(start: int, samples: int, probability: Tensor, sample_rate: int) -> WindowFrames:
    """Return the frames of windows to keep of a recording: none finer than events are.

    Args:
        start: first sample of the first window.
        samples: length of a window.
        probability: ``[windows, classes, frames]``, in [0, 1].
        sample_rate: Hz.
    """
    step = STEP_SECONDS * sample_rate
    if probability.shape[-1] * step > samples:
        probability = on_steps(probability, samples / sample_rate)
    return WindowFrames(start, samples, probability)
