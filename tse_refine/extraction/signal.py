"""What a waveform may be: sample rates, channels and values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tse_refine.errors import InputError

Waveform = TypeVar("Waveform", np.ndarray, Tensor)

SAMPLE_RATES = range(4_000, 384_001)  # Hz
MOST_CHANNELS = 64
BLOCK_SECONDS = 2  # length of the blocks in which recordings are read and processed
_LARGEST_SAMPLE = 1e9


def check_sample_rate(sample_rate: Any) -> int:
    """Return a recording's sample rate in Hz.

    Args:
        sample_rate: number of any type.

    Raises:
        InputError: the rate is not a whole number from 4,000 to 384,000.
    """
    if sample_rate not in SAMPLE_RATES:
        raise InputError(
            f"the sample rate is {sample_rate!r} Hz; 4000 to 384000 Hz are expected. Correct it, or resample the sound."
        )
    return int(sample_rate)


def check_samples(samples: Tensor, owner: str) -> None:
    """Reject samples that cannot be processed.

    Args:
        samples: samples of any shape.
        owner: name of the waveform or file, for the message.

    Raises:
        InputError: a sample is not finite, or so large that its square overflows in the network's norms.
    """
    if not samples.isfinite().all():
        raise InputError(f"{owner} has samples that are not finite numbers; replace or cut them.")
    largest = float(samples.abs().max())
    if largest > _LARGEST_SAMPLE:
        raise InputError(f"{owner} has samples as large as {largest:.2g}; scale it, full scale is 1.")


def as_channels(waveform: Any, owner: str = "waveform") -> Tensor:
    """Return a waveform as float32, ``[channels, samples]``.

    Args:
        waveform: floating-point array or tensor, ``[samples]`` or ``[channels, samples]``.
        owner: name of the waveform, for messages.

    Raises:
        InputError: the type, shape or values are not as described.
    """
    if not isinstance(waveform, np.ndarray | Tensor):
        raise InputError(f"{owner} is a {type(waveform).__name__}; a NumPy array or a PyTorch tensor is expected.")
    shape = list(waveform.shape)
    if len(shape) not in (1, 2) or 0 in shape:
        raise InputError(f"{owner} has the shape {shape}; [samples] or [channels, samples] is expected.")
    if len(shape) == 2 and shape[0] > MOST_CHANNELS:
        raise InputError(
            f"{owner} has {shape[0]} channels; up to {MOST_CHANNELS} are expected. If its shape {shape} is [samples, "
            "channels], pass its transpose."
        )
    if not (waveform.is_floating_point() if isinstance(waveform, Tensor) else waveform.dtype.kind == "f"):
        raise InputError(
            f"{owner} has the type {waveform.dtype}; floating-point samples are expected, for 16-bit ones waveform / "
            "32768."
        )
    if isinstance(waveform, np.ndarray):
        with np.errstate(over="ignore"):  # becomes infinite, and is rejected below
            waveform = torch.from_numpy(waveform.astype(np.float32))
    signal = waveform.detach().to("cpu", torch.float32)
    check_samples(signal, owner)
    return signal.reshape(-1, shape[-1])


def as_blocks(blocks: Any) -> Iterator[Tensor]:
    """Yield blocks of a recording as float32, ``[channels, samples]``; empty ones are left out.

    Args:
        blocks: consecutive parts of the recording, ``[channels, samples]``, of any floating type.

    Raises:
        InputError: a block is not a waveform, their numbers of channels differ, or there are no samples.
    """
    if not isinstance(blocks, Iterable):
        raise InputError(f"blocks returns a {type(blocks).__name__}; the blocks of a recording are expected.")
    channels = None
    for block in blocks:
        if isinstance(block, np.ndarray | Tensor):
            if block.ndim != 2:
                raise InputError(f"a block has the shape {list(block.shape)}; [channels, samples] is expected.")
            if block.shape[-1] == 0:
                continue
        samples = as_channels(block, "a block")
        if channels not in (None, len(samples)):
            raise InputError(f"a block has {len(samples)} channels, earlier ones {channels}; all must have as many.")
        channels = len(samples)
        yield samples
    if channels is None:
        raise InputError("blocks returns no samples; it is called once per pass, and must restart the recording.")


def restore_type(estimate: Tensor, waveform: Waveform) -> Waveform:
    """Return an estimate ``[channels, samples]`` with the shape and type of a waveform."""
    if isinstance(waveform, Tensor):
        return estimate.reshape(waveform.shape).to(waveform.device, waveform.dtype)
    return estimate.reshape(waveform.shape).numpy().astype(waveform.dtype)
