"""The sounds of the synthetic corpus: each function draws one instance of a class with its own parameters.

Every synthesiser takes a random generator and a duration in seconds and returns ``[samples]`` at 16 kHz; the level is
free, since the corpus normalises peaks. The classes differ the way everyday sounds do: harmonic glides, inharmonic
decays, noise bursts, modulated noise, clicks, chirps, chords. Many share a frequency range (bird, cricket and bell;
dog, siren and chord; rain and applause; motor and knock), so that telling them apart takes more than a filter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SAMPLE_RATE = 16_000  # Hz

Rng = np.random.Generator


def alarm(rng: Rng, seconds: float) -> np.ndarray:
    """Beeps of one or two alternating pitches with square-wave harmonics."""
    pitches = rng.uniform(700.0, 1800.0) * np.array([1.0, rng.choice([1.0, 1.26, 1.5])])
    period, duty = rng.uniform(0.15, 0.6), rng.uniform(0.4, 0.7)
    time = _time(seconds)
    beep = np.floor(time / period).astype(int)
    phase = _phase(pitches[beep % 2])
    tone = sum(np.sin(k * phase) / k for k in (1, 3, 5))
    return tone * _smooth((time / period) % 1.0 < duty, 0.004)


def applause(rng: Rng, seconds: float) -> np.ndarray:
    """Many hand claps: short bursts of band noise at random times."""
    sound = np.zeros(_samples(seconds))
    for onset in rng.uniform(0.0, seconds, rng.poisson(rng.uniform(25.0, 90.0) * seconds)):
        clap = rng.standard_normal(_samples(0.03)) * _decay(0.03, rng.uniform(0.004, 0.012))
        _add(sound, clap * rng.uniform(0.2, 1.0), onset)
    return _band(sound, rng.uniform(400.0, 900.0), rng.uniform(2500.0, 5000.0))


def bell(rng: Rng, seconds: float) -> np.ndarray:
    """Strokes on a bell: inharmonic partials, the higher the shorter."""
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.53, 3.01, 4.1]) * rng.uniform(0.985, 1.015, 8)
    pitch, decay = rng.uniform(500.0, 1400.0), rng.uniform(0.4, 1.5)
    levels = rng.uniform(0.3, 1.0, 8) / np.sqrt(ratios)
    sound = np.zeros(_samples(seconds))
    for onset in _onsets(rng, seconds, rng.uniform(0.5, 1.6), jitter=0.1):
        stroke = sum(
            level * np.sin(2 * np.pi * pitch * ratio * _time(2.0)) * _decay(2.0, decay / ratio)
            for level, ratio in zip(levels, ratios, strict=True)
        )
        _add(sound, stroke * rng.uniform(0.5, 1.0), onset)
    return sound


def bird(rng: Rng, seconds: float) -> np.ndarray:
    """Phrases of short chirps that sweep within 1.8 to 3.8 kHz."""
    sound = np.zeros(_samples(seconds))
    low, span = rng.uniform(1800.0, 2600.0), rng.uniform(400.0, 1200.0)
    length, rate = rng.uniform(0.05, 0.18), rng.uniform(3.0, 9.0)
    bend = rng.choice([-1.0, 1.0])
    for onset in _onsets(rng, seconds, 1.0 / rate, jitter=0.25):
        if rng.random() < 0.2:
            continue  # a breath between phrases
        sweep = np.linspace(0.0, 1.0, _samples(length))
        pitch = low + span * (0.5 + 0.5 * bend * np.cos(np.pi * sweep * rng.uniform(0.8, 2.2)))
        chirp = np.sin(_phase(pitch)) + 0.15 * np.sin(2 * _phase(pitch))
        _add(sound, chirp * np.hanning(len(sweep)) * rng.uniform(0.5, 1.0), onset)
    return sound


def chord(rng: Rng, seconds: float) -> np.ndarray:
    """A sustained chord of three or four harmonic notes with vibrato, as of an organ or accordion."""
    root = rng.uniform(160.0, 420.0)
    steps = rng.choice([[0, 4, 7, 12], [0, 3, 7, 12], [0, 5, 9, 12], [0, 4, 7, 10]])[: rng.integers(3, 5)]
    vibrato = 1.0 + rng.uniform(0.001, 0.006) * np.sin(2 * np.pi * rng.uniform(4.0, 7.0) * _time(seconds))
    tilt = rng.uniform(0.7, 1.6)
    sound = np.zeros(_samples(seconds))
    for step in steps:
        phase = _phase(root * 2.0 ** (step / 12) * vibrato) + rng.uniform(0.0, 2 * np.pi)
        sound += sum(np.sin(k * phase) / k**tilt for k in range(1, 8))
    return sound * (1.0 + rng.uniform(0.0, 0.4) * _slow_noise(rng, seconds, 2.0))


def clock(rng: Rng, seconds: float) -> np.ndarray:
    """Ticks, alternately of two timbres: clicks through a few resonances."""
    period = rng.uniform(0.2, 0.6)
    resonances = rng.uniform(1200.0, 5000.0, (2, 3))
    sound = np.zeros(_samples(seconds))
    for number, onset in enumerate(_onsets(rng, seconds, period, jitter=0.01)):
        tick = sum(
            np.sin(2 * np.pi * f * _time(0.06)) * _decay(0.06, rng.uniform(0.004, 0.007))
            for f in resonances[number % 2]
        )
        _add(sound, tick + 0.3 * rng.standard_normal(len(tick)) * _decay(0.06, 0.002), onset)
    return sound


def cricket(rng: Rng, seconds: float) -> np.ndarray:
    """A tone of 2.6 to 3.7 kHz in fast pulses, grouped into chirps."""
    time = _time(seconds)
    pitch = rng.uniform(2600.0, 3700.0) * (1.0 + 0.004 * _slow_noise(rng, seconds, 8.0))
    pulses = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(22.0, 48.0) * time)
    chirps = (time * rng.uniform(1.5, 4.0)) % 1.0 < rng.uniform(0.5, 0.9)
    return np.sin(_phase(pitch)) * pulses**1.5 * _smooth(chirps, 0.01)


def dog(rng: Rng, seconds: float) -> np.ndarray:
    """Barks: a falling harmonic glide with breath noise, shaped by two formants."""
    pitch, length = rng.uniform(260.0, 620.0), rng.uniform(0.12, 0.28)
    formants = rng.uniform(500.0, 900.0), rng.uniform(1300.0, 2200.0)
    sound = np.zeros(_samples(seconds))
    for onset in _onsets(rng, seconds, rng.uniform(0.35, 0.9), jitter=0.25):
        glide = pitch * np.linspace(1.25, 0.7, _samples(length)) * rng.uniform(0.9, 1.1)
        voice = sum(np.sin(k * _phase(glide)) / k for k in range(1, 12))
        bark = (voice + rng.uniform(0.3, 0.9) * rng.standard_normal(len(glide))) * np.hanning(len(glide)) ** 0.6
        _add(sound, bark * rng.uniform(0.6, 1.0), onset)
    return _band(sound, 0.6 * formants[0], 1.5 * formants[0]) + 0.7 * _band(sound, 0.8 * formants[1], 1.2 * formants[1])


def knock(rng: Rng, seconds: float) -> np.ndarray:
    """Knocks on wood in groups: low resonances that decay at once."""
    resonances, decay = rng.uniform(120.0, 700.0, 4), rng.uniform(0.015, 0.05)
    gap, group = rng.uniform(0.12, 0.25), int(rng.integers(2, 6))
    sound = np.zeros(_samples(seconds))
    for start in _onsets(rng, seconds, gap * group + rng.uniform(0.2, 0.7), jitter=0.15):
        for number in range(group):
            blow = sum(np.sin(2 * np.pi * f * _time(0.3) + i) * _decay(0.3, decay) for i, f in enumerate(resonances))
            blow[: _samples(0.01)] += rng.standard_normal(_samples(0.01)) * _decay(0.01, 0.002)
            _add(sound, blow * rng.uniform(0.6, 1.0), start + number * gap * rng.uniform(0.95, 1.05))
    return sound


def motor(rng: Rng, seconds: float) -> np.ndarray:
    """A combustion engine: a pulse train of 35 to 90 Hz through a body resonance, revving slowly."""
    rate = rng.uniform(35.0, 90.0) * (1.0 + rng.uniform(0.05, 0.25) * _slow_noise(rng, seconds, 1.0))
    phase = _phase(np.maximum(rate, 15.0))
    pulses = np.exp(-rng.uniform(4.0, 12.0) * (phase / (2 * np.pi) % 1.0))
    rough = pulses * (1.0 + 0.6 * rng.standard_normal(len(pulses)))
    return _band(rough, rng.uniform(60.0, 150.0), rng.uniform(700.0, 2000.0))


def rain(rng: Rng, seconds: float) -> np.ndarray:
    """Steady high noise with single drops on it."""
    hiss = _band(rng.standard_normal(_samples(seconds)), rng.uniform(800.0, 2000.0), rng.uniform(5000.0, 7500.0))
    drops = np.zeros(_samples(seconds))
    for onset in rng.uniform(0.0, seconds, rng.poisson(rng.uniform(5.0, 25.0) * seconds)):
        pitch = rng.uniform(1000.0, 4000.0)
        drop = np.sin(2 * np.pi * pitch * _time(0.03)) * _decay(0.03, rng.uniform(0.003, 0.008))
        _add(drops, drop * rng.uniform(0.2, 1.0), onset)
    return hiss / hiss.std() + rng.uniform(0.5, 2.0) * drops / max(drops.std(), 1e-6) * 0.3


def siren(rng: Rng, seconds: float) -> np.ndarray:
    """A harmonic tone that glides up and down between about 450 and 1500 Hz."""
    low = rng.uniform(450.0, 750.0)
    high = low * rng.uniform(1.5, 2.1)
    cycle = rng.uniform(0.25, 1.6) * _time(seconds) + rng.random()
    triangle = 2.0 * np.abs(cycle % 1.0 - 0.5)
    position = triangle if rng.random() < 0.5 else 0.5 - 0.5 * np.cos(2 * np.pi * cycle)
    phase = _phase(low * (high / low) ** position)
    return sum(np.sin(k * phase) / k ** rng.uniform(1.0, 1.8) for k in range(1, 6))


def wind(rng: Rng, seconds: float) -> np.ndarray:
    """Low noise whose level and colour wander."""
    noise = rng.standard_normal(_samples(seconds))
    calm, gust = _band(noise, 30.0, rng.uniform(150.0, 300.0)), _band(noise, 100.0, rng.uniform(500.0, 900.0))
    return calm / calm.std() + 0.5 * (1.0 + _slow_noise(rng, seconds, 0.8)) * gust / gust.std()


def ventilation(rng: Rng, seconds: float) -> np.ndarray:
    """Mains hum with harmonics under steady pink-like noise."""
    mains = rng.choice([50.0, 60.0])
    hum = sum(rng.uniform(0.2, 1.0) / k * np.sin(2 * np.pi * k * mains * _time(seconds)) for k in range(1, 7))
    noise = _coloured(rng, seconds, exponent=rng.uniform(0.7, 1.2))
    return rng.uniform(0.3, 1.0) * hum + noise / noise.std()


def traffic(rng: Rng, seconds: float) -> np.ndarray:
    """Brown-like noise with passing cars: slow swells of tyre noise."""
    rumble = _coloured(rng, seconds, exponent=rng.uniform(1.4, 2.0))
    tyres = _band(rng.standard_normal(_samples(seconds)), 300.0, rng.uniform(1500.0, 3000.0))
    swell = np.exp(0.8 * _slow_noise(rng, seconds, 0.5))
    return rumble / rumble.std() + rng.uniform(0.2, 0.6) * swell * tyres / tyres.std()


Synthesiser = Callable[[Rng, float], np.ndarray]
FOREGROUNDS: dict[str, Synthesiser] = {
    f.__name__: f for f in (alarm, applause, bell, bird, chord, clock, cricket, dog, knock, motor, rain, siren)
}
BACKGROUNDS: dict[str, Synthesiser] = {f.__name__: f for f in (traffic, ventilation, wind)}


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _time(seconds: float) -> np.ndarray:
    return np.arange(_samples(seconds)) / SAMPLE_RATE


def _phase(frequency: np.ndarray) -> np.ndarray:
    """Integrate a frequency in Hz, ``[samples]``, to a phase in radians."""
    return 2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE


def _decay(seconds: float, time_constant: float) -> np.ndarray:
    return np.exp(-_time(seconds) / time_constant)


def _add(sound: np.ndarray, event: np.ndarray, onset: float) -> None:
    """Add an event to a sound in place at an onset in seconds; what would stick out is cut."""
    start = _samples(onset)
    room = max(len(sound) - start, 0)
    sound[start : start + len(event)] += event[:room]


def _onsets(rng: Rng, seconds: float, period: float, jitter: float) -> list[float]:
    """Return times about ``period`` seconds apart, each moved by up to ``jitter`` periods, the first within one."""
    times = np.arange(rng.uniform(0.0, min(period, 0.5)), seconds, period)
    return [max(0.0, time + period * rng.uniform(-jitter, jitter)) for time in times]


def _smooth(gate: np.ndarray, seconds: float) -> np.ndarray:
    """Return a boolean gate with its edges rounded over some seconds, so that it does not click."""
    window = np.hanning(_samples(seconds) + 2)
    return np.convolve(gate.astype(float), window / window.sum(), mode="same")


def _spectrum_shaped(sound: np.ndarray, gain: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    frequency = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(sound) * gain(frequency), len(sound))


def _band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pass ``low`` to ``high`` Hz with slopes of about 24 dB an octave and zero phase."""
    return _spectrum_shaped(
        sound, lambda f: 1.0 / np.sqrt((1.0 + (low / np.maximum(f, 1.0)) ** 8) * (1.0 + (f / high) ** 8))
    )


def _coloured(rng: Rng, seconds: float, exponent: float) -> np.ndarray:
    """Return noise with power falling as ``1 / f**exponent`` above 30 Hz."""
    noise = rng.standard_normal(_samples(seconds))
    return _spectrum_shaped(noise, lambda f: (np.maximum(f, 30.0) / 30.0) ** (-exponent / 2) * (f > 10.0))


def _slow_noise(rng: Rng, seconds: float, rate: float) -> np.ndarray:
    """Return a smooth random curve, ``[samples]``, of unit variance that turns about ``rate`` times a second."""
    knots = rng.standard_normal(int(seconds * rate) + 3)
    position = _time(seconds) * rate
    left = position.astype(int)
    weight = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    return knots[left] * (1.0 - weight) + knots[left + 1] * weight
