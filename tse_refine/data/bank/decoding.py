"""Decodes recordings for the clip bank: 16-bit samples at the model's rate, and their loudness."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional

from tse_refine.data.audio.reading import RecordingError
from tse_refine.data.bank.loudness import HOPS_PER_SECOND, hop_energies, loudest_block
from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.errors import InputError

SILENCE_LUFS = -60.0
LONG_SAMPLES = 1 << 22  # shorter recordings (87 s at 48 kHz) are decoded in one piece
PIECE_SECONDS = 10
_RATES = range(1_000, 1_000_001)  # Hz; a header with another rate is wrong
_MOST_FILTER_TAPS = 30_000_000  # of the resampler; 44,100 Hz to any multiple of 10 Hz stays below
_LONG_RECORDING = Lock()  # held while a long recording is decoded
_MARGIN_SECONDS = 1  # decoded around a piece; longer than the responses of the filters


@dataclass(frozen=True)
class DecodedClip:
    """One recording as the bank stores it.

    Attributes:
        samples: ``[samples]``, int16 relative to the recording's own peak.
        scale: factor of the integers.
        hops: mean power of each 100 ms, ``[2, hops]``, float32: K-weighted, and plain.
        loudest_lufs: loudness of the loudest 400 ms.
    """

    samples: np.ndarray
    scale: float
    hops: np.ndarray
    loudest_lufs: float


class UnusableRecordingError(Exception):
    """A recording that cannot be used; the text is the reason."""


def decode(corpus: Corpus, clip: Clip, sample_rate: int) -> DecodedClip:
    """Decode one recording: channels averaged, resampled, its loudness measured at its own rate.

    A long recording is decoded in pieces, so that memory holds little more of it than the result; only one thread at a
    time decodes a long one.

    Args:
        corpus: corpus of the clip.
        clip: the recording.
        sample_rate: sample rate of the result, Hz.

    Raises:
        UnusableRecordingError: it cannot be decoded, or is empty, not finite or silent.
        OSError: it could not be read, for a reason outside the recording.
    """
    quantised: list[tuple[np.ndarray, float]] = []
    hops: list[np.ndarray] = []
    try:
        for piece, rate, before, after in _pieces(corpus, clip):
            _check_rate(rate, sample_rate)
            if not np.isfinite(piece).all():
                raise UnusableRecordingError("has samples that are not finite numbers")
            mono = torch.from_numpy(piece.mean(axis=1))
            energies = np.stack(hop_energies(mono, rate))
            hops.append(energies[:, HOPS_PER_SECOND * before : energies.shape[1] - HOPS_PER_SECOND * after])
            waveform = audio_functional.resample(mono, rate, sample_rate).numpy()
            quantised.append(_quantise(waveform[sample_rate * before : len(waveform) - sample_rate * after]))
    except RecordingError as error:
        raise UnusableRecordingError(error.reason) from error
    except (InputError, soundfile.SoundFileError) as error:  # of a corpus that reads in a way of its own
        raise UnusableRecordingError(f"cannot be read ({' '.join(str(error).split())})") from error
    if not quantised:
        raise UnusableRecordingError("has no samples")
    joined = np.concatenate(hops, axis=1)
    loudest = loudest_block(joined[0])
    if loudest < SILENCE_LUFS:
        raise UnusableRecordingError(f"is silent (its loudest 400 ms are at {loudest:.0f} LUFS)")
    return DecodedClip(*_join(quantised), joined, loudest)


def _quantise(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Return 16-bit integers relative to the waveform's peak, and their factor."""
    scale = float(np.abs(waveform).max(initial=0.0)) / 32767.0
    return np.round(waveform / (scale or 1.0)).astype(np.int16), scale


def _join(quantised: list[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    """Join pieces under the largest of their scales."""
    if len(quantised) == 1:
        return quantised[0]
    scale = max(piece_scale for _, piece_scale in quantised)
    samples = np.empty(sum(len(piece) for piece, _ in quantised), np.int16)
    end = len(samples)
    while quantised:  # from the end, so that each piece is freed at once
        piece, piece_scale = quantised.pop()
        samples[end - len(piece) : end] = np.round(piece * np.float32(piece_scale / scale))
        end -= len(piece)
    return samples, scale


def _check_rate(rate: int, sample_rate: int) -> None:
    """Reject an implausible sample rate, or one that would need a resampling filter of gigabytes."""
    common = math.gcd(rate, sample_rate)
    if rate not in _RATES or (rate // common) * (sample_rate // common) > _MOST_FILTER_TAPS:
        raise UnusableRecordingError(
            f"has a sample rate of {rate} Hz in its header, which recorders do not use and which cannot be resampled "
            f"to {sample_rate} Hz; correct the header or resample the recording"
        )


def _pieces(corpus: Corpus, clip: Clip) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """Yield pieces ``[samples, channels]``, their rate, and their margins before and after, in seconds.

    Pieces begin at whole seconds, which lie on the sample grid of every rate and on the grid of hops.
    """
    piece, rate = corpus.read(clip, 0, LONG_SAMPLES)
    if len(piece) < LONG_SAMPLES:
        if len(piece):
            yield piece, rate, 0, 0
        return
    del piece
    with _LONG_RECORDING:
        second, last = 0, False
        while not last:
            before = min(second, _MARGIN_SECONDS)
            start = (second - before) * rate
            stop = (second + PIECE_SECONDS + _MARGIN_SECONDS) * rate
            piece, _ = corpus.read(clip, start, stop)
            last = len(piece) < stop - start
            if len(piece) > before * rate:
                yield piece, rate, before, 0 if last else _MARGIN_SECONDS
            second += PIECE_SECONDS
