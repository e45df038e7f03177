import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tse_refine.data.audio.reading import RecordingError, open_audio
from tse_refine.data.bank.decoding import UnusableRecordingError, decode
from tse_refine.data.corpora.base import Clip, FileCorpus
from tse_refine.errors import InputError
from tse_refine.extraction.listen.sounds import Limits, read_upload
from tse_refine.extraction.recordings import Recording

RATE = 8000
NOISE = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
PCM = (32767 * NOISE).astype("<i2").tobytes()
SIZE = len(PCM)
WAV_HEADER = 44


def encoded(container: str, subtype: str, sound: np.ndarray = NOISE, **options) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, sound, RATE, subtype, format=container, **options)
    return file.getvalue()


def wav(outer: int, size: int, samples: bytes = PCM, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A WAV file with any sizes in its header, and chunks before and behind the samples."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"RIFF" + struct.pack("<I", outer & 0xFFFFFFFF) + b"WAVE" + form + before
    return head + b"data" + struct.pack("<I", size) + samples + behind


def rf64(outer: int, size: int, samples: bytes = PCM, kind: bytes = b"RF64") -> bytes:
    content = wav(0xFFFFFFFF, 0xFFFFFFFF, samples)
    return kind + content[4:12] + b"ds64" + struct.pack("<IQQQI", 28, outer, size, size // 2, 0) + content[12:]


def aiff(outer: int, size: int, frames: int, samples: bytes = PCM, behind: bytes = b"") -> bytes:
    common = struct.pack(">hIh", 1, frames, 16) + b"\x40\x0b\xfa\x00\0\0\0\0\0\0"  # 8000 Hz as an 80-bit float
    chunks = b"COMM" + struct.pack(">I", 18) + common + b"SSND" + struct.pack(">III", size, 0, 0)
    return b"FORM" + struct.pack(">I", outer) + b"AIFF" + chunks + samples + behind


def w64(outer: int, size: int, samples: bytes = PCM) -> bytes:
    guid = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    riff = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00" + struct.pack("<q", outer) + b"wave" + guid
    form = b"fmt " + guid + struct.pack("<qHHIIHH", 40, 1, 1, RATE, 2 * RATE, 2, 16)
    return riff + form + b"data" + guid + struct.pack("<q", size) + samples


def caf(size: int, samples: bytes = PCM) -> bytes:
    form = struct.pack(">qd4sIIIII", 32, RATE, b"lpcm", 2, 2, 1, 1, 16)
    return b"caff\0\1\0\0desc" + form + b"data" + struct.pack(">qI", size, 0) + samples


def flac(total: int, content: bytes | None = None) -> bytes:
    """A FLAC file whose header gives a number of samples, 0 for an unknown one."""
    content = bytearray(content or encoded("FLAC", "PCM_16"))
    content[21] = content[21] & 0xF0 | total >> 32
    content[22:26] = struct.pack(">I", total & 0xFFFFFFFF)
    return bytes(content)


def fading() -> np.ndarray:
    """Sound whose first half needs many more bits than the second."""
    return np.tile(NOISE, 4) * np.repeat([3, 1e-4], 2 * RATE)


def mp3(sound: np.ndarray = NOISE, table: bool = True) -> bytes:
    content = encoded("MP3", "MPEG_LAYER_III", sound, bitrate_mode="VARIABLE")
    return content if table else content[content.index(content[:2], 100) :]  # its first frame is the table


INFO = b"LIST" + struct.pack("<I", 12) + b"INFOISFT\0\0\0\0"
ODD = b"note" + struct.pack("<I", 3) + b"abc"
FULL = WAV_HEADER - 8 + SIZE

WHOLE = {
    "right.wav": wav(FULL, SIZE),
    "sox_to_a_pipe.wav": wav(0x7FFFF024, 0x7FFFF000),
    "round.wav": wav(2_000_000_036, 2_000_000_000),
    "round_file.wav": wav(2_000_000_000 - 8, 2_000_000_000 - WAV_HEADER),
    "largest_signed.wav": wav(0x7FFFFFFF, 0x7FFFFFFF - 36),
    "one_more.wav": wav(0x80000024, 0x80000000),
    "largest.wav": wav(0xFFFFFFFF, 0xFFFFFFFF),
    "largest_with_header.wav": wav(0xFFFFFFFF, 0xFFFFFFFF - 36),
    "not_closed.wav": wav(0, 0),
    "not_closed_after_its_header.wav": wav(36, 0),
    "not_closed_since_a_while.wav": wav(36 + 4000, 4000),
    "riff_counts_itself.wav": wav(FULL + 8, SIZE),
    "data_counts_itself.wav": wav(FULL, SIZE + 8),
    "data_counts_the_file.wav": wav(FULL, SIZE + WAV_HEADER),
    "both_count_the_file.wav": wav(FULL + WAV_HEADER, SIZE + WAV_HEADER),
    "both_count_themselves.wav": wav(FULL + 8, SIZE + 8),
    "data_counts_too_few.wav": wav(FULL, SIZE - 8),
    "last_chunk_lost.wav": wav(FULL + 1000, SIZE),
    "last_chunk_cut.wav": wav(FULL + len(INFO), SIZE, behind=INFO[:15]),
    "info_behind.wav": wav(FULL + len(INFO), SIZE, behind=INFO),
    "info_before.wav": wav(FULL + len(INFO), SIZE, before=INFO),
    "id3v1_behind.wav": wav(FULL, SIZE, behind=b"TAG".ljust(128, b"x")),
    "padded_chunk.wav": wav(FULL + 12, SIZE, before=ODD + b"\0"),
    "chunk_without_padding.wav": wav(FULL + 11, SIZE, before=ODD),
    "filled_with_zeros.wav": wav(FULL, SIZE, behind=bytes(500)),
    "rf64": rf64(FULL + 36, SIZE),
    "rf64_to_a_pipe": rf64(0, 0),
    "rf64_to_a_pipe_with_largest": rf64((1 << 64) - 1, (1 << 64) - 1),
    "bw64": rf64(FULL + 36, SIZE, kind=b"BW64"),
    "extensible.wav": encoded("WAVEX", "PCM_16"),
    "big_endian.wav": encoded("WAV", "PCM_16", endian="BIG"),
    "right.w64": w64(104 + SIZE, 24 + SIZE),
    "pipe.w64": w64(-1, -1),
    "right.aiff": aiff(46 + SIZE, 8 + SIZE, RATE, PCM),
    "ffmpeg_to_a_pipe.aiff": aiff(0, 0, 0),
    "sox_to_a_pipe.aiff": aiff(0x7F000036, 0x7F000008, 0x3F800000),
    "data_counts_too_much.aiff": aiff(46 + SIZE, 16 + SIZE, RATE),
    "pipe.au": b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, RATE, 1) + PCM,
    "right.caf": caf(4 + SIZE),
    "pipe.caf": caf(-1),
    "right.flac": encoded("FLAC", "PCM_16"),
    "pipe.flac": flac(0),
    "tagged_pipe.flac": flac(0) + b"TAG".ljust(128, b"\0"),
    "right.ogg": encoded("OGG", "VORBIS"),
    "right.opus": encoded("OGG", "OPUS"),
    "right.mp3": mp3(),
}


def read(path: Path) -> np.ndarray:
    with open_audio(path) as audio:
        samples = audio.read(0, 1 << 30)
        assert samples.shape == (audio.samples, audio.channels)
        return samples


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_whole_is_read_whole(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(WHOLE[name])
    assert len(read(path)) == RATE


CUT = {
    "half.wav": WHOLE["right.wav"][: WAV_HEADER + SIZE // 2],
    "one_byte.wav": WHOLE["right.wav"][:-1],
    "ten_bytes.wav": WHOLE["right.wav"][:-10],
    "header.wav": WHOLE["right.wav"][:30],
    "no_samples.wav": WHOLE["right.wav"][:WAV_HEADER],
    "unknown_file_size.wav": wav(0, SIZE, PCM[:-100]),
    "extensible.wav": WHOLE["extensible.wav"][:-10],
    "big_endian.wav": WHOLE["big_endian.wav"][:-10],
    "rf64": WHOLE["rf64"][:-10],
    "w64": WHOLE["right.w64"][:-10],
    "aiff": WHOLE["right.aiff"][:-10],
    "au": encoded("AU", "PCM_16")[:-10],
    "caf": WHOLE["right.caf"][:-10],
    "svx": encoded("SVX", "PCM_16")[:-10],
    "nist": encoded("NIST", "PCM_16")[:-10],
    "voc": encoded("VOC", "PCM_16")[:-10],
    "flac": WHOLE["right.flac"][:-10],
    "flac_of_unknown_length": WHOLE["pipe.flac"][:-10],
    "ogg": WHOLE["right.ogg"][:-10],
    "ogg_without_its_last_page": WHOLE["right.ogg"][: WHOLE["right.ogg"].rindex(b"OggS")],
    "opus": WHOLE["right.opus"][:-10],
    "mp3": WHOLE["right.mp3"][:-10],
    "mp3_of_fewer_frames": mp3(fading())[: mp3(fading()).rindex(WHOLE["right.mp3"][:2])],
    "mp3_without_table": mp3(table=False)[:-10],
}


@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_off_is_rejected(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(CUT[name])
    with pytest.raises(RecordingError, match=rf"{name} is cut off"):
        read(path)


class Folder(FileCorpus):
    def clips(self):
        return []


@pytest.mark.parametrize(("name", "whole"), [("sox_to_a_pipe.wav", True), ("pipe.flac", True), ("aiff", False)])
def test_corpora_extraction_and_the_page_share_the_rule(tmp_path, name, whole):
    path = tmp_path / name
    path.write_bytes(WHOLE[name] if whole else CUT[name])

    def decoded() -> int:
        return len(decode(Folder(str(tmp_path)), Clip(name, "x", "train", name), RATE).samples)

    def extracted() -> int:
        recording = Recording.open(path)
        assert sum(block.shape[-1] for block in recording.blocks()) == recording.samples
        return recording.samples

    for count in (decoded, extracted, lambda: read_upload(path, Limits()).waveform.shape[-1]):
        if whole:
            assert count() == RATE
        else:
            with pytest.raises(
                (UnusableRecordingError, InputError), match="is cut off: its header announces 16,000 by"
            ):
                count()


@pytest.mark.parametrize(
    "name", ["right.ogg", "right.opus", "right.flac", "pipe.flac", "right.mp3", "right.wav", "right.aiff"]
)
def test_joined_files_are_read_one_after_the_other(tmp_path, name):
    (tmp_path / "one").write_bytes(WHOLE[name])
    one = read(tmp_path / "one")
    (tmp_path / "three").write_bytes(3 * WHOLE[name])
    np.testing.assert_array_equal(read(tmp_path / "three"), np.tile(one, (3, 1)))
    with open_audio(tmp_path / "three") as audio:
        np.testing.assert_allclose(
            audio.read(RATE - 50, RATE + 50), np.tile(one, (3, 1))[RATE - 50 : RATE + 50], atol=1e-6
        )


def test_a_header_that_points_to_itself_ends(tmp_path):
    (tmp_path / "loop.au").write_bytes(b".snd" + struct.pack(">IIIII", 0, 0, 3, RATE, 1) + PCM)
    with suppress(RecordingError):
        read(tmp_path / "loop.au")


def test_joined_files_of_different_rates_are_rejected(tmp_path):
    other = io.BytesIO()
    soundfile.write(other, NOISE, 2 * RATE, "VORBIS", format="OGG")
    (tmp_path / "joined.ogg").write_bytes(WHOLE["right.ogg"] + other.getvalue())
    with pytest.raises(RecordingError, match="is joined from files of different sample rates"):
        read(tmp_path / "joined.ogg")


def test_an_mp3_file_without_its_table_is_as_long_as_its_frames(tmp_path):
    (tmp_path / "with.mp3").write_bytes(mp3(fading()))
    (tmp_path / "without.mp3").write_bytes(mp3(fading(), table=False))
    assert soundfile.info(tmp_path / "without.mp3").frames < 3 * RATE  # as the rate of its first frame lets expect
    whole, samples = read(tmp_path / "with.mp3"), read(tmp_path / "without.mp3")
    assert len(whole) == 4 * RATE < len(samples)
    assert len(samples) % 576 == 0  # delay and padding of the encoder are known from the table alone
    delay = len(samples) - len(whole)
    shifts = [np.abs(samples[shift : shift + len(whole)] - whole).max() for shift in range(delay)]
    assert min(shifts) < 1e-6


def test_a_missing_and_a_changed_ogg_page_are_named(tmp_path):
    content = encoded("OGG", "VORBIS", np.tile(NOISE, 20))
    last = content.rindex(b"OggS")
    previous = content.rindex(b"OggS", 0, last)
    (tmp_path / "hole.ogg").write_bytes(content[:previous] + content[last:])
    with pytest.raises(RecordingError, match=r"hole\.ogg is damaged: page \d+ of its Ogg stream is missing"):
        read(tmp_path / "hole.ogg")
    changed = bytearray(content)
    changed[previous + 200] ^= 1
    (tmp_path / "changed.ogg").write_bytes(changed)
    with pytest.raises(RecordingError, match=rf"changed\.ogg is damaged: the Ogg page at byte {previous:,}"):
        read(tmp_path / "changed.ogg")


def test_a_wav_file_longer_than_its_sizes_can_tell_is_read_whole(tmp_path):
    path = tmp_path / "long.wav"
    path.write_bytes(wav(FULL, SIZE))
    with open(path, "ab") as file:  # the sizes are those of the file modulo 4 GB; the rest takes no space on the disk
        file.truncate(WAV_HEADER + SIZE + (1 << 32))
    with open_audio(path) as audio:
        assert audio.samples == RATE + (1 << 31)
        assert audio.read(RATE + (1 << 31) - 10, 1 << 40).shape == (10, 1)


@pytest.mark.parametrize("name", ["fading.mp3", "noise.ogg", "gsm.wav", "chain.ogg"])
def test_any_part_is_the_same_as_in_the_whole(tmp_path, name):
    path = tmp_path / name
    contents = {"fading.mp3": mp3(fading()), "noise.ogg": encoded("OGG", "VORBIS", np.tile(NOISE, 20))}
    path.write_bytes({**contents, "gsm.wav": encoded("WAV", "GSM610"), "chain.ogg": 2 * WHOLE["right.ogg"]}[name])
    whole = read(path)
    with open_audio(path) as audio:
        in_blocks = [audio.read(start, start + 777) for start in range(0, audio.samples, 777)]
        np.testing.assert_array_equal(np.concatenate(in_blocks), whole)
        for start in (audio.samples // 2, audio.samples - 900, 1234):
            np.testing.assert_allclose(audio.read(start, start + 800), whole[start : start + 800], atol=1e-6)
