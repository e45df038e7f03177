from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tse_refine.data.queries import QueryConfig
from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError

RATE = 16_000  # of the banks in conftest.py


def test_equal_keys_give_equal_recipes_and_different_keys_different_ones(make_recipes):
    recipe = make_recipes().draw(3, 7)
    assert make_recipes().draw(3, 7) == recipe
    others = [
        make_recipes().draw(4, 7),
        make_recipes().draw(3, 8),
        make_recipes(seed=1).draw(3, 7),
        make_recipes(split="val").draw(3, 7),
    ]
    for other in others:
        assert replace(other, split="train", epoch=3, index=7) != recipe


def test_events_are_distinct_on_the_grid_and_inside_the_mixture(make_recipes, banks):
    for index in range(200):
        recipe = make_recipes().draw(0, index)
        classes = [event.class_index for event in recipe.events]
        assert len(set(classes)) == len(classes)
        assert list(recipe.query_order[: len(classes)]) == classes
        for event in recipe.events:
            assert 0 <= event.onset <= 6 * RATE - event.length
            assert event.start % (RATE // 10) == 0
            assert event.start + event.length <= banks[0].entry(event.clip).length
            assert 15.0 <= event.snr_db <= 25.0
            assert min(3 * RATE, banks[0].entry(event.clip).length) <= event.length <= 5 * RATE


def chi_square(counts: dict[int, int], num_choices: int) -> float:
    expected = sum(counts.values()) / num_choices
    return sum((counts[choice] - expected) ** 2 / expected for choice in counts)


def test_number_classes_and_clips_of_events_are_uniform(make_recipes):
    recipes = [make_recipes().draw(0, index) for index in range(600)]
    num_events = Counter(len(recipe.events) for recipe in recipes)
    assert set(num_events) == {3, 4, 5}
    # each bound is the 99.9 % quantile of chi square with (choices - 1) degrees of freedom
    assert chi_square(num_events, 3) < 13.8
    assert chi_square(Counter(event.class_index for recipe in recipes for event in recipe.events), 6) < 20.5
    clips = Counter(event.clip for recipe in recipes for event in recipe.events)
    assert len(clips) == 12
    assert chi_square(clips, 12) < 31.3


def test_onsets_and_levels_fill_their_range_evenly(make_recipes):
    events = [event for index in range(200) for event in make_recipes().draw(0, index).events]
    onsets = np.array([event.onset / (6 * RATE - event.length) for event in events])
    levels = np.array([(event.snr_db - 15.0) / 10.0 for event in events])
    for drawn in (onsets, levels):  # about 800 uniform numbers: the mean's standard deviation is 0.01
        assert drawn.mean() == pytest.approx(0.5, abs=0.04)
        assert drawn.min() < 0.02
        assert drawn.max() > 0.98


def test_a_background_is_never_silent(make_recipes):
    for index in range(40):
        background = make_recipes(backgrounds=("bg/paused",)).draw(0, index).background
        assert background.start < 16 * RATE
        assert background.start + background.length > 15 * RATE


def test_a_short_clip_is_used_whole(make_recipes):
    events = [e for i in range(5) for e in make_recipes(classes=("short",), num_events=(1,)).draw(0, i).events]
    assert all((event.start, event.length) == (0, round(0.3 * RATE)) for event in events)


@pytest.mark.parametrize(
    ("clip", "begin", "end"),
    [
        ("paused", 15.0, 16.0),
        ("rare", 42.0, 42.5),  # one excerpt in fourteen has it: chance alone would often run out of draws
        ("faint", 15.0, 16.0),
        ("hum", 3.0, 4.0),
    ],
)
def test_the_pause_of_a_clip_is_never_the_excerpt(make_recipes, clip, begin, end):
    drawn = make_recipes(classes=(clip,), num_events=(1,))
    for index in range(40):
        (event,) = drawn.draw(0, index).events
        assert event.start < end * RATE
        assert event.start + event.length > begin * RATE


def test_a_share_of_the_mixtures_may_be_background_alone(make_recipes):
    drawn = make_recipes(num_events=(0, 0, 3), queries=QueryConfig((1, 2)))
    recipes = [drawn.draw(0, index) for index in range(300)]
    assert drawn.max_events == 3
    alone = [recipe for recipe in recipes if not recipe.events]
    assert {len(recipe.events) for recipe in recipes} == {0, 3}
    assert len(alone) == pytest.approx(200, abs=33)  # 4 standard deviations
    assert {len(recipe.query) for recipe in alone} == {1, 2}
    assert {label for recipe in alone for label in recipe.query} == set(range(6))
    assert all(sorted(recipe.query_order) == list(range(6)) for recipe in alone)


OUTSIDE = ("class4/0", "class4/1", "class5/0", "class5/1")


def test_interferers_are_added_and_change_nothing_else(make_recipes):
    classes = ("class0", "class1", "class2", "class3")
    for index in range(30):
        plain = make_recipes(classes).draw(2, index)
        other = make_recipes(classes, interferers=OUTSIDE).draw(2, index)
        assert plain.interferers == ()
        assert replace(other, interferers=()) == plain


def test_interferers_are_distinct_recordings_of_a_uniform_number_with_their_own_levels(make_recipes, banks):
    classes = ("class0", "class1", "class2", "class3")
    drawn = make_recipes(classes, interferers=OUTSIDE, num_interferers=(0, 3), interferer_snr_db=(5.0, 10.0))
    drawn_interferers = [drawn.draw(0, index).interferers for index in range(400)]
    numbers = Counter(map(len, drawn_interferers))
    assert set(numbers) == {0, 1, 2, 3}
    assert chi_square(numbers, 4) < 16.3  # 99.9 % quantile
    clips = Counter(event.clip for events in drawn_interferers for event in events)
    assert {banks[0].entry(clip).name for clip in clips} == set(OUTSIDE)
    assert chi_square(clips, 4) < 16.3
    for events in drawn_interferers:
        assert len({event.clip for event in events}) == len(events)
        for event in events:
            assert event.class_index == -1
            assert 5.0 <= event.snr_db <= 10.0
            assert 0 <= event.onset <= 6 * RATE - event.length
            assert event.start + event.length <= banks[0].entry(event.clip).length
    usual = make_recipes(classes, interferers=OUTSIDE)
    levels = [event.snr_db for index in range(100) for event in usual.draw(0, index).interferers]
    assert 15.0 <= min(levels) < 16.0  # those of the events
    assert 24.0 < max(levels) <= 25.0


def test_all_sounds_of_a_mixture_are_in_one_room_and_else_as_before(make_recipes):
    rooms, classes = ((3, 4), (5, 6, 7)), ("class0", "class1", "class2", "class3")
    options = {"interferers": OUTSIDE, "num_interferers": (2, 2)}
    drawn = [make_recipes(classes, rooms=rooms, **options).draw(1, index) for index in range(100)]
    used = Counter()
    for index, recipe in enumerate(drawn):
        sounds = (*recipe.events, *recipe.interferers)
        responses = {sound.response for sound in sounds}
        (room,) = [room for room in rooms if responses <= set(room)]
        used[room] += 1
        dry = [tuple(replace(event, response=-1) for event in part) for part in (recipe.events, recipe.interferers)]
        assert replace(recipe, events=dry[0], interferers=dry[1]) == make_recipes(classes, **options).draw(1, index)
        assert recipe.background.response == -1
    assert chi_square(used, 2) < 10.9  # 99.9 % quantile
    assert {event.response for recipe in drawn for event in recipe.events} == {3, 4, 5, 6, 7}


def test_a_share_of_the_mixtures_is_reverberant(make_recipes):
    drawn = make_recipes(rooms=((0,),), reverberation_rate=0.25)
    reverberant = [drawn.draw(0, index).events[0].response == 0 for index in range(400)]
    assert sum(reverberant) == pytest.approx(100, abs=35)  # 4 standard deviations


def test_options_of_queries_do_not_change_the_mixture(make_recipes):
    plain, other = make_recipes().draw(0, 1), make_recipes(queries=QueryConfig((1,), 1.0)).draw(0, 1)
    assert (plain.background, plain.events, plain.query_order) == (other.background, other.events, other.query_order)
    assert not set(other.query) & {event.class_index for event in other.events}


@pytest.mark.parametrize(
    "options",
    [
        {"num_events": (0,)},
        {"num_events": (-1, 3)},
        {"num_events": ()},
        {"num_events": (7,)},
        {"event_seconds": (0.1, 2.0)},
        {"event_seconds": (3.0, 7.0)},
        {"event_seconds": (4.0, 3.0)},
        {"event_seconds": (3.0, 5.0), "duration_seconds": 4.0},
        {"snr_db": (5.0, 0.0)},
        {"num_interferers": (-1, 2)},
        {"num_interferers": (2, 1)},
        {"num_interferers": (0, 0)},
        {"interferer_snr_db": (5.0, 0.0)},
        {"interferer_snr_db": (0.0, float("nan"))},
        {"reverberation_rate": 1.5},
        {"reverberation_rate": float("nan")},
    ],
)
def test_impossible_mixtures_are_rejected_by_option(options):
    with pytest.raises(InputError, match=f"data.mixture.{next(iter(options))}"):
        MixtureConfig(**options).check(num_classes=6)
