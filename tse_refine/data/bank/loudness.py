"""Loudness of any excerpt from energies that are measured once (ITU-R BS.1770-4).

The integrated loudness of a mono signal is the mean power of its K-weighted 400 ms blocks, 100 ms apart, that pass two
gates. It follows from the energies of 100 ms pieces ("hops"), of which four make a block. The hops of a recording,
measured once, give the loudness of every excerpt that starts on the 100 ms grid, without filtering at mixing time.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torchaudio.functional as audio_functional

HOPS_PER_SECOND = 10
MIN_HOPS = 5  # an excerpt under 0.5 s is measured repeated up to 0.5 s, as Scaper does
LUFS_FLOOR = -70.0
_BLOCK_HOPS = 4
_LUFS_OFFSET = -0.691  # BS.1770: a full-scale 997 Hz sine has -3.01 LUFS
_ABSOLUTE_GATE = 10.0 ** ((LUFS_FLOOR - _LUFS_OFFSET) / 10.0)
_RELATIVE_GATE = 0.1  # -10 LU re the mean of the blocks above the absolute gate
_MOST_WEIGHT = np.float32(10.0**0.4)  # +4 dB, the gain of the high shelf
_MIN_WEIGHTING_RATE = 4_000  # Hz; below it the shelf of the K-weighting, at 1.5 kHz, is near the Nyquist frequency


def k_weighted(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Apply the K-weighting filters of BS.1770: a high shelf (+4 dB above 1.5 kHz) and a high-pass (38 Hz).

    Args:
        waveform: ``[samples]``, float64 for the accuracy of the 38 Hz pole.
        sample_rate: Hz.

    Returns:
        ``[samples]``.
    """
    if sample_rate < _MIN_WEIGHTING_RATE:
        return waveform
    # far below [-1, 1], to which torchaudio's filters clamp their output
    quiet = waveform / 64.0
    shelved = audio_functional.treble_biquad(quiet, sample_rate, gain=4.0, central_freq=1500.0, Q=1 / math.sqrt(2))
    return 64.0 * audio_functional.highpass_biquad(shelved, sample_rate, cutoff_freq=38.0, Q=0.5)


def hop_energies(waveform: torch.Tensor, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Measure the mean power of each 100 ms of a recording, K-weighted and plain.

    Args:
        waveform: ``[samples]`` at the recording's own rate, at least one sample.
        sample_rate: Hz.

    Returns:
        Two arrays ``[hops]`` in float32, at least five hops long: a recording under 0.5 s is repeated up to 0.5 s;
        an incomplete hop at the end of a longer one is ignored, as BS.1770 ignores an incomplete block.
    """
    waveform = waveform.double()
    shortest = math.ceil(MIN_HOPS * sample_rate / HOPS_PER_SECOND)
    if len(waveform) < shortest:
        waveform = waveform.repeat(math.ceil(shortest / len(waveform)))[:shortest]
    num_hops = len(waveform) * HOPS_PER_SECOND // sample_rate
    edges = np.round(np.arange(num_hops + 1) * sample_rate / HOPS_PER_SECOND).astype(int)
    powers = []
    for signal in (k_weighted(waveform, sample_rate), waveform):
        cumulative = np.concatenate([[0.0], np.cumsum(signal.numpy() ** 2)])
        powers.append(np.maximum(np.diff(cumulative[edges]) / np.diff(edges), 0.0).astype(np.float32))
    # the 38 Hz high-pass rings after a low sound that stops abruptly: limit hops to the filters' largest gain
    return np.minimum(powers[0], _MOST_WEIGHT * powers[1]), powers[1]


def gated_loudness(hops: np.ndarray) -> float:
    """Return the integrated loudness of consecutive K-weighted hops.

    Args:
        hops: mean power of each 100 ms, ``[hops]``, at least four.

    Returns:
        LUFS, at least -70.

    >>> round(gated_loudness(np.full(30, 0.01)), 3)
    -20.691
    """
    return _gated(_blocks(hops), _BLOCK_HOPS)


def integrated_loudness(waveform: torch.Tensor, sample_rate: int) -> float:
    """Measure the integrated loudness of a mono signal, to the sample as Scaper (pyloudnorm) does.

    It differs from :func:`gated_loudness` of :func:`hop_energies` at the signal's end: the number of blocks is rounded,
    so that the last may lack up to 50 ms. A signal under 0.5 s is repeated up to that length.

    Args:
        waveform: ``[samples]``, at least one sample.
        sample_rate: Hz.

    Returns:
        LUFS, at least -70.
    """
    shortest = MIN_HOPS * sample_rate / HOPS_PER_SECOND
    waveform = waveform.double().repeat(max(1, math.ceil(shortest / len(waveform))))
    energy = np.concatenate([[0.0], np.cumsum(k_weighted(waveform, sample_rate).numpy() ** 2)])
    num_blocks = round((len(waveform) / sample_rate - 0.4) / 0.1) + 1
    number = np.arange(num_blocks)
    begins = (0.4 * number * 0.25 * sample_rate).astype(int)
    ends = (0.4 * (number * 0.25 + 1) * sample_rate).astype(int)
    power = (energy.take(ends, mode="clip") - energy.take(begins, mode="clip")) / (0.4 * sample_rate)
    return _gated(power, 1)


def rms_level(hops: np.ndarray) -> float:
    """Return the level of consecutive plain hops, ``[hops]``: 10 log10 of their mean power, in dB, at least -120.

    >>> rms_level(np.full(30, 0.01))
    -20.0
    """
    return 10.0 * math.log10(max(float(hops.mean()), 1e-12))


def loudest_block(hops: np.ndarray) -> float:
    """Return the loudness of the loudest 400 ms block of K-weighted hops, ``[hops]``, in LUFS, ungated."""
    return _LUFS_OFFSET + 10.0 * math.log10(max(float(_blocks(hops).max()) / _BLOCK_HOPS, 1e-12))


def _blocks(hops: np.ndarray) -> np.ndarray:
    """Return four times the mean power of each 400 ms block, ``[blocks]``."""
    return hops[:-3] + hops[1:-2] + hops[2:-1] + hops[3:]


def _gated(blocks: np.ndarray, scale: int) -> float:
    """Return the loudness of blocks that pass both gates; ``blocks`` are their powers times ``scale``."""
    loud = blocks[blocks > scale * _ABSOLUTE_GATE]
    if not len(loud):
        return LUFS_FLOOR
    # called for every excerpt drawn: np.add.reduce takes half the time of mean()
    loud = loud[loud > _RELATIVE_GATE * (np.add.reduce(loud) / len(loud))]
    mean = float(np.add.reduce(loud) / len(loud))
    return max(LUFS_FLOOR, _LUFS_OFFSET + 10.0 * math.log10(mean / scale))
