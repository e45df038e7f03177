import pytest

from tse_refine.errors import InputError, did_you_mean

KNOWN = ["Bark", "Bus", "Cough", "Gunshot_or_gunfire", "Hi-hat", "dog", "doorbell", "siren"]


def test_an_input_error_is_a_value_error_and_shows_its_text():
    error = InputError("data.seed is -1; at least 0 is expected.")
    assert isinstance(error, ValueError)
    assert str(error) == "data.seed is -1; at least 0 is expected."


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sirne", "did you mean 'siren'?"),
        ("SIREN", "did you mean 'siren'?"),
        ("bark", "did you mean 'Bark'?"),
        ("gunshot or gunfire", "did you mean 'Gunshot_or_gunfire'?"),
        ("doorbel", "did you mean 'doorbell'?"),
    ],
)
def test_the_nearest_word_is_named_whatever_its_case(word, expected):
    assert did_you_mean(word, KNOWN) == expected


def test_valid_words_in_capitals_are_matched():
    assert did_you_mean("tv", ["TV", "rain"]) == "did you mean 'TV'?"


def test_two_near_words_are_both_named_the_nearer_first():
    assert (
        did_you_mean("dog_barkin", ["dog_bark", "rain", "dog_barking"]) == "did you mean 'dog_barking' or 'dog_bark'?"
    )


def test_all_words_are_listed_where_none_is_near():
    assert did_you_mean("xylophone", ["cat", "dog"]) == "known are: cat, dog"


def test_few_hints_are_given_where_only_near_words_would_help():
    assert did_you_mean("xylophone", ["cat", "dog"], few=True) == ""
    assert did_you_mean("dgo", ["cat", "dog"], few=True) == "did you mean 'dog'?"
