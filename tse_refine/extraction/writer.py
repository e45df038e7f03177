"""Sound files: their formats, and writing them block by block so that they appear whole or not at all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import soundfile
from torch import Tensor

from tse_refine.errors import InputError, printable
from tse_refine.extraction.signal import SAMPLE_RATES
from tse_refine.files.atomic import replacing

_SAMPLES_PER_COPY = 1 << 20


@dataclass(frozen=True)
class SoundFormat:
    """A file format in soundfile's terms, and its limits.

    Attributes:
        container: soundfile's ``format``.
        encoding: soundfile's ``subtype``: 32-bit float where the container has it, otherwise the best that it has.
        most_channels: largest number of channels.
        sample_rates: supported sample rates, Hz, in ranges or single; by default those of all recordings.
        most_bytes: largest size of the samples.
    """

    container: str
    encoding: str
    most_channels: int = 1024
    sample_rates: tuple[range | tuple[int, ...], ...] = (SAMPLE_RATES,)
    most_bytes: float = math.inf

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale are kept."""
        return self.encoding == "FLOAT"

    def supports_rate(self, sample_rate: int) -> bool:
        """Return whether the format supports a sample rate, in Hz."""
        return any(sample_rate in rates for rates in self.sample_rates)


_FOUR_GIGABYTES = (1 << 32) - (1 << 16)  # lengths in a header have 32 bits, and include the header
FORMATS = {
    "wav": SoundFormat("WAV", "FLOAT", most_bytes=_FOUR_GIGABYTES),
    # libFLAC's header has 16 bits for Hz, or for tens of Hz
    "flac": SoundFormat("FLAC", "PCM_24", most_channels=8, sample_rates=(range(1, 65_536), range(65_540, 655_351, 10))),
    # libvorbis has no mode above 200 kHz, and libsndfile 1.2 crashes instead of reporting it
    "ogg": SoundFormat("OGG", "VORBIS", most_channels=255, sample_rates=(range(4_000, 192_001),)),
    "opus": SoundFormat("OGG", "OPUS", most_channels=255, sample_rates=((8_000, 12_000, 16_000, 24_000, 48_000),)),
    "mp3": SoundFormat(
        "MP3",
        "MPEG_LAYER_III",
        most_channels=2,
        sample_rates=((8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),),
    ),
    "aiff": SoundFormat("AIFF", "FLOAT", most_bytes=_FOUR_GIGABYTES),
    "au": SoundFormat("AU", "FLOAT", most_bytes=_FOUR_GIGABYTES),
    "caf": SoundFormat("CAF", "FLOAT"),
    "w64": SoundFormat("W64", "FLOAT"),
    "rf64": SoundFormat("RF64", "FLOAT"),
}
SUFFIXES = {f".{name}": name for name in FORMATS} | {".aif": "aiff", ".oga": "ogg", ".snd": "au", ".wave": "wav"}


def fitting_format(name: str, sample_rate: int, channels: int, samples: int, owner: str) -> SoundFormat:
    """Return the format in which a recording is written.

    A WAV file beyond 4 GB becomes RF64, its successor with the same suffix, which current programs read.

    Args:
        name: key of :data:`FORMATS`.
        sample_rate: sample rate of the recording, Hz.
        channels: number of channels.
        samples: samples per channel.
        owner: name of the recording, for messages.

    Raises:
        InputError: the format does not support the recording.

    >>> fitting_format("wav", 48_000, channels=8, samples=48_000 * 3600, owner="in.wav").container
    'RF64'
    """
    sound_format = FORMATS[name]
    if channels > sound_format.most_channels:
        most = sound_format.most_channels
        raise InputError(f"{owner} has {channels} channels, but {name} supports up to {most}; use --format wav.")
    if not sound_format.supports_rate(sample_rate):
        supported = ", ".join(map(_in_words, sound_format.sample_rates))
        others = "wav or flac" if FORMATS["flac"].supports_rate(sample_rate) else "wav"
        raise InputError(
            f"{owner} has a sample rate of {sample_rate} Hz, but {name} supports {supported}; use --format {others}."
        )
    if 4 * channels * samples > sound_format.most_bytes:
        if name != "wav":
            raise InputError(f"{owner} is too long for {name}, which is limited to 4 GB; use --format wav.")
        return FORMATS["rf64"]
    return sound_format


def _in_words(rates: range | tuple[int, ...]) -> str:
    if isinstance(rates, tuple):
        return ", ".join(map(str, rates))
    return f"up to {rates[-1]}" + (f" in steps of {rates.step}" if rates.step > 1 else "")


class SoundWriter:
    """Writes blocks of samples as they are.

    In a format of fixed full scale, samples beyond it would be clipped. There the samples are kept as floats until the
    peak is known, and then scaled as a whole, so that nothing is clipped. Files that add up are scaled alike, by the
    largest of their peaks. :func:`writing` begins and ends a file.

    Attributes:
        gain_db: gain by which the file was scaled, at most 0 dB.
        peak: largest magnitude so far; 0 where nothing would be clipped.
    """

    def __init__(self, path: Path, temporary: Path, sound_format: SoundFormat, sample_rate: int, channels: int) -> None:
        self.gain_db = self.peak = 0.0
        self._path = path
        self._samples = 0
        self._channels = channels
        self._temporary = os.fsencode(temporary)  # a name need not be text
        self._file = soundfile.SoundFile(
            self._temporary, "w", sample_rate, channels, sound_format.encoding, format=sound_format.container
        )
        self._floats = None if sound_format.is_float else TemporaryFile(dir=path.parent)  # noqa: SIM115  see close()

    def write(self, block: Tensor) -> None:
        """Add samples, ``[channels, samples]``."""
        samples = np.ascontiguousarray(block.numpy().T, np.float32)
        self._samples += len(samples)
        with _system_errors(self._path):
            if self._floats is None:
                self._file.write(samples)
            else:
                self.peak = max(self.peak, float(np.abs(samples).max(initial=0.0)))
                self._floats.write(samples.tobytes())

    def finish(self, peak: float) -> None:
        """Complete the file; it appears under its name when :func:`writing` ends.

        Args:
            peak: magnitude that becomes full scale if it is larger: the largest peak of the files that add up.
        """
        with _system_errors(self._path):
            if self._floats is not None:
                self._convert(self._floats, peak)
            self.close()
            written = soundfile.info(self._temporary).frames
            if written != self._samples:  # a full disk that libsndfile did not report
                raise OSError(None, f"{written} samples of {self._samples} were written")

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._floats is not None:
            self._floats.close()

    def _convert(self, floats: IO[bytes], peak: float) -> None:
        scale = np.float32(1.0 / max(1.0, peak))
        self.gain_db = 20.0 * math.log10(scale)
        floats.seek(0)
        size = 4 * self._channels * max(1, _SAMPLES_PER_COPY // self._channels)
        while part := floats.read(size):
            self._file.write(scale * np.frombuffer(part, np.float32).reshape(-1, self._channels))


@contextmanager
def writing(
    path: Path, sound_format: SoundFormat, sample_rate: int, channels: int, overwrite: bool
) -> Iterator[SoundWriter]:
    """Yield a writer, whose file appears under its name when the block ends without an error.

    Args:
        path: sound file; its folder is created when missing.
        sound_format: format of the file.
        sample_rate: sample rate, Hz.
        channels: number of channels of all blocks.
        overwrite: replace an existing file.

    Raises:
        InputError: the file cannot be written; the text gives the reason.
    """
    with _system_errors(path), replacing(path) as temporary:
        writer = SoundWriter(path, temporary, sound_format, sample_rate, channels)
        try:
            yield writer
        finally:
            writer.close()
        if not overwrite and path.exists():
            raise InputError(f"{printable(path)} was created while extracting and is kept; use --overwrite.")


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Turn errors of the system and of libsndfile into messages."""
    try:
        yield
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(
            f"{printable(path)} cannot be written ({error_reason(error)}). Check that you may write there and that "
            "there is space."
        ) from error


def error_reason(error: Exception) -> str:
    """Return the reason that an error of the system or of libsndfile gives, in one line and without a full stop."""
    reason = error.strerror if isinstance(error, OSError) else getattr(error, "error_string", error)
    return " ".join(str(reason).split()).rstrip(".")
