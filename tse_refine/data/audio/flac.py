"""FLAC files, also those whose header does not give their length, as encoders write to a pipe."""

from __future__ import annotations

from tse_refine.data.audio.content import Content, DamagedError, Part

_STREAM_INFO = b"fLaC\0\0\0\x22"  # also with the bit of the last metadata block
_HEADER = 42  # bytes to the end of STREAMINFO
_TOTAL = 21  # first of the five bytes whose lower 36 bits are the number of samples
_BLOCK_SIZES = (
    {1: 192} | {2 + power: 576 << power for power in range(4)} | {8 + power: 256 << power for power in range(8)}
)


def flac_part(data: Content, start: int) -> Part:
    """Return the FLAC stream that begins at a byte; one of unknown length gets the length that its last frame tells.

    Args:
        data: bytes of the file.
        start: first byte of the stream.

    Raises:
        DamagedError: the length is unknown, and the last frame is not whole.
    """
    header = data.at(start, _HEADER)
    joined = (data.find(marker, start + _HEADER, data.size) for marker in (_STREAM_INFO, b"fLaC\x80\0\0\x22"))
    stop = min((position for position in joined if position >= 0), default=data.size)
    known = int.from_bytes(header[_TOTAL : _TOTAL + 5], "big") & ((1 << 36) - 1)
    if len(header) < _HEADER or header[4] & 0x7F or known:  # without STREAMINFO libsndfile rejects it
        return Part(start, stop, exact=True)
    total = _samples_to_the_last_frame(data, start, stop)
    patched = (int.from_bytes(header[_TOTAL : _TOTAL + 5], "big") | total).to_bytes(5, "big")
    return Part(start + _HEADER, stop, header[:_TOTAL] + patched + header[_TOTAL + 5 :], exact=True)


def _samples_to_the_last_frame(data: Content, start: int, stop: int) -> int:
    """Return the number of samples up to the end of the last frame, whose header counts frames or samples."""
    position = start + 4
    while True:  # metadata blocks
        kind, size = data.at(position, 1), data.number(position + 1, 3, "big")
        position += 4 + size
        if not kind or kind[0] & 0x80:
            break
    block_size = data.number(start + 10, 2, "big")
    channels, bits = (data.at(start + 20, 1)[0] >> 1 & 7) + 1, (data.number(start + 20, 2, "big") >> 4 & 31) + 1
    largest = data.number(start + 15, 3, "big") or block_size * channels * (bits + 8) // 8 + 64
    if position >= stop:
        return 0
    if stop - position > 128 and data.at(stop - 128, 3) == b"TAG":
        stop -= 128
    begin = max(position, stop - largest)
    tail = data.at(begin, stop - begin)
    sync = len(tail)
    while (sync := tail.rfind(b"\xff", 0, sync)) >= 0:
        if tail[sync + 1 : sync + 2] in (b"\xf8", b"\xf9"):
            total = _end_of_frame(tail[sync:], block_size)
            if total is not None:
                return total
    raise DamagedError("is cut off: its last FLAC frame is not whole, and its header does not give the length")


def _end_of_frame(frame: bytes, block_size: int) -> int | None:
    """Return the number of the sample after a frame, or None if the bytes are no frame."""
    code = frame[2] >> 4 if len(frame) > 6 else 0
    coded = frame[4:11]
    ones = 8 - (~coded[0] & 0xFF).bit_length() if coded else 0  # leading ones: length of the number, as in UTF-8
    length = max(1, ones)
    if not code or ones in (1, 8) or len(coded) < length:
        return None
    number = coded[0] & (0x7F >> ones) if ones < 7 else 0
    for byte in coded[1:length]:
        number = number << 6 | byte & 0x3F
    end = 4 + length
    samples = _BLOCK_SIZES.get(code, 0)
    if code in (6, 7):
        samples = int.from_bytes(frame[end : end + code - 5], "big") + 1
        end += code - 5
    end += {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
    if _crc(frame[:end], 8, 0x07) != frame[end] or _crc(frame[:-2], 16, 0x8005) != int.from_bytes(frame[-2:], "big"):
        return None
    return (number if frame[1] & 1 else number * block_size) + samples


def _crc(content: bytes, bits: int, polynomial: int) -> int:
    table = []
    for byte in range(256):
        rest = byte << (bits - 8)
        for _ in range(8):
            rest = rest << 1 ^ polynomial if rest >> (bits - 1) & 1 else rest << 1
        table.append(rest & (1 << bits) - 1)
    rest, mask = 0, (1 << bits) - 1
    for byte in content:
        rest = (rest << 8 & mask) ^ table[rest >> (bits - 8) ^ byte]
    return rest
