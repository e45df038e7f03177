import re

import pytest

from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition, parse_conditions
from tse_refine.evaluation.metrics import ATTENUATION, FMQ, FUQ, PMQ, SNRI

OPTION = "evaluation.conditions"


def parse(given):
    return parse_conditions(given, OPTION, most_active=5, num_classes=12)


def test_conditions_keep_their_order_and_lose_repetitions():
    assert parse([[1, 3], (1, 0), [1, 3], [0, 1], [1, 0]]) == ((1, 3), (1, 0), (0, 1))


def test_the_fullest_conditions_pass():
    assert parse([[5, 7]]) == ((5, 7),)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (63, "63 is not a valid condition"),
        ("1:3", "'1:3' is not a valid condition"),
        ([1], r"\[1\] is not a valid condition"),
        ([1, 2, 3], r"\[1, 2, 3\] is not a valid condition"),
        ([-1, 1], r"\[-1, 1\] is not a valid condition"),
        ([1, -1], r"\[1, -1\] is not a valid condition"),
        ([1.0, 0], r"\[1.0, 0\] is not a valid condition"),
        (["1", 0], r"\['1', 0\] is not a valid condition"),
        (None, "None is not a valid condition"),
        ([0, 0], r"\[0, 0\] queries nothing"),
        ([6, 0], r"\[6, 0\] queries 6 active classes, .* at most 5 \(data.mixture.num_events\)"),
        ([1, 8], r"\[1, 8\] queries 8 inactive classes, .* 12 classes .* only 7"),
    ],
    ids=str,
)
def test_impossible_conditions_are_rejected_with_option_finding_and_expectation(given, expected):
    with pytest.raises(InputError, match=f"{re.escape(OPTION)}: {expected}"):
        parse([[1, 0], given])


@pytest.mark.parametrize("given", [[True, 0], [1, False]], ids=str)
def test_truth_values_are_not_numbers_of_classes(given):
    # they would name a condition (True:0) in files and logs
    with pytest.raises(InputError, match="is not a valid condition"):
        parse([given])


def test_a_number_gets_the_hint_that_yaml_counts_in_base_60():
    with pytest.raises(InputError, match=r"YAML reads 1:3 as the number 63 in base 60.*\[active, inactive\]"):
        parse([63])


def test_other_values_get_no_hint():
    with pytest.raises(InputError, match=r"\[active, inactive\]") as caught:
        parse([[1]])
    assert "base 60" not in str(caught.value)


def test_names_keys_and_kinds_of_conditions():
    assert Condition(1, 3).name == "(1:3)"
    assert Condition(1, 3).key == "1a3i"
    assert re.fullmatch(r"[A-Za-z0-9_]+", Condition(10, 0).key)
    assert [Condition(*pair).kind for pair in ((1, 0), (2, 1), (0, 3))] == [FMQ, PMQ, FUQ]
    assert [Condition(*pair).measure for pair in ((1, 0), (2, 1), (0, 3))] == [SNRI, SNRI, ATTENUATION]


def test_keys_are_read_back():
    assert Condition.from_key("12a0i") == (12, 0)
    for text in ("1a", "a1i", "1a3i/none", "-1a3i"):
        with pytest.raises(ValueError, match="is not the key of a condition"):
            Condition.from_key(text)
