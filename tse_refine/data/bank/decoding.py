"""From a recording to what the clip bank keeps of it: 16-bit samples at the model's rate, and its loudness."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np
import soundfile
import torch
import torchaudio.functional as audio_functional

from tse_refine.data.bank.loudness import HOPS_PER_SECOND, hop_energies, loudest_block
from tse_refine.data.corpora.base import Clip, Corpus

SILENCE_LUFS = -60.0
_WHOLE = 1 << 22  # samples; a recording under this (87 s at 48 kHz) is decoded in one piece
_PIECE_SECONDS = 10
_RATES = range(1_000, 1_000_001)  # Hz; a header that says otherwise is wrong
_MOST_FILTER_TAPS = 30_000_000  # of the resampler; 44,100 Hz to any multiple of 10 Hz stays below
_ONE_LONG = Lock()  # held while a long recording is decoded
_MARGIN_SECONDS = 1  # of what surrounds a piece: the filters have forgotten all else by then


@dataclass(frozen=True)
class DecodedClip:
    """One recording as the bank keeps it.

    Attributes:
        samples: ``[samples]``, int16 relative to the recording's own peak.
        scale: what an integer is multiplied with.
        hops: mean power of each 100 ms, ``[2, hops]``, float32: K-weighted, and plain.
        loudest_lufs: loudness of the loudest 400 ms.
    """

    samples: np.ndarray
    scale: float
    hops: np.ndarray
    loudest_lufs: float


class UnusableRecordingError(Exception):
    """A recording that no bank can hold; its text is the reason."""


def decode(corpus: Corpus, clip: Clip, sample_rate: int) -> DecodedClip:
    """Decode one recording: channels averaged, resampled, its loudness measured at its own rate.

    A long recording goes through in pieces, so that memory holds little more of it than the result; of several threads
    only one at a time decodes a long one.

    Args:
        corpus: where the clip comes from.
        clip: the recording.
        sample_rate: of the result, Hz.

    Raises:
        UnusableRecordingError: it cannot be decoded, or is empty, not finite or silent.
        OSError: it could not be read, for a reason that lies outside the recording.
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
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: soundfile's word for raw samples without a rate
        raise UnusableRecordingError(f"cannot be read ({' '.join(str(error).split())})") from error
    if not quantised:
        raise UnusableRecordingError("has no samples")
    joined = np.concatenate(hops, axis=1)
    loudest = loudest_block(joined[0])
    if loudest < SILENCE_LUFS:
        raise UnusableRecordingError(f"is silent (its loudest 400 ms have {loudest:.0f} LUFS)")
    return DecodedClip(*_joined(quantised), joined, loudest)


def _quantise(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Return 16-bit integers relative to the waveform's peak, and what they are multiplied with."""
    scale = float(np.abs(waveform).max(initial=0.0)) / 32767.0
    return np.round(waveform / (scale or 1.0)).astype(np.int16), scale


def _joined(quantised: list[tuple[np.ndarray, float]]) -> tuple[np.ndarray, float]:
    """Put pieces together under the largest of their scales."""
    if len(quantised) == 1:
        return quantised[0]
    scale = max(one for _, one in quantised)
    samples = np.empty(sum(len(piece) for piece, _ in quantised), np.int16)
    end = len(samples)
    while quantised:  # from the end, so that each piece is given free at once
        piece, one = quantised.pop()
        samples[end - len(piece) : end] = np.round(piece * np.float32(one / scale))
        end -= len(piece)
    return samples, scale


def _check_rate(rate: int, sample_rate: int) -> None:
    """Refuse a recording's rate that cannot be meant, or that would need a resampling filter of gigabytes."""
    common = math.gcd(rate, sample_rate)
    if rate not in _RATES or (rate // common) * (sample_rate // common) > _MOST_FILTER_TAPS:
        raise UnusableRecordingError(
            f"says its sample rate is {rate} Hz, which no recorder uses and which cannot be resampled to "
            f"{sample_rate} Hz; correct its header or resample it"
        )


def _pieces(corpus: Corpus, clip: Clip) -> Iterator[tuple[np.ndarray, int, int, int]]:
    """Yield pieces ``[samples, channels]``, their rate, and the seconds of margin before and after what they are for.

    Pieces begin at whole seconds, which lie on the sample grid of every rate and on the grid of hops.
    """
    piece, rate = corpus.read(clip, 0, _WHOLE)
    if len(piece) < _WHOLE:
        if len(piece):
            yield piece, rate, 0, 0
        return
    del piece
    with _ONE_LONG:
        yield from _long_pieces(corpus, clip, rate)


def _long_pieces(corpus: Corpus, clip: Clip, rate: int) -> Iterator[tuple[np.ndarray, int, int, int]]:
    second, last = 0, False
    while not last:
        before = min(second, _MARGIN_SECONDS)
        start = (second - before) * rate
        stop = (second + _PIECE_SECONDS + _MARGIN_SECONDS) * rate
        piece, _ = corpus.read(clip, start, stop)
        last = len(piece) < stop - start
        if len(piece) > before * rate:
            yield piece, rate, before, 0 if last else _MARGIN_SECONDS
        second += _PIECE_SECONDS
