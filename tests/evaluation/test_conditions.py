import re

import pytest

from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import (
    condition_key,
    condition_name,
    key_threshold,
    parse_conditions,
    parse_thresholds,
    threshold_key,
    threshold_name,
)

OPTION = "evaluation.conditions"


def parse(given):
    return parse_conditions(given, OPTION, most_active=5, num_classes=12)


def test_conditions_keep_their_order_and_lose_repetitions():
    assert parse([[1, 3], (1, 0), [1, 3], [0, 1], [1, 0]]) == [(1, 3), (1, 0), (0, 1)]


def test_the_fullest_conditions_pass():
    assert parse([[5, 7]]) == [(5, 7)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (63, "63 is no condition"),
        ("1:3", "'1:3' is no condition"),
        ([1], r"\[1\] is no condition"),
        ([1, 2, 3], r"\[1, 2, 3\] is no condition"),
        ([-1, 1], r"\[-1, 1\] is no condition"),
        ([1, -1], r"\[1, -1\] is no condition"),
        ([1.0, 0], r"\[1.0, 0\] is no condition"),
        (["1", 0], r"\['1', 0\] is no condition"),
        (None, "None is no condition"),
        ([0, 0], r"\[0, 0\] asks for nothing"),
        ([6, 0], r"\[6, 0\] asks for 6 active classes, .* at most 5 \(data.mixture.num_events\)"),
        ([1, 8], r"\[1, 8\] asks for 8 inactive classes, .* 12 classes .* only 7"),
    ],
    ids=str,
)
def test_impossible_conditions_are_refused_with_option_finding_and_expectation(given, expected):
    with pytest.raises(InputError, match=f"{re.escape(OPTION)}: {expected}"):
        parse([[1, 0], given])


@pytest.mark.parametrize("given", [[True, 0], [1, False]], ids=str)
def test_truth_values_are_no_numbers_of_classes(given):
    # they would name a condition (True:0) in files and logs
    with pytest.raises(InputError, match="is no condition"):
        parse([given])


def test_a_number_gets_the_hint_that_yaml_counts_in_base_60():
    with pytest.raises(InputError, match=r"YAML reads 1:3 as the number 63 in base 60.*\[active, inactive\]"):
        parse([63])


def test_what_is_no_number_gets_no_hint():
    with pytest.raises(InputError, match=r"\[active, inactive\]") as caught:
        parse([[1]])
    assert "base 60" not in str(caught.value)


def test_thresholds_keep_their_order_and_lose_repetitions():
    assert parse_thresholds(["none", 0.3, 0, "oracle", 0.30, 0.0, 1, "none", "gate"], "o") == [
        "none",
        0.3,
        0.0,
        "oracle",
        1.0,
        "gate",
    ]


@pytest.mark.parametrize("given", [True, False, 1.5, -0.1, "nope", "0.3", None, float("nan"), [0.1]], ids=str)
def test_impossible_thresholds_are_refused_with_option_finding_and_expectation(given):
    expected = rf"evaluation\.thresholds: {re.escape(repr(given))} is no threshold; .* 0 to 1 and none, oracle, gate"
    with pytest.raises(InputError, match=expected):
        parse_thresholds(["none", given], "evaluation.thresholds")


def test_thresholds_that_are_written_alike_are_one():
    # result files and logs tell thresholds apart by six digits
    names = [threshold_name(threshold) for threshold in parse_thresholds([0.3, 0.30000001], "o")]
    assert names == ["0.3"]


@pytest.mark.parametrize(
    ("threshold", "name", "key"),
    [
        (0.3, "0.3", "delta_0p3"),
        (0.05, "0.05", "delta_0p05"),
        (0.0, "0", "delta_0"),
        (1.0, "1", "delta_1"),
        (1e-05, "1e-05", "delta_1em05"),
        (0.123456, "0.123456", "delta_0p123456"),
        ("none", "none", "none"),
        ("oracle", "oracle", "oracle"),
        ("gate", "gate", "gate"),
    ],
)
def test_names_and_keys_of_thresholds(threshold, name, key):
    assert threshold_name(threshold) == name
    assert threshold_key(threshold) == key
    assert key_threshold(key) == name


def test_keys_are_letters_digits_and_underscores_and_tell_thresholds_apart():
    thresholds = parse_thresholds(["none", "oracle", "gate", *(n / 100 for n in range(101)), 1e-5, 2.5e-7], "o")
    keys = [threshold_key(threshold) for threshold in thresholds]
    assert len(set(keys)) == len(thresholds) == 106
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", key) for key in keys)


def test_names_and_keys_of_conditions():
    assert condition_name((1, 3)) == "(1:3)"
    assert condition_key((1, 3)) == "1a3i"
    assert re.fullmatch(r"[A-Za-z0-9_]+", condition_key((10, 0)))
