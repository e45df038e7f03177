"""The bytes of a sound file, and the parts of it that libsndfile decodes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_BLOCK = 1 << 18


class DamagedError(Exception):
    """A sound file that is not whole; the text completes a sentence that begins with its name."""


@dataclass(frozen=True)
class Part:
    """A sound file within a file: bytes to put in front of a range of the file's own bytes.

    Most files are one part without a head. A head replaces a header that does not give the length, or a wrong one, from
    which libsndfile would read too few samples; joined files are several parts.

    Attributes:
        start: first byte of the range.
        stop: end of the range.
        head: bytes in front of the range.
        exact: whether the decoder must return as many samples as it announces; some only estimate their number.
        samples: samples per channel where they are known better; 0 where they are not.
        claim: size that the part claims to have if it is larger, in bytes. From it libsndfile estimates the number of
            samples of an MP3 file, and returns no more than these.
    """

    start: int
    stop: int
    head: bytes = b""
    exact: bool = False
    samples: int = 0
    claim: int = 0


class Content:
    """Random access to the bytes of a file; blocks, not the whole of it, are in memory.

    Args:
        path: file.

    Attributes:
        size: bytes in the file.

    Raises:
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  closed by the with block of its user
        self.size = os.fstat(self._file.fileno()).st_size
        self._begin, self._block = 0, b""

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def at(self, position: int, count: int) -> bytes:
        """Return ``count`` bytes from a position, fewer where the file ends before."""
        count = min(count, self.size - position)  # sizes in headers may be any
        if count <= 0:
            return b""
        offset = position - self._begin
        if offset < 0 or offset + count > len(self._block):
            self._file.seek(position)
            self._begin, self._block, offset = position, self._file.read(max(count, _BLOCK)), 0
        return self._block[offset : offset + count]

    def number(self, position: int, count: int, order: Literal["little", "big"] = "little") -> int:
        """Return the unsigned number in ``count`` bytes from a position."""
        return int.from_bytes(self.at(position, count), order)

    def find(self, pattern: bytes, start: int, stop: int) -> int:
        """Return the first position of a pattern in a range, or -1."""
        while start + len(pattern) <= stop:
            block = self.at(start, min(_BLOCK, stop - start))
            found = block.find(pattern)
            if found >= 0:
                return start + found
            start += len(block) - len(pattern) + 1
            if len(block) < len(pattern):
                break
        return -1


class PartFile:
    """A part as a file that libsndfile reads through callbacks.

    Args:
        path: file of the part.
        part: the part.

    Attributes:
        error: error of the system in a callback, which can raise none; libsndfile takes it for the end of the file.
    """

    def __init__(self, path: Path, part: Part) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  see close()
        self._part = part
        self._whole = len(part.head) + part.stop - part.start
        self._size = max(self._whole, part.claim)
        self._position = 0
        self.error: OSError | None = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def read(self, count: int) -> bytes:
        """Return bytes from the position on."""
        count = max(0, min(count, self._size - self._position))
        data = self._part.head[self._position : self._position + count]
        if len(data) < count:
            try:
                begin = self._part.start + max(0, self._position - len(self._part.head))
                self._file.seek(begin)
                data += self._file.read(max(0, min(count - len(data), self._part.stop - begin)))
            except OSError as error:
                self.error = error
        if self._position + count > self._whole:
            data = data.ljust(count, b"\0")
        self._position += len(data)
        return data
