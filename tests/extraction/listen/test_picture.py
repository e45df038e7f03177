import base64
from io import BytesIO

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from tse_refine.analysis.plotting import spectrogram_db
from tse_refine.extraction.listen.picture import Spectrograms, data_uri, gradient, level_image

RATE = 8000


def tone(frequency: float, seconds: float, level: float = 1.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def image(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_a_short_sound_has_the_spectrogram_of_the_figures(noise):
    wave = noise(samples=2 * RATE)
    levels = level_image(wave, RATE, RATE / 2)
    expected = spectrogram_db(wave[0], RATE)
    assert levels.shape == expected.shape
    # the ends differ: what the transform mirrors there is silence here
    np.testing.assert_allclose(levels[:, :-2], expected[:, :-2], atol=1e-3)


def test_a_long_sound_is_as_wide_as_a_screen_and_keeps_its_mean_level(noise):
    wave = noise(samples=60 * RATE)  # also longer than what is transformed at once
    levels = level_image(wave, RATE, RATE / 2)
    whole = spectrogram_db(wave[0], RATE)
    assert 512 < levels.shape[1] <= 1024
    mean = [10 * np.log10((10 ** (0.1 * part)).mean()) for part in (levels, whole)]
    assert mean[0] == pytest.approx(mean[1], abs=0.02)


def test_a_tone_is_at_its_time_and_frequency():
    wave = np.concatenate([tone(1000, 20), np.zeros(40 * RATE, np.float32)])
    levels = level_image(wave[None], RATE, 2000)
    row = levels.max(axis=1).argmax()
    assert row / (len(levels) - 1) == pytest.approx(1000 / 2000, abs=0.01)
    sounding = np.flatnonzero(levels.max(axis=0) > -20)
    assert sounding[[0, -1]] / levels.shape[1] == pytest.approx([0.0, 1 / 3], abs=0.01)


def test_channels_are_averaged_in_power_so_that_opposite_ones_do_not_vanish():
    left = tone(1000, 1)
    both = level_image(np.stack([left, -left]), RATE, RATE / 2)
    assert both.max() == pytest.approx(0.0, abs=0.05)
    alone = level_image(np.stack([left, 0 * left]), RATE, RATE / 2)
    assert alone.max() == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize("samples", [1, 100, 129, 5000])
def test_sounds_of_any_length_have_a_picture(noise, samples):
    assert np.isfinite(level_image(noise(samples=samples), RATE, RATE / 2)).all()


def test_the_same_level_has_the_same_colour_in_every_picture():
    loud = level_image(tone(1000, 1)[None], RATE, RATE / 2)
    soft = level_image(tone(1000, 1, level=0.1)[None], RATE, RATE / 2)
    pixels = [np.asarray(image(data_uri(levels, brightest_db=0.0))) for levels in (loud, soft)]
    assert pixels[0].max() == 255
    assert pixels[1].max() == pytest.approx(255 * (1 - 20 / 70), abs=1)  # 20 of 70 dB below
    assert np.argmax(pixels[0].max(axis=1)) == pytest.approx(0.75 * len(loud), abs=1)  # low frequencies are below


def test_colours_are_those_of_the_figures():
    viridis = colormaps["viridis"]
    picture = image(data_uri(np.linspace(-70, 0, 256)[None], brightest_db=0.0)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(picture)[0], viridis(np.arange(256), bytes=True)[:, :3])
    assert gradient().startswith("linear-gradient(to right, rgb(68 1 84), ")
    assert gradient().endswith("rgb(253 231 36))")


def test_all_images_of_a_sound_share_its_colour_scale(noise):
    wave = noise()
    spectrograms = Spectrograms(wave, RATE, RATE / 2)
    assert spectrograms.brightest_db == pytest.approx(level_image(wave, RATE, RATE / 2).max())
    pixels = np.asarray(image(spectrograms.image(wave)))
    assert pixels.max() == 255
    np.testing.assert_array_equal(np.asarray(image(spectrograms.image(wave.copy()))), pixels)
    assert np.asarray(image(spectrograms.image(0.1 * wave))).max() == pytest.approx(255 * (1 - 20 / 70), abs=1)


def test_the_scale_of_digital_silence_ends_below_16_bits():
    silence = np.zeros((1, RATE), np.float32)
    spectrograms = Spectrograms(silence, RATE, RATE / 2)
    assert spectrograms.brightest_db == -100.0
    assert not np.asarray(image(spectrograms.image(silence))).any()
