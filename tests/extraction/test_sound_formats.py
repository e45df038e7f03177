import numpy as np
import pytest
import soundfile

from tse_refine.errors import InputError
from tse_refine.extraction.sound_formats import FORMATS, fitting_format


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("samples", [1, 100, 20_001])
def test_every_format_holds_as_many_samples_as_are_written(tmp_path, noise, name, samples):
    form = fitting_format(name, 8000, 2, samples)
    path = tmp_path / f"out.{name}"
    with soundfile.SoundFile(path, "w", 8000, 2, form.encoding, format=form.container) as file:
        file.write(noise(samples, 2))
    found, rate = soundfile.read(path)
    assert (len(found), rate) == (samples, 8000)


@pytest.mark.parametrize("name", ["wav", "flac", "aiff", "au", "caf", "w64", "rf64"])
@pytest.mark.parametrize("rate", [4000, 11_127, 65_535, 65_540, 384_000])
def test_lossless_formats_hold_every_rate(tmp_path, noise, name, rate):
    form = fitting_format(name, rate, 8, 50)
    sound = noise(50, 8)
    soundfile.write(tmp_path / "out", sound, rate, form.encoding, format=form.container)
    found, found_rate = soundfile.read(tmp_path / "out")
    assert found_rate == rate
    np.testing.assert_allclose(found, sound, atol=0 if form.is_float else 2**-23)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "said"),
    [
        ("flac", 44_100, 9, "9 channels, but flac holds up to 8; use --format wav"),
        ("mp3", 44_100, 3, "3 channels, but mp3 holds up to 2"),
        ("mp3", 96_000, 2, "96000 Hz, but mp3 holds 8000, .* 48000; use --format wav or flac"),
        ("opus", 44_100, 2, "44100 Hz, but opus holds 8000"),
        ("ogg", 384_000, 1, "384000 Hz, but ogg holds up to 192000"),  # libsndfile would crash
        ("flac", 300_001, 1, "300001 Hz, but flac holds up to 65535, up to 655350 in steps of 10; use --format wav[.]"),
        ("flac", 65_536, 1, "65536 Hz, but flac"),
        ("ogg", 300_001, 1, "300001 Hz, but ogg holds up to 192000; use --format wav[.]"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(name, rate, channels, said):
    with pytest.raises(InputError, match=said):
        fitting_format(name, rate, channels, 100)


def test_beyond_four_gigabytes_wav_becomes_its_successor_and_others_are_refused():
    longest = ((1 << 32) - (1 << 16)) // 8
    assert fitting_format("wav", 48_000, 2, longest).container == "WAV"
    assert fitting_format("wav", 48_000, 2, longest + 1).container == "RF64"
    assert fitting_format("w64", 48_000, 2, longest + 1).container == "W64"
    with pytest.raises(InputError, match="too long for aiff"):
        fitting_format("aiff", 48_000, 2, longest + 1)
