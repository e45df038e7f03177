"""Sound files of every format that has a rule of its own."""

from __future__ import annotations

import io
import tempfile
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import soundfile

from tse_refine.data.audio.reading import open_audio

MOST_SAMPLES = 1 << 20  # read of one file: a header may announce any number
_FORMATS = (
    *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "GSM610"), ("WAV", "MS_ADPCM"), ("WAVEX", "PCM_24")),
    *(("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "ULAW"), ("AU", "PCM_16")),
    *(("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("SVX", "PCM_16"), ("NIST", "PCM_16"), ("VOC", "PCM_16")),
    *(("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
)
_NUMBERS = (b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0", b"\0" * 8)


def seeds() -> list[bytes]:
    """Return one short file per format, and some that are joined or do not give their length."""
    sound = 0.1 * np.random.default_rng(0).standard_normal((1500, 2))
    files = []
    for container, subtype in _FORMATS:
        file = io.BytesIO()
        soundfile.write(
            file, sound[:, :1] if subtype == "GSM610" or container == "SVX" else sound, 8000, subtype, format=container
        )
        files.append(file.getvalue())
    flac, vorbis, mp3 = files[-4], files[-3], files[-1]
    unknown = flac[:21] + bytes([flac[21] & 0xF0, 0, 0, 0, 0]) + flac[26:]
    without_table = mp3[mp3.index(mp3[:2], 100) :]
    return [*files, unknown, without_table, 2 * vorbis, 2 * flac, files[0][:40] + b"\xff" * 4 + files[0][44:]]


def mutate(data: bytes, rng: Random) -> bytes:
    """Flip bits, write over, insert, remove, repeat, or cut off; half of the damages are in the first 200 bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        position = rng.randrange(min(len(data), rng.choice((200, 1 << 30))) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]
        elif kind == 1 and position < len(data):
            data = data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]
        elif kind == 2:
            number = rng.choice(_NUMBERS)
            data = data[:position] + number + data[position + len(number) :]
        elif kind == 3:
            data = data[:position] + bytes(rng.randrange(256) for _ in range(rng.randrange(9))) + data[position:]
        elif kind == 4:
            stop = min(len(data), position + rng.choice((1, 4, 100, 5000)))
            data = data[:position] + rng.choice((0, 2)) * data[position:stop] + data[stop:]
        else:
            data = data[:position]
    return data


@lru_cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="fuzz-audio-")  # goes with the process


def check(data: bytes) -> None:
    """Read a file in blocks, and from its middle.

    Raises:
        InputError: the file is rejected, as it may be.
    """
    path = Path(_folder().name) / "recording"
    path.write_bytes(data)
    with open_audio(path) as audio:
        assert 1 <= audio.channels <= 1024
        assert audio.samples >= 0
        position = 0
        while len(block := audio.read(position, position + 1000)):
            assert block.dtype == np.float32
            assert block.shape[1] == audio.channels
            position += len(block)
            if position * audio.channels > MOST_SAMPLES:
                return
        assert position <= audio.samples
        middle = audio.read(position // 2, position // 2 + 100)
        assert len(middle) == min(100, position - position // 2)
