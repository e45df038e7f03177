from dataclasses import replace

import numpy as np
import pytest
import torch
import torchaudio.functional as audio_functional

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora import SyntheticSounds
from tse_refine.data.corpora.impulse_responses import ImpulseResponses
from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import DrawnRecipes, MixtureConfig
from tse_refine.data.rendering import Renderer

RATE = 16_000  # of the banks in conftest.py


def lufs(signal: np.ndarray) -> float:
    return audio_functional.loudness(torch.from_numpy(signal)[None].double(), RATE).item()


def test_the_drawn_level_is_the_rendered_one(make_recipes, render):
    for index in range(8):
        recipe = make_recipes(background_db=-60.0).draw(0, index)
        for event in recipe.events:
            whole = replace(recipe, events=(event,), background=replace(recipe.background, gain=0.0))
            sound = render(whole)[0][event.onset : event.onset + event.length]
            # stored energies against BS.1770 of the excerpt: 0.1 dB; the fades take 0.05 dB of two seconds
            assert lufs(sound) == pytest.approx(-60.0 + event.snr_db, abs=0.15)
        background = render(replace(recipe, events=()))[0]
        assert lufs(background) == pytest.approx(-60.0, abs=0.1)


def test_levels_may_be_rms(make_recipes, render):
    recipe = replace(make_recipes(level="rms", background_db=-60.0).draw(0, 0), fade_seconds=(0.0, 0.0))
    background = render(replace(recipe, events=()))[0]
    assert 10 * np.log10(np.mean(background**2)) == pytest.approx(-60.0, abs=0.1)
    sources = render(recipe)[2]
    for event, source in zip(recipe.events, sources, strict=False):
        sound = source[event.onset : event.onset + event.length]
        # the level is of whole hops: what sticks out of the last one differs by chance
        assert 10 * np.log10(np.mean(sound**2)) == pytest.approx(-60.0 + event.snr_db, abs=0.1)


def test_mixture_is_the_sum_of_its_sources_and_its_background(make_recipes, render):
    for index in range(5):
        recipe = make_recipes().draw(0, index)
        mixture, target, sources = render(recipe)
        background = render(replace(recipe, events=()))[0]
        np.testing.assert_allclose(mixture, sources.sum(0) + background, atol=1e-6)
        queried = [event.class_index in recipe.query for event in recipe.events]
        np.testing.assert_allclose(target, sources[: len(queried)][queried].sum(0), atol=1e-6)


def test_a_peak_above_one_scales_everything_together(make_recipes, render):
    soft, loud = (make_recipes(background_db=level).draw(0, 2) for level in (-60.0, -20.0))
    quiet, clipped = render(soft), render(loud)
    assert np.abs(clipped[0]).max() == pytest.approx(1.0, abs=1e-6)
    ratio = np.abs(clipped[0]).max() / np.abs(quiet[0]).max()
    for signal, scaled in zip(quiet, clipped, strict=True):
        np.testing.assert_allclose(signal * ratio, scaled, atol=1e-5)


@pytest.mark.parametrize("wanted", [0.95, 1.05])
def test_the_peak_rule_begins_at_one(make_recipes, render, wanted):
    peak = np.abs(render(make_recipes(background_db=-60.0).draw(0, 2))[0]).max()
    level = -60.0 + 20 * np.log10(wanted / peak)
    louder = render(make_recipes(background_db=level).draw(0, 2))[0]
    assert np.abs(louder).max() == pytest.approx(min(wanted, 1.0), abs=1e-4)


def test_events_fade_in_and_out_over_ten_milliseconds(make_recipes, render, banks):
    recipe = make_recipes().draw(0, 0)
    event = recipe.events[0]
    sound = render(replace(recipe, events=(event,)))[2][0][event.onset : event.onset + event.length]
    raw = banks[0].samples(event.clip)[event.start : event.start + event.length] * banks[0].entry(event.clip).scale
    raw = raw * event.gain
    fade = RATE // 100
    ramp = np.sin(np.linspace(0.0, np.pi / 2, fade))
    np.testing.assert_allclose(sound[:fade], raw[:fade] * ramp, atol=1e-6)
    np.testing.assert_allclose(sound[-fade:], raw[-fade:] * ramp[::-1], atol=1e-6)
    np.testing.assert_allclose(sound[fade:-fade], raw[fade:-fade], atol=1e-6)


def test_a_short_background_is_tiled(make_recipes, render):
    recipe = make_recipes(backgrounds=("bg/short",)).draw(0, 0)
    background = render(replace(recipe, events=()))[0]
    period = round(1.5 * RATE)
    np.testing.assert_array_equal(background[period:], background[:-period])
    assert lufs(background) == pytest.approx(-50.0, abs=0.1)


@pytest.fixture(scope="module")
def synthetic_bank(tmp_path_factory):
    cache = tmp_path_factory.mktemp("synthetic")
    return open_clip_bank(SyntheticSounds(2, 0, 0), RATE, cache, False, "data.foregrounds")


def test_the_drawn_level_is_the_rendered_one_for_every_class_of_sound(synthetic_bank, banks):
    pools = [np.array([2 * label, 2 * label + 1]) for label in range(12)]
    mixture = MixtureConfig(num_events=(12,), event_seconds=(0.5, 5.0), background_db=-60.0)
    drawn = DrawnRecipes("train", pools, np.array([0]), synthetic_bank, banks[1], mixture, QueryConfig(), 0)
    renderer = Renderer(synthetic_bank, banks[1])
    sources = np.empty((12, drawn.num_samples), np.float32)
    for index in range(4):
        # fades may take a click at an excerpt's very edge
        recipe = replace(drawn.draw(0, index), fade_seconds=(0.0, 0.0))
        renderer.render(recipe, np.empty_like(sources[0]), np.empty_like(sources[0]), sources)
        for event, source in zip(recipe.events, sources, strict=True):
            sound = source[event.onset : event.onset + event.length]
            assert lufs(sound) == pytest.approx(-60.0 + event.snr_db, abs=0.2), drawn.foregrounds[event.class_index]


def test_rendering_without_sources_gives_the_same_mixture_and_target(make_recipes, render, banks):
    for level in (-50.0, -20.0):  # without and with the peak rule
        recipe = make_recipes(background_db=level).draw(0, 1)
        mixture, target, _ = render(recipe)
        alone = np.full((2, 6 * RATE), np.nan, np.float32)
        Renderer(*banks).render(recipe, alone[0], alone[1])
        np.testing.assert_array_equal(alone, [mixture, target])


def test_the_target_of_an_inactive_query_is_exact_silence(make_recipes, render):
    recipe = make_recipes(queries=QueryConfig((1,), 1.0)).draw(0, 0)
    _, target, sources = render(recipe)
    assert not target.any()
    assert np.all(np.abs(sources[: len(recipe.events)]).max(axis=1) > 0.0)
    assert not sources[len(recipe.events) :].any()


def test_a_mixture_without_events_is_its_background(make_recipes, render):
    drawn = make_recipes(num_events=(0, 3))
    recipe = next(recipe for index in range(20) if not (recipe := drawn.draw(0, index)).events)
    mixture, target, sources = render(recipe)
    assert lufs(mixture) == pytest.approx(-50.0, abs=0.1)
    assert not target.any()
    assert not sources.any()


@pytest.mark.parametrize("background_db", [-60.0, -20.0])  # without and with the peak rule
def test_interferers_are_in_the_mixture_and_in_no_source_or_target(make_recipes, render, banks, background_db):
    outside = ("class4/0", "class4/1", "class5/0")
    classes = ("class0", "class1", "class2", "class3")
    drawn = make_recipes(classes, interferers=outside, num_interferers=(2, 2), background_db=background_db)
    recipe = drawn.draw(0, 0)
    signals = np.full((2 + 4 + 2, 6 * RATE), np.nan, np.float32)
    mixture, target, sources, interferers = signals[0], signals[1], signals[2:6], signals[6:]
    Renderer(*banks, banks[0]).render(recipe, mixture, target, sources, interferers)
    assert (np.abs(mixture).max() > 0.999) == (background_db == -20.0)
    alone, own_target, own_sources = render(replace(recipe, interferers=(), peak_rule="none"))
    scale = np.abs(sources).max() / np.abs(own_sources).max()
    np.testing.assert_allclose(mixture, scale * alone + interferers.sum(0), atol=1e-5)
    np.testing.assert_allclose(target, scale * own_target, atol=1e-5)
    np.testing.assert_allclose(sources, scale * own_sources[:4], atol=1e-5)
    for event, sound in zip(recipe.interferers, interferers, strict=True):
        sounding = sound[event.onset : event.onset + event.length]
        assert lufs(sounding) == pytest.approx(background_db + event.snr_db + 20 * np.log10(scale), abs=0.15)
        assert np.count_nonzero(sound) <= event.length
    again = np.empty((2, 6 * RATE), np.float32)
    Renderer(*banks, banks[0]).render(recipe, *again)
    np.testing.assert_array_equal(again, [mixture, target])


@pytest.fixture
def response_bank(signals, tmp_path):
    """A direct sound alone after a delay, and an echo of half the amplitude after 250 ms, both soft."""
    echo = np.zeros(2 * RATE)
    echo[1000], echo[5000] = 1e-3, 5e-4
    corpus = ImpulseResponses(signals({"a/direct": np.eye(1, RATE, 800)[0] * 1e-4, "a/echo": echo}, RATE))
    return open_clip_bank(corpus, RATE, tmp_path, False, "data.impulse_responses")


def in_room(recipe, response: int):
    return replace(recipe, events=tuple(replace(event, response=response) for event in recipe.events))


def rendered_in_rooms(banks, response_bank, recipe):
    mixture, target = np.empty((2, 6 * RATE), np.float32)
    sources = np.empty((len(recipe.events), 6 * RATE), np.float32)
    Renderer(*banks, response_bank=response_bank).render(recipe, mixture, target, sources)
    return mixture, target, sources


def test_an_impulse_response_without_reflections_changes_nothing(make_recipes, render, banks, response_bank):
    recipe = replace(make_recipes(background_db=-60.0).draw(0, 0), fade_seconds=(0.0, 0.0))
    dry = render(recipe)[2]
    wet = rendered_in_rooms(banks, response_bank, in_room(recipe, response_bank.position("a/direct")))[2]
    rise = round(0.0025 * RATE)  # the direct sound begins 2.5 ms after the response
    for event, source, expected in zip(recipe.events, wet, dry, strict=False):
        # what the delay pushes over the excerpt's end is a thousandth of its energy
        sounds = slice(event.onset, event.onset + event.length)
        np.testing.assert_allclose(source[sounds][rise:], expected[sounds][:-rise], rtol=2e-2, atol=1e-5)


def test_the_target_is_reverberant_and_as_loud_as_was_drawn(make_recipes, banks, response_bank):
    for level in (-60.0, -20.0):  # without and with the peak rule
        dry = replace(make_recipes(background_db=level).draw(0, 1), fade_seconds=(0.0, 0.0), peak_rule="none")
        recipe = in_room(dry, response_bank.position("a/echo"))
        _, _, dry_sources = rendered_in_rooms(banks, response_bank, dry)
        mixture, target, sources = rendered_in_rooms(banks, response_bank, recipe)
        for event, source, plain in zip(recipe.events, sources, dry_sources, strict=True):
            sounds = slice(event.onset, event.onset + event.length)
            source, plain = source[sounds].astype(float), plain[sounds].astype(float)
            assert np.vdot(source, source) == pytest.approx(np.vdot(plain, plain), rel=1e-4)
            rise = round(0.0025 * RATE)
            expected = np.zeros(event.length + 4000)
            expected[rise : event.length] += plain[:-rise]
            expected[rise + 4000 : event.length] += 0.5 * plain[: -rise - 4000]
            expected = expected[: event.length]
            similarity = np.vdot(source, expected) / np.sqrt(np.vdot(source, source) * np.vdot(expected, expected))
            assert similarity > 0.9999
        queried = [event.class_index in recipe.query for event in recipe.events]
        np.testing.assert_allclose(target, sources[queried].sum(0), atol=1e-6)
        limited = rendered_in_rooms(banks, response_bank, replace(recipe, peak_rule="limit"))[0]
        assert np.abs(limited).max() == pytest.approx(min(1.0, np.abs(mixture).max()), abs=1e-5)


def test_a_source_is_silent_outside_its_event_and_starts_and_ends_softly(make_recipes, render):
    recipe = make_recipes().draw(0, 3)
    for event, source in zip(recipe.events, render(recipe)[2], strict=False):
        end = event.onset + event.length
        assert not source[: event.onset].any()
        assert not source[end:].any()
        assert source[event.onset] == 0.0
        assert source[end - 1] == 0.0


def test_an_event_shorter_than_its_two_fades_is_not_faded_twice(signals, banks, tmp_path):
    burst = np.sin(2 * np.pi * 1000 * np.arange(100) / RATE)  # 6 ms, the fades would take 20
    bank = open_clip_bank(signals({"a/0": burst}, RATE), RATE, tmp_path, False, "data.foregrounds")
    drawn = DrawnRecipes(
        "train",
        [np.array([0])],
        np.array([0]),
        bank,
        banks[1],
        MixtureConfig(num_events=(1,)),
        QueryConfig((1,)),
        0,
    )
    recipe = drawn.draw(0, 0)
    (event,) = recipe.events
    assert event.length == 100
    sources = np.empty((1, 6 * RATE), np.float32)
    Renderer(bank, banks[1]).render(recipe, np.empty_like(sources[0]), np.empty_like(sources[0]), sources)
    raw = bank.samples(0) * bank.entry(0).scale * event.gain
    ramp = np.sin(np.linspace(0.0, np.pi / 2, 160))[:50]
    expected = raw * np.concatenate([ramp, ramp[::-1]])
    np.testing.assert_allclose(sources[0, event.onset : event.onset + 100], expected, atol=1e-6)
