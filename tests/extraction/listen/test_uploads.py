import numpy as np
import pytest
import soundfile

from tse_refine.errors import InputError
from tse_refine.extraction.listen import uploads
from tse_refine.extraction.listen.uploads import Limits, read_upload


@pytest.mark.parametrize(("rate", "channels", "subtype"), [(44_100, 2, "PCM_16"), (8000, 1, "FLOAT")])
def test_a_file_is_read_at_its_own_level_rate_and_number_of_channels(noise, tmp_path, rate, channels, subtype):
    wave = noise(channels, 3000, level=1e-3 if subtype == "PCM_16" else 2.0)
    soundfile.write(tmp_path / "in.wav", wave.T, rate, subtype)
    sound = read_upload(tmp_path / "in.wav", Limits())
    assert (sound.name, sound.sample_rate, sound.sources) == ("in.wav", rate, {})
    np.testing.assert_allclose(sound.waveform, wave, atol=1 / 32768 if subtype == "PCM_16" else 0.0)


def _text(path):
    path.write_text("no sound")


def _not_finite(path):
    soundfile.write(path, np.array([0.1, np.nan, 0.1], np.float32), 8000, "FLOAT")


def _no_samples(path):
    soundfile.write(path, np.zeros(0, np.float32), 8000)


def _odd_rate(path):
    soundfile.write(path, np.zeros(100, np.float32), 1000)


def _long(path):
    soundfile.write(path, np.zeros(8000 * 4, np.float32), 8000)


def _large(path):
    soundfile.write(path, np.zeros(1_000_000, np.float32), 384_000, "PCM_16")


def _gone(path):
    pass


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_text, "cannot be read as sound"),
        (_not_finite, "not finite"),
        (_no_samples, "has no samples"),
        (_odd_rate, "the sample rate is 1000 Hz"),
        (_long, "is 0 min 4 s long; this page takes up to 1 MB and 0.05 minutes"),
        (_large, "has 1.9 MB; this page takes up to 1 MB"),
        (_gone, "cannot be read"),
    ],
)
def test_what_is_no_recording_is_refused_by_its_name_alone(tmp_path, write, said):
    path = tmp_path / "street.wav"
    write(path)
    with pytest.raises(InputError, match=said) as refusal:
        read_upload(path, Limits(megabytes=1, minutes=0.05))
    assert str(refusal.value).startswith("street.wav")
    assert str(tmp_path) not in str(refusal.value)


def test_a_small_file_that_would_fill_the_memory_is_refused_before_it_is_read(record, monkeypatch):
    monkeypatch.setattr(uploads, "_MOST_SAMPLES", 20_000)
    monkeypatch.setattr(uploads.Recording, "blocks", lambda self: pytest.fail("it was read"))
    with pytest.raises(InputError, match="fewer channels"):
        read_upload(record("wide.wav", channels=4), Limits())


@pytest.mark.parametrize("limits", [(0.0, 10.0), (50.0, -1.0), (float("nan"), 10.0), (float("inf"), 10.0)])
def test_limits_that_let_nothing_through_are_refused(limits):
    with pytest.raises(InputError, match=r"--max-(megabytes|minutes) is .*; a number above 0 is expected"):
        Limits(*limits)
