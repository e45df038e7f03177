from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from tests.fixtures.disk import full_disk
from tse_refine.errors import InputError
from tse_refine.extraction.writer import FORMATS, fitting_format, writing


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("samples", [1, 100, 20_001])
def test_files_of_every_format_have_as_many_samples_as_were_written(tmp_path, noise, name, samples):
    sound_format = fitting_format(name, 8000, 2, samples, "in.wav")
    path = tmp_path / f"out.{name}"
    with soundfile.SoundFile(path, "w", 8000, 2, sound_format.encoding, format=sound_format.container) as file:
        file.write(noise(samples, 2))
    written, rate = soundfile.read(path)
    assert (len(written), rate) == (samples, 8000)


@pytest.mark.parametrize("name", ["wav", "flac", "aiff", "au", "caf", "w64", "rf64"])
@pytest.mark.parametrize("rate", [4000, 11_127, 65_535, 65_540, 384_000])
def test_lossless_formats_support_every_rate(tmp_path, noise, name, rate):
    sound_format = fitting_format(name, rate, 8, 50, "in.wav")
    sound = noise(50, 8)
    soundfile.write(tmp_path / "out", sound, rate, sound_format.encoding, format=sound_format.container)
    written, written_rate = soundfile.read(tmp_path / "out")
    assert written_rate == rate
    np.testing.assert_allclose(written, sound, atol=0 if sound_format.is_float else 2**-23)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "message"),
    [
        ("flac", 44_100, 9, "9 channels, but flac supports up to 8; use --format wav"),
        ("mp3", 44_100, 3, "3 channels, but mp3 supports up to 2"),
        ("mp3", 96_000, 2, "96000 Hz, but mp3 supports 8000, .* 48000; use --format wav or flac"),
        ("opus", 44_100, 2, "44100 Hz, but opus supports 8000"),
        ("ogg", 384_000, 1, "384000 Hz, but ogg supports up to 192000"),  # libsndfile would crash
        (
            "flac",
            300_001,
            1,
            "300001 Hz, but flac supports up to 65535, up to 655350 in steps of 10; use --format wav[.]",
        ),
        ("flac", 65_536, 1, "65536 Hz, but flac"),
        ("ogg", 300_001, 1, "300001 Hz, but ogg supports up to 192000; use --format wav[.]"),
    ],
)
def test_what_a_format_does_not_support_is_rejected(name, rate, channels, message):
    with pytest.raises(InputError, match=rf"in\.wav has .*{message}"):
        fitting_format(name, rate, channels, 100, "in.wav")


def test_beyond_four_gigabytes_wav_becomes_its_successor_and_others_are_rejected():
    longest = ((1 << 32) - (1 << 16)) // 8
    assert fitting_format("wav", 48_000, 2, longest, "in.wav").container == "WAV"
    assert fitting_format("wav", 48_000, 2, longest + 1, "in.wav").container == "RF64"
    assert fitting_format("w64", 48_000, 2, longest + 1, "in.wav").container == "W64"
    with pytest.raises(InputError, match=r"in\.wav is too long for aiff"):
        fitting_format("aiff", 48_000, 2, longest + 1, "in.wav")


def write_blocks(
    path: Path, blocks: Iterable[torch.Tensor], name: str = "wav", channels: int = 1, overwrite: bool = False
) -> float:
    """Write blocks ``[channels, samples]`` and return the gain by which they were scaled, dB."""
    with writing(path, FORMATS[name], 8000, channels, overwrite) as writer:
        for block in blocks:
            writer.write(block)
        writer.finish(writer.peak)
    return writer.gain_db


def write(path: Path, sound: np.ndarray, name: str = "wav") -> float:
    """Write a sound ``[channels, samples]`` in blocks."""
    return write_blocks(path, torch.from_numpy(sound).split(700, dim=-1), name, channels=len(sound))


@pytest.mark.parametrize("name", ["wav", "flac", "w64"])
def test_blocks_are_written_as_they_are(tmp_path, noise, name):
    sound = noise(2, 5001, level=1e-4)  # near-silence stays what it is
    assert write(tmp_path / "out", sound, name) == 0.0
    written, rate = soundfile.read(tmp_path / "out", dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(written.T, sound, atol=0 if name != "flac" else 2**-23)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_would_be_clipped_is_scaled_as_a_whole(tmp_path, noise):
    sound = noise(1, 5001)
    sound[0, 4000] = 2.0
    assert write(tmp_path / "out.flac", sound, "flac") == pytest.approx(-6.02, abs=0.01)
    written, _ = soundfile.read(tmp_path / "out.flac", dtype="float32")
    np.testing.assert_allclose(written, sound[0] / 2.0, atol=2**-22)
    assert write(tmp_path / "out.wav", sound, "wav") == 0.0  # floats need no scaling
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav", dtype="float32")[0], sound[0])


def test_full_scale_itself_is_not_scaled(tmp_path):
    assert write(tmp_path / "out.flac", np.array([[1.0, -1.0, 0.5]], np.float32), "flac") == 0.0


def test_an_existing_file_is_kept_after_an_error(tmp_path, noise):
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="channels"):  # in the second block, which has one too many
        write_blocks(path, [torch.zeros(1, 100), torch.zeros(2, 100)], overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_was_created_while_extracting_is_kept(tmp_path):
    path = tmp_path / "out.wav"

    def blocks():
        yield torch.zeros(1, 100)
        path.write_bytes(b"another's")

    with pytest.raises(InputError, match=r"out\.wav was created while extracting and is kept"):
        write_blocks(path, blocks(), overwrite=False)
    assert path.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3", "aiff", "w64"])
@pytest.mark.parametrize("num_bytes", [10, 5000, 100_000])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, noise, name, num_bytes):
    sound = noise(1, 400_000)
    path = tmp_path / f"out.{name}"
    with full_disk(num_bytes), pytest.raises(InputError, match=rf"out\.{name} cannot be written \(.+\)\. Check"):
        write(path, sound, name)
    assert list(tmp_path.iterdir()) == []


def test_lost_samples_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile, "info", lambda path: SimpleNamespace(frames=7))
    with pytest.raises(InputError, match=r"out\.wav cannot be written \(7 samples of 9 were written\)"):
        write(tmp_path / "out.wav", np.zeros((1, 9), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out\.wav cannot be written \(Not a directory|File exists\)"):
        write(tmp_path / "file" / "out.wav", np.zeros((1, 9), np.float32))


def test_any_name_that_the_system_allows_can_be_written(tmp_path):
    for name in ("a" * 251 + ".wav", "two\nlines.wav", "-x.wav", "\udcff.wav", "%s 'quoted' \"name\".wav", "口笛.wav"):
        write(tmp_path / name, np.zeros((1, 9), np.float32))
        assert (tmp_path / name).exists()
