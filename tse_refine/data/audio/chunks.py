"""Where the samples of WAV, RF64, W64, AIFF, SVX, AU, CAF and NIST files end.

Writers that cannot go back to the header, since they write to a pipe or are stopped, leave a placeholder there, and
some count a few bytes too many or too few. A file is therefore cut off only if every size in its header says so; where
there is no true size, the samples end with the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Literal

from tse_refine.data.audio.content import Content, DamagedError, Part

_Order = Literal["little", "big"]
# largest signed and unsigned numbers of 32 and 64 bits, and SoX's for AIFF; writers subtract a header or round down
_PLACEHOLDERS = (0x7F000000, 1 << 31, 1 << 32, 1 << 63, 1 << 64)
_NEAR = 8192
_ROUND = 100_000_000  # some writers give 2,000,000,000
_CHUNK_NAME = re.compile(rb"[A-Za-z0-9_(\xa9][A-Za-z0-9 _)]{3}")
_KNOWN_CHUNKS = (  # also if they are cut off themselves
    *(b"LIST", b"bext", b"iXML", b"id3 ", b"ID3 ", b"_PMX", b"cue ", b"smpl", b"JUNK", b"PAD "),
    *(b"APPL", b"ANNO", b"NAME", b"AUTH", b"COMT", b"MARK", b"INST"),
)
_FORMS = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"BW64"), (b"WAVE",)),
    b"FORM": (b"AIFF", b"AIFC", b"8SVX", b"16SV"),
}
_TAGS = (b"TAG", b"ID3", b"APETAGEX")
_W64_GUID = 16


def riff_part(data: Content, start: int) -> Part:
    """Return a WAV file (RIFF, RIFX, RF64, BW64), whose header is replaced if it gives a wrong length.

    Args:
        data: bytes of the file.
        start: first byte of the WAV file.

    Raises:
        DamagedError: the file is cut off.
    """
    kind = data.at(start, 4)
    order: _Order = "big" if kind == b"RIFX" else "little"
    outer = data.number(start + 4, 4, order)
    form = samples_in_ds64 = -1
    padded = True
    for name, position, size, padded in _chunks(data, start + 12, order):
        if name == b"ds64":
            outer, samples_in_ds64 = data.number(position, 8, order), data.number(position + 8, 8, order)
        elif name == b"fmt ":
            form, form_size = position, min(size, 1024)
        elif name == b"data" and form >= 0:
            if size == 0xFFFFFFFF and samples_in_ds64 >= 0:
                size = samples_in_ds64
            stop = _samples_end(data, position, size, start + 8 + outer, order, header=position - start)
            if stop == position + size and padded and kind != b"BW64":
                return Part(start, _file_end(data, stop, order))
            header = _wav_header(data.at(form, form_size), stop - position, order)
            return Part(position, stop, header)
    return _without_samples(data, start, start + 8 + outer)


def w64_part(data: Content, start: int) -> Part:
    """Return a W64 file; see :func:`riff_part`."""
    outer = data.number(start + _W64_GUID, 8)
    position = start + 40
    while len(head := data.at(position, 24)) == 24 and any(head[:4]):
        size = int.from_bytes(head[16:], "little")
        if head[:4] == b"data":
            stop = _samples_end(data, position + 24, max(0, size - 24), start + outer)
            return _patched(data, start, position + 24, data.size, position + 16, struct.pack("<Q", stop - position))
        position += max(24, (size + 7) & ~7)
    return _without_samples(data, start, start + outer)


def iff_part(data: Content, start: int) -> Part:
    """Return an AIFF, AIFC or SVX file; see :func:`riff_part`."""
    outer = data.number(start + 4, 4, "big")
    for name, position, size, _ in _chunks(data, start + 12, "big"):
        if name in (b"SSND", b"BODY"):
            extra = 8 + data.number(position, 4, "big") if name == b"SSND" else 0
            stop = _samples_end(data, position + extra, max(0, size - extra), start + 8 + outer, "big")
            # SoX leaves 0x7F000000 frames in the header: libsndfile counts those of SSND instead
            length = struct.pack(">I", min(stop - position, 0xFFFFFFFF))
            end = _file_end(data, stop, "big")
            return _patched(data, start, position + extra, end, position - 4, length)
    return _without_samples(data, start, start + 8 + outer)


def au_part(data: Content, start: int) -> Part:
    """Return an AU file; see :func:`riff_part`."""
    order: _Order = "big" if data.at(start, 1) == b"." else "little"
    position = start + data.number(start + 4, 4, order)
    stop = _samples_end(data, position, data.number(start + 8, 4, order), 0, order)
    length = min(stop - position, 0xFFFFFFFF).to_bytes(4, order)
    end = stop if data.at(stop, 4) == data.at(start, 4) else data.size
    return _patched(data, start, position, end, start + 8, length)


def caf_part(data: Content, start: int) -> Part:
    """Return a CAF file; see :func:`riff_part`."""
    position = start + 8
    while len(head := data.at(position, 12)) == 12:
        position, size = position + 12, int.from_bytes(head[4:], "big")
        if head[:4] == b"data":
            stop = _samples_end(data, position, size, 0, "big", size_bytes=8)
            return _patched(data, start, position, data.size, position - 8, struct.pack(">Q", stop - position))
        position += size
    if data.size < position:
        raise DamagedError(f"is cut off: it ends after {data.size:,} bytes, within its header")
    return Part(start, data.size)


def nist_part(data: Content, start: int) -> Part:
    """Return a NIST Sphere file.

    Raises:
        DamagedError: the file is cut off.
    """
    header = data.at(start, 4096)
    fields = {name: int(value) for name, value in re.findall(rb"^(\w+) -i (\d{1,15})\s", header, re.MULTILINE)}
    size = int(header[8:16]) if header[8:16].strip().isdigit() else 1024
    announced = fields.get(b"sample_count", 0) * fields.get(b"channel_count", 1) * fields.get(b"sample_n_bytes", 1)
    _samples_end(data, start + size, announced, 0)
    return Part(start, data.size)


def _chunks(data: Content, position: int, order: _Order) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yield name, first byte and size of each chunk, and whether all chunks so far begin at even positions."""
    padded = True
    while len(head := data.at(position, 8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], order)
        if not any(name):  # padding
            return
        yield name, position + 8, size, padded
        position += 8 + size
        if size % 2:  # some writers do not pad
            pad = data.at(position, 1) == b"\0" or not _CHUNK_NAME.fullmatch(data.at(position, 4))
            padded &= pad
            position += pad


def _samples_end(
    data: Content,
    position: int,
    announced: int,
    outer: int,
    order: _Order = "little",
    size_bytes: int = 4,
    header: int = 0,
) -> int:
    """Return where the samples end that begin at a position.

    Args:
        data: bytes of the file.
        position: first byte of the samples.
        announced: bytes of samples according to their own size.
        outer: end of the file according to its other size; 0 if it has none.
        order: order of bytes in the sizes of chunks.
        size_bytes: bytes of the size of a chunk.
        header: bytes in front of the samples, which some writers count as samples, all or but for eight, in both sizes.
    """
    there = max(0, data.size - position)
    if announced > there:
        counts_header = header > 0 < there and announced - there in (8, header - 8, header)
        if _is_placeholder(announced, position) or position < outer <= data.size or counts_header:
            return max(position, data.size)
        raise DamagedError(f"is cut off: its header announces {announced:,} bytes of samples, and {there:,} are there")
    end = position + announced
    rest = there - announced
    if not rest or (rest < 1 << 32 and _is_behind_samples(data, end, announced, order, size_bytes)):
        return end
    return data.size


def _is_placeholder(announced: int, position: int) -> bool:
    if any(abs(announced - number) <= _NEAR for number in _PLACEHOLDERS):
        return True
    # the round number may be that of the whole file, with or without its first eight bytes
    return announced >= _ROUND and any((announced + more) % _ROUND == 0 for more in (0, position, position - 8))


def _is_behind_samples(data: Content, end: int, announced: int, order: _Order, size_bytes: int) -> bool:
    """Return whether what follows the samples is something else: another chunk, a tag, padding, another file."""
    following = data.at(end, 4096)
    if announced and (not following.strip(b"\0") or len(following) == 1):
        return True
    for head in (following, following[1:]) if announced % 2 else (following,):
        if head.startswith(_TAGS) or head.startswith(_KNOWN_CHUNKS):
            return True
        size = int.from_bytes(head[4 : 4 + size_bytes], order)
        if _CHUNK_NAME.match(head) and len(head) >= 4 + size_bytes and end + size <= data.size:
            return True
    return False


def _file_end(data: Content, stop: int, order: _Order) -> int:
    """Return where a file ends whose samples end at ``stop``: behind the last chunk, where another file is joined."""
    while len(head := data.at(stop + stop % 2, 12)) == 12 and _CHUNK_NAME.match(head):
        if head[:4] in _FORMS and head[8:] in _FORMS[head[:4]]:
            return stop + stop % 2
        stop += stop % 2 + 8 + int.from_bytes(head[4:8], order)
    return data.size


def _wav_header(form: bytes, size: int, order: _Order) -> bytes:
    """Return the header of a WAV file, of RF64 where the samples take more than 4 GB."""
    mark = ">" if order == "big" else "<"
    form += b"\0" * (len(form) % 2)
    head = b"WAVE", b"fmt " + struct.pack(mark + "I", len(form)) + form
    if size + len(form) + 28 < 1 << 32:
        content = b"".join((*head, b"data", struct.pack(mark + "I", size)))
        name = b"RIFX" if order == "big" else b"RIFF"
        return name + struct.pack(mark + "I", len(content) + size) + content
    frame_size = int.from_bytes(form[12:14], order) or 1
    lengths = struct.pack("<QQQI", size + len(form) + 64, size, size // frame_size, 0)
    content = b"".join((head[0], b"ds64", struct.pack("<I", 28), lengths, head[1], b"data\xff\xff\xff\xff"))
    return b"RF64\xff\xff\xff\xff" + content


def _patched(data: Content, start: int, samples: int, stop: int, position: int, size: bytes) -> Part:
    """Return a part with another size in its header where the one that is there is wrong."""
    if data.at(position, len(size)) == size:
        return Part(start, stop)
    header = data.at(start, samples - start)
    offset = position - start
    return Part(samples, stop, header[:offset] + size + header[offset + len(size) :])


def _without_samples(data: Content, start: int, outer: int) -> Part:
    """Return a file in which no samples were found: one that ends in its header, or that libsndfile rejects."""
    if outer > data.size and not _is_placeholder(outer, start):
        raise DamagedError(f"is cut off: its header announces {outer - start:,} bytes, and {data.size:,} are there")
    return Part(start, data.size)
