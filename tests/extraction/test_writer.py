import resource
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.sound_formats import FORMATS
from tse_refine.extraction.writer import writing


def write_blocks(
    path: Path, blocks: Iterable[torch.Tensor], name: str = "wav", channels: int = 1, overwrite: bool = False
) -> float:
    """Write blocks ``[channels, samples]`` and return by how many dB they were scaled."""
    with writing(path, FORMATS[name], 8000, channels, overwrite) as writer:
        for block in blocks:
            writer.write(block)
        writer.finish(writer.peak)
    return writer.gain_db


def write(path: Path, sound: np.ndarray, name: str = "wav") -> float:
    """Write a sound ``[channels, samples]`` in blocks."""
    return write_blocks(path, torch.from_numpy(sound).split(700, dim=-1), name, channels=len(sound))


@contextmanager
def full_disk(num_bytes: int):
    """Let no file grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["wav", "flac", "w64"])
def test_blocks_are_written_as_they_are(tmp_path, noise, name):
    sound = noise(2, 5001, level=1e-4)  # near-silence stays what it is
    assert write(tmp_path / "out", sound, name) == 0.0
    found, rate = soundfile.read(tmp_path / "out", dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(found.T, sound, atol=0 if name != "flac" else 2**-23)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_would_be_clipped_is_scaled_once_and_as_a_whole(tmp_path, noise):
    sound = noise(1, 5001)
    sound[0, 4000] = 2.0
    assert write(tmp_path / "out.flac", sound, "flac") == pytest.approx(-6.02, abs=0.01)
    found, _ = soundfile.read(tmp_path / "out.flac", dtype="float32")
    np.testing.assert_allclose(found, sound[0] / 2.0, atol=2**-22)
    assert write(tmp_path / "out.wav", sound, "wav") == 0.0  # floats need no scaling
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.wav", dtype="float32")[0], sound[0])


def test_full_scale_itself_is_not_scaled(tmp_path):
    assert write(tmp_path / "out.flac", np.array([[1.0, -1.0, 0.5]], np.float32), "flac") == 0.0


def test_an_older_file_is_kept_when_something_fails(tmp_path, noise):
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="channels"):  # in the second block, which has one too many
        write_blocks(path, [torch.zeros(1, 100), torch.zeros(2, 100)], overwrite=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_into_being_meanwhile_is_kept(tmp_path):
    path = tmp_path / "out.wav"

    def blocks():
        yield torch.zeros(1, 100)
        path.write_bytes(b"another's")

    with pytest.raises(InputError, match=r"out\.wav has come into being meanwhile"):
        write_blocks(path, blocks(), overwrite=False)
    assert path.read_bytes() == b"another's"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3", "aiff", "w64"])
@pytest.mark.parametrize("num_bytes", [10, 5000, 100_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, noise, name, num_bytes):
    sound = noise(1, 400_000)
    path = tmp_path / f"out.{name}"
    with full_disk(num_bytes), pytest.raises(InputError, match=rf"out\.{name} cannot be written \(.+\)\. Check"):
        write(path, sound, name)
    assert list(tmp_path.iterdir()) == []


def test_samples_that_were_lost_unnoticed_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(soundfile, "info", lambda path: SimpleNamespace(frames=7))
    with pytest.raises(InputError, match=r"out\.wav cannot be written \(7 samples arrived of 9\)"):
        write(tmp_path / "out.wav", np.zeros((1, 9), np.float32))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out\.wav cannot be written \(Not a directory|File exists\)"):
        write(tmp_path / "file" / "out.wav", np.zeros((1, 9), np.float32))


def test_any_name_that_the_system_takes_can_be_written(tmp_path):
    for name in ("a" * 251 + ".wav", "two\nlines.wav", "-x.wav", "\udcff.wav", "%s 'quoted' \"name\".wav", "口笛.wav"):
        write(tmp_path / name, np.zeros((1, 9), np.float32))
        assert (tmp_path / name).exists()
