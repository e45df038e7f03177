import random
from collections import Counter

import pytest

from tse_refine.data.corpora.splitting import assign_splits
from tse_refine.errors import InputError

RECORDINGS = [f"recording {number}" for number in range(100)]
STRATA = ["dog" if number < 60 else "rain" for number in range(100)]
FRACTIONS = {"val": 0.1, "test": 0.2}


def test_every_stratum_has_its_fractions_in_every_split():
    split_of = assign_splits(RECORDINGS, STRATA, FRACTIONS, seed=0)
    counts = Counter((stratum, split_of[recording]) for recording, stratum in zip(RECORDINGS, STRATA, strict=True))
    assert counts == {
        ("dog", "val"): 6,
        ("dog", "test"): 12,
        ("dog", "train"): 42,
        ("rain", "val"): 4,
        ("rain", "test"): 8,
        ("rain", "train"): 28,
    }


def test_the_order_of_the_clips_does_not_matter():
    shuffled = list(zip(RECORDINGS, STRATA, strict=True))
    random.Random(0).shuffle(shuffled)
    again = assign_splits(*zip(*shuffled, strict=True), FRACTIONS, seed=0)
    assert again == assign_splits(RECORDINGS, STRATA, FRACTIONS, seed=0)


def test_the_assignment_is_the_same_on_every_machine():
    split_of = assign_splits(list("abcdefgh"), ["x"] * 8, {"val": 0.25, "test": 0.25}, seed=3)
    assert [split_of[name] for name in "abcdefgh"] == ["train", "val", "test", "train", "train", "test", "train", "val"]


def test_another_seed_gives_another_assignment():
    assert assign_splits(RECORDINGS, STRATA, FRACTIONS, 0) != assign_splits(RECORDINGS, STRATA, FRACTIONS, 1)


def test_a_further_split_does_not_change_those_before_it():
    one = assign_splits(RECORDINGS, STRATA, {"val": 0.1}, seed=0)
    two = assign_splits(RECORDINGS, STRATA, FRACTIONS, seed=0)
    assert {name for name in one if one[name] == "val"} == {name for name in two if two[name] == "val"}


def test_shares_are_of_clips_not_of_recordings():
    """Ten recordings of ten clips and a hundred of one: a tenth is 20 clips, whatever the number of recordings."""
    recordings = [f"long {n}" for n in range(10) for _ in range(10)] + [f"short {n}" for n in range(100)]
    split_of = assign_splits(recordings, ["x"] * 200, {"val": 0.1}, seed=0)
    clips = sum(split_of[recording] == "val" for recording in recordings)
    assert 20 <= clips < 30


def test_three_recordings_are_enough_for_three_splits_whatever_the_fractions():
    split_of = assign_splits(["a", "b", "c"], ["x"] * 3, {"val": 0.4, "test": 0.5}, seed=0)
    assert sorted(split_of.values()) == ["test", "train", "val"]


def test_a_recording_of_several_strata_is_decided_in_the_first_and_counts_there_only():
    """Recording "shared" gets what it gets among the dogs, and the rain is split as if it had only its other two."""
    dogs = ["shared", "a", "b", "c"]
    split_of = assign_splits([*dogs, "shared", "d", "e"], ["dog"] * 4 + ["rain"] * 3, {"val": 0.25}, seed=0)
    assert {name: split_of[name] for name in dogs} == assign_splits(dogs, ["dog"] * 4, {"val": 0.25}, seed=0)
    assert {split_of["d"], split_of["e"]} == {"val", "train"}
    with pytest.raises(InputError, match="'rain' has 1 source recordings of its own"):
        assign_splits([*dogs, "shared", "d"], ["dog"] * 4 + ["rain"] * 2, {"val": 0.25}, seed=0)


def test_a_stratum_with_too_few_recordings_is_rejected_by_name():
    with pytest.raises(InputError, match=r"'rain' has 2 .* one for each of val, test, train is needed"):
        assign_splits(["a", "b", "c", "d", "e", "e"], ["dog"] * 3 + ["rain"] * 3, FRACTIONS, seed=0)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"val": 0.0}, "val_fraction is 0;"),
        ({"val": 0.1, "test": 1.0}, "test_fraction is 1;"),
        ({"val": float("nan")}, "val_fraction is nan;"),
        ({"val": 0.5, "test": 0.5}, r"val_fraction \+ test_fraction is 1;"),
    ],
)
def test_fractions_that_leave_a_split_empty_are_rejected(fractions, message):
    with pytest.raises(InputError, match=message):
        assign_splits(RECORDINGS, STRATA, fractions, seed=0)
