"""Ogg files: whole, damaged, cut off, or several streams one after the other."""

from __future__ import annotations

import zlib

from tse_refine.data.audio.content import Content, DamagedError, Part

_BEGIN, _END = 2, 4  # flags of a stream's first and last page
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_parts(data: Content, start: int) -> list[Part]:
    """Return the links of a chained Ogg file, of which libsndfile decodes only the first.

    Args:
        data: bytes of the file.
        start: first byte of the first page.

    Raises:
        DamagedError: a page is damaged or missing, or the file is cut off.
    """
    parts: list[Part] = []
    begin = position = start
    pages: dict[int, int] = {}  # number of the next page by stream
    open_streams: set[int] = set()
    headers = True  # whether only first pages were found in this link
    while data.at(position, 4) == b"OggS":
        page = _page(data, position)
        flags, serial, number = page[5], int.from_bytes(page[14:18], "little"), int.from_bytes(page[18:22], "little")
        if flags & _BEGIN and not headers:
            _check_ended(open_streams)
            parts.append(Part(begin, position, exact=True))
            begin, pages, open_streams = position, {}, set()
        headers = bool(flags & _BEGIN)
        if pages.setdefault(serial, number) != number:
            raise DamagedError(f"is damaged: page {pages[serial]} of its Ogg stream is missing")
        pages[serial] = number + 1
        open_streams.add(serial)
        if flags & _END:
            open_streams.remove(serial)
        position += len(page)
    rest = data.at(position, 128)
    if rest.strip(b"\0") and not rest.startswith(b"TAG"):
        raise DamagedError(f"is damaged: byte {position:,} is not the beginning of an Ogg page")
    _check_ended(open_streams)
    return [*parts, Part(begin, position, exact=True)]


def _page(data: Content, position: int) -> bytes:
    segments = data.at(position + 27, data.number(position + 26, 1))
    size = 27 + len(segments) + sum(segments)
    page = data.at(position, size)
    if len(page) < size or size < 28:
        raise DamagedError("is cut off within a page of its Ogg stream")
    if _crc(page[:22] + bytes(4) + page[26:]) != int.from_bytes(page[22:26], "little"):
        raise DamagedError(f"is damaged: the Ogg page at byte {position:,} has another checksum")
    return page


def _check_ended(open_streams: set[int]) -> None:
    if open_streams:
        raise DamagedError("is cut off: the last page of its Ogg stream is missing")


def _crc(page: bytes) -> int:
    """Return Ogg's checksum: that of zlib with the bits of all bytes in reversed order, from 0 and not inverted."""
    rest = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(rest.to_bytes(4, "little").translate(_REVERSED), "big")
