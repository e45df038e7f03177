"""Reads sound files whole, or rejects them: one rule for corpora, extraction and the page.

Of most files that were cut off, libsndfile reads what is there without an error, and of some that are whole only a
part: of those that do not give their length or give a wrong one, and of several that are joined into one. What is there
is therefore determined first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from tse_refine.data.audio.chunks import au_part, caf_part, iff_part, nist_part, riff_part, w64_part
from tse_refine.data.audio.content import Content, DamagedError, Part, PartFile
from tse_refine.data.audio.flac import flac_part
from tse_refine.data.audio.mpeg import id3_size, is_mpeg, mpeg_parts
from tse_refine.data.audio.ogg import ogg_parts
from tse_refine.errors import InputError
from tse_refine.files.atomic import printable

_INSPECTIONS: dict[bytes, Callable[[Content, int], Part]] = {
    b"RIFF": riff_part,
    b"RIFX": riff_part,
    b"RF64": riff_part,
    b"BW64": riff_part,
    b"riff": w64_part,
    b"FORM": iff_part,
    b".snd": au_part,
    b"dns.": au_part,
    b"caff": caf_part,
    b"fLaC": flac_part,
    b"NIST": nist_part,
}
_LARGEST_PAGE = 255 * 2048  # samples, of Ogg Vorbis
_EMPTY_WORDS = ("File does not exist", "Unspecified internal error", "Internal", "System error", "No Error")
_CUT_OFF = re.compile("truncated|short read|should be")  # in libsndfile's log of the other formats


class RecordingError(InputError):
    """A file that is not a sound file, or not a whole one.

    Args:
        path: the file.
        reason: predicate of a sentence about it.

    Attributes:
        reason: the same.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{printable(path)} {reason}; expected is a whole file of WAV, FLAC, OGG, MP3 or another format that "
            "libsndfile supports. Copy or export it again."
        )
        self.reason = reason


class _SoundFile(soundfile.SoundFile):
    """A file of libsndfile that is not positioned anew after each read, as soundfile does with files that can seek."""

    def seekable(self) -> bool:
        return False


class _Decoder:
    """An open part of a file, read by libsndfile."""

    def __init__(self, path: Path, part: Part, whole: bool) -> None:
        self._part = part
        with ExitStack() as stack:
            self._source = None if whole else stack.enter_context(closing(PartFile(path, part)))
            try:
                file = _SoundFile(self._source or os.fsencode(path))  # bytes: a name need not be text
            except TypeError as error:  # named .raw
                raise DamagedError("cannot be read as sound (raw samples without a header)") from error
            self.file = stack.enter_context(closing(file))
            self.close = stack.pop_all().close
        self.seekable = soundfile.SoundFile.seekable(self.file)
        self.position = 0

    def read(self, count: int) -> np.ndarray:
        failed, reason = False, ""
        try:
            samples = self.file.read(count, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            samples, failed, reason = np.empty(0), True, _words(error)
        if self._source and self._source.error:
            raise self._source.error
        self.position += len(samples)
        if failed or (len(samples) < count and self._part.exact):
            raise DamagedError(
                f"is cut off or damaged: {self.file.frames:,} samples are announced, and not all of them can be "
                f"decoded{reason}"
            )
        return samples

    def seek(self, position: int) -> None:
        if position != self.position and self.seekable:
            self.position = self.file.seek(max(0, self._entry(position)))
        while self.position < position and len(self.read(min(1 << 20, position - self.position))):
            pass

    def _entry(self, position: int) -> int:
        """Return the sample to jump to, from which decoding onwards gives the right samples at a position."""
        if self.file.subtype.startswith("MPEG"):  # frames use bits of earlier ones
            return position - 32 * 1152
        if self.file.subtype == "VORBIS":  # libsndfile misses the right place in the last page
            return min(position, self.file.frames - _LARGEST_PAGE)
        return position


class AudioFile:
    """An open sound file; see :func:`open_audio`.

    Args:
        path: the file.

    Attributes:
        sample_rate: Hz.
        channels: number of channels.
        samples: samples per channel.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._current: tuple[int, _Decoder] | None = None
        status = path.stat()
        self._size = status.st_size
        self._parts = _parts(path, status.st_size, status.st_mtime_ns)
        known = bool(self._parts)
        self._parts = self._parts or (Part(0, self._size),)
        self._lengths: list[int] = []
        with ExitStack() as stack:
            stack.callback(self.close)
            formats = {self._measured(number, known) for number in range(len(self._parts))}
            if len(formats) > 1:
                raise DamagedError("is joined from files of different sample rates or channels")
            stack.pop_all()
        self.sample_rate, self.channels = formats.pop()
        self.samples = sum(self._lengths)

    def _measured(self, number: int, known: bool) -> tuple[int, int]:
        """Add the length of a part, and return its sample rate and channels."""
        file = self._decoder(number).file
        doubts = [] if known else [line for line in file.extra_info.splitlines() if _CUT_OFF.search(line)]
        if doubts:
            raise DamagedError(f"is cut off or damaged ({printable(' '.join(doubts[0].split()))})")
        self._lengths.append(self._parts[number].samples or file.frames)
        return file.samplerate, file.channels

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return samples, ``[samples, channels]`` in float32; fewer where the recording ends before ``stop``."""
        begin = 0
        pieces = []
        for number, length in enumerate(self._lengths):
            first, last = max(start, begin) - begin, min(stop, begin + length) - begin
            if first < last:
                decoder = self._decoder(number, first)
                decoder.seek(first)
                pieces.append(decoder.read(last - first))
            begin += length
        return np.concatenate(pieces) if pieces else np.empty((0, self.channels), np.float32)

    def close(self) -> None:
        """Close the file."""
        if self._current:
            self._current[1].close()
        self._current = None

    def _decoder(self, number: int, first: int = 0) -> _Decoder:
        """Return a part, the only open one, so that it can be read from a sample on."""
        if self._current and self._current[0] == number:
            decoder = self._current[1]
            if first >= decoder.position or decoder.seekable:  # some codecs decode only onwards
                return decoder
        self.close()
        part = self._parts[number]
        decoder = _Decoder(self._path, part, whole=replace(part, exact=False) == Part(0, self._size))
        self._current = number, decoder
        return decoder


@contextmanager
def open_audio(path: Path) -> Iterator[AudioFile]:
    """Yield an open sound file.

    Args:
        path: the file, in any format of libsndfile.

    Raises:
        OSError: the file cannot be opened or read, for a reason outside of it.
        RecordingError: it is not a sound file, is damaged or cut off; in the block too, while it is read.
    """
    try:
        with closing(AudioFile(path)) as audio:
            yield audio
    except DamagedError as error:
        raise RecordingError(path, str(error)) from error
    except soundfile.SoundFileError as error:
        raise RecordingError(path, f"cannot be read as sound{_words(error)}") from error


def _words(error: Exception) -> str:
    """Return libsndfile's reason in brackets, or nothing if it gives none."""
    words = " ".join(str(getattr(error, "error_string", error)).removeprefix("Error : ").split()).rstrip(".")
    return "" if words.startswith(_EMPTY_WORDS) else f" ({words})"


@lru_cache(maxsize=4096)  # a long recording is opened once per piece, and its bytes may have to be searched
def _parts(path: Path, size: int, time: int) -> tuple[Part, ...]:
    """Return the parts of a file of a size and time; none if its format has no rule here.

    Raises:
        DamagedError: the file is not whole.
    """
    with Content(path) as data:
        parts: list[Part] = []
        position = id3_size(data.at(0, 10))
        while position < data.size:
            found = _parts_from(data, position)
            if not found:
                break
            parts += found
            if parts[-1].stop <= position:  # a header that points to itself
                break
            position = parts[-1].stop
    return tuple(parts)


def _parts_from(data: Content, position: int) -> list[Part]:
    magic = data.at(position, 4)
    if magic == b"OggS":
        return ogg_parts(data, position)
    if magic in _INSPECTIONS:
        return [_INSPECTIONS[magic](data, position)]
    return mpeg_parts(data, position) if is_mpeg(data, position) else []
