from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchaudio.functional as audio_functional

from tse_refine.data.clip_bank import open_clip_bank
from tse_refine.data.corpus import Clip, Corpus
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import ClipPools, MixtureConfig, RecipeBook
from tse_refine.data.rendering import Renderer
from tse_refine.errors import InputError

RATE = 16_000


class Signals(Corpus):
    """Recordings given as arrays, all in the training split."""

    def __init__(self, signals: dict[str, np.ndarray]) -> None:
        self.signals = signals

    def clips(self):
        return [Clip(name, name.split("/")[0], "train", name) for name in self.signals]

    def read(self, clip):
        return self.signals[clip.name].astype(np.float32)[:, None], RATE

    def fingerprints(self, clips, cache_dir):
        return [str(hash(self.signals[clip.name].tobytes())) for clip in clips]


def noise(seconds: float, seed: int, low: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(round(seconds * RATE))


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    cache = tmp_path_factory.mktemp("bank")
    paused = np.zeros(20 * RATE)
    paused[15 * RATE : 16 * RATE] = noise(1.0, 99)  # one second of sound in twenty
    sounds = {
        f"class{label}/{number}": noise(2.0 + label + number, 10 * label + number)
        for label in range(6)
        for number in range(2)
    }
    sounds |= {"paused/0": paused, "short/0": noise(0.3, 50)}
    backgrounds = {"bg/long": noise(8.0, 60), "bg/short": noise(1.5, 61)}
    return (
        open_clip_bank(Signals(sounds), RATE, cache, False, "data.foregrounds", show_progress=False),
        open_clip_bank(Signals(backgrounds), RATE, cache, False, "data.backgrounds", show_progress=False),
    )


@pytest.fixture
def make_book(banks):
    def make(
        classes=tuple(f"class{label}" for label in range(6)),
        split="train",
        seed=0,
        queries=None,
        backgrounds=("bg/long",),
        **mixture,
    ):
        foregrounds, background_bank = banks
        names = [foregrounds.entry(clip).name for clip in range(len(foregrounds))]
        pools = ClipPools(
            [np.array([foregrounds.position(n) for n in names if n.startswith(label + "/")]) for label in classes],
            np.array([background_bank.position(name) for name in backgrounds]),
        )
        return RecipeBook(
            split, pools, foregrounds, background_bank, MixtureConfig(**mixture), queries or QueryConfig(), seed
        )

    return make


@pytest.fixture
def render(banks):
    def run(recipe, num_samples=6 * RATE):
        mixture, target = np.empty(num_samples, np.float32), np.empty(num_samples, np.float32)
        sources = np.empty((5, num_samples), np.float32)
        Renderer(*banks).render(recipe, mixture, target, sources)
        return mixture, target, sources

    return run


def lufs(signal: np.ndarray) -> float:
    return audio_functional.loudness(torch.from_numpy(signal)[None].double(), RATE).item()


def test_the_same_key_gives_the_same_recipe_and_any_other_another(make_book):
    recipe = make_book().draw(3, 7)
    assert make_book().draw(3, 7) == recipe
    others = [
        make_book().draw(4, 7),
        make_book().draw(3, 8),
        make_book(seed=1).draw(3, 7),
        make_book(split="val").draw(3, 7),
    ]
    for other in others:
        assert replace(other, split="train", epoch=3, index=7) != recipe


def test_events_are_distinct_uniform_in_number_and_inside_the_mixture(make_book):
    recipes = [make_book().draw(0, index) for index in range(300)]
    counts = Counter(len(recipe.events) for recipe in recipes)
    assert set(counts) == {3, 4, 5}
    assert min(counts.values()) > 65  # 100 expected, standard deviation 8
    for recipe in recipes:
        classes = [event.class_index for event in recipe.events]
        assert len(set(classes)) == len(classes)
        assert list(recipe.query_order[: len(classes)]) == classes
        for event in recipe.events:
            assert 0 <= event.onset <= 6 * RATE - event.length
            assert event.start % (RATE // 10) == 0
            assert 15.0 <= event.snr_db <= 25.0
            assert event.length <= 5 * RATE
    used = Counter(event.class_index for recipe in recipes for event in recipe.events)
    assert min(used.values()) > 0.8 * max(used.values())


def test_a_short_clip_is_used_whole(make_book):
    events = [e for i in range(5) for e in make_book(classes=("short",), num_events=(1,)).draw(0, i).events]
    assert all((event.start, event.length) == (0, round(0.3 * RATE)) for event in events)


def test_the_drawn_level_is_the_rendered_one(make_book, render):
    for index in range(8):
        recipe = make_book(background_db=-60.0).draw(0, index)
        for event in recipe.events:
            whole = replace(recipe, events=(event,), background=replace(recipe.background, gain=0.0))
            sound = render(whole)[0][event.onset : event.onset + event.length]
            # stored energies against BS.1770 of the excerpt: 0.1 dB; the fades take 0.05 dB of two seconds
            assert lufs(sound) == pytest.approx(-60.0 + event.snr_db, abs=0.15)
        background = render(replace(recipe, events=()))[0]
        assert lufs(background) == pytest.approx(-60.0, abs=0.1)


def test_levels_may_be_rms(make_book, render):
    recipe = make_book(level="rms").draw(0, 0)
    background = render(replace(recipe, events=()))[0]
    assert 10 * np.log10(np.mean(background**2)) == pytest.approx(-50.0, abs=0.1)


def test_mixture_is_the_sum_of_its_sources_and_its_background(make_book, render):
    for index in range(5):
        recipe = make_book().draw(0, index)
        mixture, target, sources = render(recipe)
        background = render(replace(recipe, events=()))[0]
        np.testing.assert_allclose(mixture, sources.sum(0) + background, atol=1e-6)
        asked = [event.class_index in recipe.query for event in recipe.events]
        np.testing.assert_allclose(target, sources[: len(asked)][asked].sum(0), atol=1e-6)


def test_a_peak_above_one_scales_everything_together(make_book, render):
    soft, loud = (make_book(background_db=level).draw(0, 2) for level in (-60.0, -20.0))
    quiet, clipped = render(soft), render(loud)
    assert np.abs(clipped[0]).max() == pytest.approx(1.0, abs=1e-6)
    ratio = np.abs(clipped[0]).max() / np.abs(quiet[0]).max()
    for one, other in zip(quiet, clipped, strict=True):
        np.testing.assert_allclose(one * ratio, other, atol=1e-5)


def test_events_fade_in_and_out_over_ten_milliseconds(make_book, render, banks):
    recipe = make_book().draw(0, 0)
    event = recipe.events[0]
    sound = render(replace(recipe, events=(event,)))[2][0][event.onset : event.onset + event.length]
    raw = banks[0].samples(event.clip)[event.start : event.start + event.length] * banks[0].entry(event.clip).scale
    raw = raw * event.gain
    fade = RATE // 100
    ramp = np.sin(np.pi / 2 * np.arange(fade) / fade)
    np.testing.assert_allclose(sound[:fade], raw[:fade] * ramp, atol=1e-6)
    np.testing.assert_allclose(sound[-fade:], raw[-fade:] * ramp[::-1], atol=1e-6)
    np.testing.assert_allclose(sound[fade:-fade], raw[fade:-fade], atol=1e-6)


def test_a_short_background_is_tiled(make_book, render):
    recipe = make_book(backgrounds=("bg/short",)).draw(0, 0)
    background = render(replace(recipe, events=()))[0]
    period = round(1.5 * RATE)
    np.testing.assert_array_equal(background[period:], background[:-period])
    assert lufs(background) == pytest.approx(-50.0, abs=0.1)


def test_the_pause_of_a_clip_is_never_the_excerpt(make_book):
    book = make_book(classes=("paused",), num_events=(1,))
    for index in range(40):
        (event,) = book.draw(0, index).events
        assert event.start < 16 * RATE
        assert event.start + event.length > 15 * RATE


def test_options_of_queries_leave_the_mixture_alone(make_book):
    plain, other = make_book().draw(0, 1), make_book(queries=QueryConfig((1,), 1.0)).draw(0, 1)
    assert (plain.background, set(plain.events)) == (other.background, set(other.events))
    assert not set(other.query) & {event.class_index for event in other.events}


@pytest.mark.parametrize(
    "options",
    [
        {"num_events": (0,)},
        {"num_events": (7,)},
        {"event_seconds": (0.1, 2.0)},
        {"event_seconds": (3.0, 7.0)},
        {"snr_db": (5.0, 0.0)},
    ],
)
def test_impossible_mixtures_are_refused_by_option(options):
    with pytest.raises(InputError, match=f"data.mixture.{next(iter(options))}"):
        MixtureConfig(**options).check(num_classes=6)


def test_impossible_queries_are_refused_by_option():
    for config, option in (
        (QueryConfig((4,)), "target_counts"),
        (QueryConfig(()), "target_counts"),
        (QueryConfig((1,), 1.5), "inactive_sample_rate"),
        (QueryConfig((3,), 0.5), "inactive_sample_rate"),
    ):
        with pytest.raises(InputError, match=f"data.queries.{option}"):
            config.check(num_events=(3, 4), num_classes=6)
