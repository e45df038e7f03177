import os
import struct

import numpy as np
import pytest
import soundfile
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.recordings import Recording, find_recordings


@pytest.mark.parametrize(
    ("name", "subtype"),
    [
        ("in.wav", "PCM_U8"),
        ("in.wav", "PCM_24"),
        ("in.wav", "DOUBLE"),
        ("in.flac", "PCM_16"),
        ("in.ogg", "VORBIS"),
        ("in.mp3", "MPEG_LAYER_III"),
        ("in.aiff", "PCM_32"),
        ("in.caf", "ALAC_16"),
        ("in.au", "ULAW"),
    ],
)
def test_the_blocks_of_a_file_of_any_format_are_the_recording(record, name, subtype):
    path = record(name, rate=8000, channels=2, samples=40_001, subtype=subtype)
    recording = Recording.open(path)
    assert (recording.sample_rate, recording.channels, recording.samples) == (8000, 2, 40_001)
    whole, _ = soundfile.read(path, dtype="float32")
    blocks = torch.cat(list(recording.blocks()), dim=-1).numpy().T
    assert blocks.shape == whole.shape
    # a lossy decoder returns slightly different samples when it is read in parts
    np.testing.assert_allclose(blocks, whole, atol=1e-3 if name.endswith("mp3") else 1e-7)


def wav_header(rate: int, channels: int, num_bytes: int) -> bytes:
    """Return a header that no program would write."""
    layout = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate * channels & 0xFFFFFFFF, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + num_bytes)
        + b"WAVEfmt \x10\0\0\0"
        + layout
        + b"data"
        + struct.pack("<I", num_bytes)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as sound"),
        (b"RIFF", "is cut off: its header announces 8 bytes, and 4 are there"),
        (b"# Field notes\n" * 100, "cannot be read as sound"),
        (wav_header(8000, 1, 0), "has no samples"),
        (wav_header(1, 1, 200) + bytes(200), "sample rate is 1 Hz; 4000 to 384000 Hz"),
        (wav_header(1_000_000, 1, 200) + bytes(200), "sample rate is 1000000 Hz"),
        (wav_header(8000, 100, 2000) + bytes(2000), "100 channels; up to 64"),
    ],
)
def test_a_file_that_is_not_a_recording_is_rejected(tmp_path, content, message):
    path = tmp_path / "in.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"in\.wav.*{message}"):
        Recording.open(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_rejected(tmp_path, value):
    sound = np.zeros(50_000, np.float32)
    sound[-1] = value
    soundfile.write(tmp_path / "in.wav", sound, 8000, "FLOAT")
    with pytest.raises(InputError, match=r"in\.wav has samples that are not finite"):
        list(Recording.open(tmp_path / "in.wav").blocks())


def test_a_truncated_file_is_rejected(record):
    path = record("in.flac", rate=8000, samples=80_000, subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(InputError, match=r"in\.flac is cut off or damaged: 80,000 samples are announced"):
        list(Recording.open(path).blocks())


def test_a_file_without_a_format_is_rejected(tmp_path):
    (tmp_path / "in.raw").write_bytes(bytes(4000))
    with pytest.raises(InputError, match=r"in\.raw cannot be read as sound"):
        Recording.open(tmp_path / "in.raw")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_without_permission_to_read_is_rejected(record):
    path = record()
    path.chmod(0)
    with pytest.raises(InputError, match=r"in\.wav cannot be read \(Permission denied\)"):
        Recording.open(path)


def test_folders_are_searched_for_sound_files_and_what_is_left_out_is_named(record, tmp_path, capsys):
    for name in ("set/b.wav", "set/a.flac", "set/deep/C.OGG", "set/.hidden.wav", "set/.cache/d.wav", "set/out/e.wav"):
        record(name, subtype=None)
    (tmp_path / "set" / "notes.txt").write_text("")
    (tmp_path / "set" / "deep" / "phone.m4a").write_text("")
    (tmp_path / "set" / "linked").symlink_to(tmp_path, target_is_directory=True)
    single = record("take 1.wav")
    recordings = find_recordings([tmp_path / "set", single], excluded=tmp_path / "set" / "out")
    assert [(path.relative_to(tmp_path).as_posix(), name.as_posix()) for path, name in recordings] == [
        ("set/a.flac", "a.flac"),
        ("set/b.wav", "b.wav"),
        ("set/deep/C.OGG", "deep/C.OGG"),
        ("take 1.wav", "take 1.wav"),
    ]
    text = capsys.readouterr().err
    assert "3 other files are not used: " in text
    for part in (f"1 .m4a ({tmp_path}/set/deep/phone.m4a)", f"1 linked folders ({tmp_path}/set/linked)", "1 .txt ("):
        assert part in text


def test_missing_files_and_folders_without_sound_files_are_rejected(tmp_path):
    with pytest.raises(InputError, match=r"gone\.wav does not exist"):
        find_recordings([tmp_path / "gone.wav"], tmp_path / "out")
    with pytest.raises(InputError, match="is a folder without sound files"):
        find_recordings([tmp_path], tmp_path / "out")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(InputError, match=r"pipe\.wav does not exist, or is not a file"):
        find_recordings([tmp_path / "pipe.wav"], tmp_path / "out")
