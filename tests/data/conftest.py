"""Fixtures of the data part: a corpus of given arrays, and recipes and renderings of tiny banks of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.bank.clip_bank import ClipBank
from tse_refine.data.corpora.base import Clip, Corpus
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import DrawnRecipes, MixtureConfig
from tse_refine.data.rendering import Renderer

RATE = 16_000


class Signals(Corpus):
    """Recordings given as arrays, named ``label/number``, all in the training split."""

    def __init__(self, signals: dict[str, np.ndarray], rate: int) -> None:
        self.signals = signals
        self.rate = rate

    def clips(self) -> list[Clip]:
        return [Clip(name, name.split("/")[0], "train", name) for name in self.signals]

    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        return self.signals[clip.name].astype(np.float32)[start:stop, None], self.rate

    def digests(self, clips: Sequence[Clip], cache_dir: Path) -> list[str]:
        return [str(hash(self.signals[clip.name].tobytes())) for clip in clips]


def noise(seconds: float, seed: int, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


def noise_within(pause: np.ndarray, begin: float, end: float) -> np.ndarray:
    """Put noise into a pause from one second to another."""
    sound = pause.copy()
    sound[round(begin * RATE) : round(end * RATE)] = noise(end - begin, 99, level=0.3)
    return sound


@pytest.fixture
def signals() -> type[Signals]:
    """The corpus of given arrays: ``signals({"dog/0": array}, rate)``."""
    return Signals


@pytest.fixture(scope="session")
def banks(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipBank, ClipBank]:
    """Six classes of two noises each, clips with pauses (``paused``, ``rare``, ``faint``, ``hum``), a ``short`` one."""
    cache = tmp_path_factory.mktemp("bank")
    sounds = {
        f"class{label}/{number}": noise(2.0 + label + number, 10 * label + number)
        for label in range(6)
        for number in range(2)
    }
    sounds["paused/0"] = noise_within(np.zeros(20 * RATE), 15.0, 16.0)
    sounds["rare/0"] = noise_within(np.zeros(60 * RATE), 42.0, 42.5)
    # a pause 45 dB under the sound, at -53 LUFS: audible by itself, and yet a pause
    sounds["faint/0"] = noise_within(noise(20.0, 51, level=0.3 * 10 ** (-45 / 20)), 15.0, 16.0)
    # a low hum cut off at its peak: the weighting filter rings for some milliseconds into the silence after it
    hum = np.zeros(20 * RATE)
    hum[3 * RATE : 4 * RATE] = 0.5 * np.cos(2 * np.pi * 60 * np.arange(RATE) / RATE)
    sounds["hum/0"] = hum
    sounds["short/0"] = noise(0.3, 50)
    backgrounds = {
        "bg/long": noise(8.0, 60),
        "bg/short": noise(1.5, 61),
        "bg/paused": noise_within(np.zeros(20 * RATE), 15.0, 16.0),
    }
    foregrounds, background_bank = (
        open_clip_bank(Signals(recordings, RATE), RATE, cache, False, "data.foregrounds")
        for recordings in (sounds, backgrounds)
    )
    return foregrounds, background_bank


@pytest.fixture
def make_recipes(banks: tuple[ClipBank, ClipBank]) -> Callable[..., DrawnRecipes]:
    """Return recipes drawn from the banks; further keywords are those of ``MixtureConfig``.

    Interferers are named clips of the foregrounds' bank, rooms are numbers of impulse responses.
    """

    def make(
        classes: Sequence[str] = tuple(f"class{label}" for label in range(6)),
        split: str = "train",
        seed: int = 0,
        queries: QueryConfig | None = None,
        backgrounds: Sequence[str] = ("bg/long",),
        interferers: Sequence[str] | None = None,
        rooms: Sequence[Sequence[int]] | None = None,
        **mixture: object,
    ) -> DrawnRecipes:
        foregrounds, background_bank = banks
        names = [foregrounds.entry(clip).name for clip in range(len(foregrounds))]
        return DrawnRecipes(
            split,
            [np.array([foregrounds.position(n) for n in names if n.startswith(label + "/")]) for label in classes],
            np.array([background_bank.position(name) for name in backgrounds]),
            foregrounds,
            background_bank,
            MixtureConfig(**mixture),
            queries or QueryConfig(),
            seed,
            None if interferers is None else np.array([foregrounds.position(name) for name in interferers]),
            None if interferers is None else foregrounds,
            None if rooms is None else [np.array(room) for room in rooms],
        )

    return make


@pytest.fixture
def render(banks: tuple[ClipBank, ClipBank]) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return mixture, target and sources of a recipe."""

    def run(recipe, num_samples: int = 6 * RATE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mixture, target = np.empty(num_samples, np.float32), np.empty(num_samples, np.float32)
        sources = np.empty((5, num_samples), np.float32)
        Renderer(*banks).render(recipe, mixture, target, sources)
        return mixture, target, sources

    return run
