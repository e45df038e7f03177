"""MP3 files: their frames counted, since without a table of contents libsndfile estimates their number."""

from __future__ import annotations

from dataclasses import dataclass

from tse_refine.data.audio.content import Content, DamagedError, Part

_SAMPLE_RATES = (44_100, 48_000, 32_000)  # Hz, of MPEG 1; a half and a quarter in MPEG 2 and 2.5
_KILOBITS = {  # by version 1 or not, and layer
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_LARGEST_FRAME = 4096  # bytes, and more
_SAME = 0xFFFE0C00  # bits of a header that all frames of a stream share: sync, version, layer, sample rate


@dataclass
class _Stream:
    """Frames in a row.

    Attributes:
        start: first byte, that of Xing's table where there is one.
        first: first byte of the frames.
        announced: frames according to the table; None without one.
        frames: frames that are there.
        stop: end of the last one.
    """

    start: int
    first: int
    announced: int | None = None
    frames: int = 0
    stop: int = 0


def is_mpeg(data: Content, position: int) -> bool:
    """Return whether two MPEG audio frames, or one and the end of the file, follow from a byte on."""
    size = _frame_size(data.number(position, 4, "big"))
    following = data.at(position + size, 4)
    return size > 0 and (not following or _same_stream(data.at(position, 4), following))


def mpeg_parts(data: Content, start: int) -> list[Part]:
    """Return the streams of an MP3 file, each with a table that gives its number of frames.

    Args:
        data: bytes of the file.
        start: first byte of the first frame.

    Raises:
        DamagedError: a stream has fewer frames than its table gives, or the last frame is not whole.
    """
    streams = [_Stream(start, start)]
    position, header = start, data.at(start, 4)
    while position < data.size:
        current = data.at(position, 4)
        size = _frame_size(int.from_bytes(current, "big"))
        stream = streams[-1]
        if size and _same_stream(header, current):
            if position + size > data.size:
                if stream.announced is None or stream.frames < stream.announced:
                    raise DamagedError("is cut off within its last MPEG frame")
                break
            frame = data.at(position, size)
            announced = _table(frame)
            if announced is None:
                stream.frames += 1
            else:  # libsndfile knows Xing's tables alone
                begin = position + size if _is_vbri(frame) else position
                streams[-1 if not stream.frames else len(streams) :] = [_Stream(begin, position + size, announced)]
            position += size
            streams[-1].stop = position
        else:
            position = _behind_tags(data, position, header)
    return [_part(data, stream) for stream in streams]


def _part(data: Content, stream: _Stream) -> Part:
    announced = stream.announced or 0
    if stream.frames < announced:
        raise DamagedError(f"is cut off: its table announces {announced} MPEG frames, and {stream.frames} are there")
    if stream.start < stream.first and announced and stream.frames <= announced + 1:
        return Part(stream.start, stream.stop)
    samples = stream.frames * _samples_per_frame(data.number(stream.first, 4, "big"))
    return Part(stream.first, stream.stop, samples=samples, claim=_LARGEST_FRAME * (stream.frames + 1))


def _same_stream(header: bytes, other: bytes) -> bool:
    difference = int.from_bytes(header, "big") ^ int.from_bytes(other, "big")
    return len(other) == 4 and not difference & _SAME and _frame_size(int.from_bytes(other, "big")) > 0


def _frame_size(header: int) -> int:
    """Return the bytes of a frame; 0 if the header is none, or of the rare format that does not give a rate."""
    version, layer, rate, frequency = header >> 19 & 3, 4 - (header >> 17 & 3), header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or rate in (0, 15) or frequency == 3:
        return 0
    bits = 1000 * _KILOBITS[version == 3, layer][rate - 1]
    hertz = _SAMPLE_RATES[frequency] >> {3: 0, 2: 1, 0: 2}[version]
    padding = header >> 9 & 1
    if layer == 1:
        return 4 * (12 * bits // hertz + padding)
    return (72 if layer == 3 and version != 3 else 144) * bits // hertz + padding


def _samples_per_frame(header: int) -> int:
    layer, version = 4 - (header >> 17 & 3), header >> 19 & 3
    return 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152


def _side_information(header: int) -> int:
    """Return the bytes between the header of a layer III frame and what a table has in place of sound."""
    mono = header >> 6 & 3 == 3
    return (17 if mono else 32) if header >> 19 & 3 == 3 else (9 if mono else 17)


def _table(frame: bytes) -> int | None:
    """Return the number of frames in a table (Xing, Info, VBRI), 0 if it has none; None for a frame with sound."""
    offset = 4 + _side_information(int.from_bytes(frame[:4], "big"))
    if frame[offset : offset + 4] in (b"Xing", b"Info"):
        has_frames = len(frame) >= offset + 12 and frame[offset + 7] & 1
        frames = int.from_bytes(frame[offset + 8 : offset + 12], "big") if has_frames else 0
        counts_itself = frame[offset + 120 : offset + 124] not in (b"LAME", b"Lavc", b"Lavf")  # as some do
        return max(0, frames - counts_itself)
    return max(0, int.from_bytes(frame[50:54], "big") - 1) if _is_vbri(frame) else None


def _is_vbri(frame: bytes) -> bool:
    return frame[36:40] == b"VBRI"


def _behind_tags(data: Content, position: int, header: bytes) -> int:
    """Return where the next frame begins behind a tag or bytes of another kind; the end of the file without one."""
    head = data.at(position, 32)
    if head.startswith(b"ID3") and (size := id3_size(head)):
        return position + size
    if head.startswith(b"APETAGEX"):
        return position + 32 + int.from_bytes(head[12:16], "little")
    while (position := data.find(b"\xff", position + 1, data.size)) >= 0:
        if _same_stream(header, data.at(position, 4)) and is_mpeg(data, position):
            return position
    return data.size


def id3_size(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag that begins with ``head``, at least 10 bytes; 0 if it is none."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)
