import itertools
import re

import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.refinement import (
    CountThreshold,
    Gate,
    NoRefinement,
    Oracle,
    SoftThreshold,
    Threshold,
    parse_key,
    parse_refinement,
    parse_refinements,
    refine,
)

THRESHOLDS = [0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]


@pytest.fixture
def probability():
    return torch.rand(200, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def query():
    return (torch.rand(200, 12, generator=torch.Generator().manual_seed(1)) < 0.3).float()


def test_refined_queries_hold_the_queried_classes_that_are_probable_enough(query, probability):
    for row, (queried, probable) in enumerate(zip(query.tolist(), probability.tolist(), strict=True)):
        expected = [float(q == 1.0 and p >= 0.4) for q, p in zip(queried, probable, strict=True)]
        assert refine(query, probability, 0.4)[row].tolist() == expected


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_refined_query_never_grows(query, probability, threshold):
    refined = refine(query, probability, threshold)
    assert (refined <= query).all()
    assert refined.dtype == query.dtype


def test_a_higher_threshold_never_adds_a_class(query, probability):
    refined = [refine(query, probability, threshold) for threshold in THRESHOLDS]
    for lower, higher in itertools.pairwise(refined):
        assert (higher <= lower).all()


def test_threshold_zero_keeps_everything_even_at_probability_zero(query):
    assert torch.equal(refine(query, torch.zeros_like(query), 0.0), query)


def test_threshold_one_keeps_only_certain_classes(query, probability):
    assert not refine(query, probability, 1.0).any()
    assert torch.equal(refine(query, torch.ones_like(query), 1.0), query)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_class_exactly_at_the_threshold_stays(threshold):
    # in float32, in which 0.7 is a little less than 0.7
    query, probability = torch.ones(1, 1), torch.full((1, 1), threshold, dtype=torch.float32)
    assert refine(query, probability, threshold).item() == 1.0


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_refining_twice_changes_nothing(query, probability, threshold):
    once = refine(query, probability, threshold)
    assert torch.equal(refine(once, probability, threshold), once)


def test_the_oracle_keeps_exactly_the_active_classes_and_is_idempotent(query, probability):
    activity = (probability < 0.4).float()
    once = Oracle()(query, None, activity)
    assert torch.equal(once, query * activity)
    assert torch.equal(Oracle()(once, None, activity), once)
    with pytest.raises(InputError, match="'oracle' needs the true activity"):
        Oracle()(query, probability)


def test_empty_queries_stay_empty(probability):
    nothing = torch.zeros_like(probability)
    assert torch.equal(refine(nothing, probability, 0.0), nothing)
    assert torch.equal(Gate(0.0)(nothing, probability), nothing)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_gate_passes_the_whole_query_or_nothing(query, probability, threshold):
    gated = Gate(threshold)(query, probability)
    refined = refine(query, probability, threshold)
    for row in range(len(query)):
        expected = query[row] if refined[row].any() else torch.zeros_like(query[row])
        assert torch.equal(gated[row], expected)


def test_the_gate_depends_on_queried_classes_only():
    probability = torch.tensor([[0.1, 0.99]])
    assert Gate(0.5)(torch.tensor([[1.0, 0.0]]), probability).tolist() == [[0.0, 0.0]]
    assert Gate(0.5)(torch.tensor([[1.0, 1.0]]), probability).tolist() == [[1.0, 1.0]]


def test_queries_of_several_conditions_share_a_mixtures_probability(query, probability):
    several = torch.stack([query, 1.0 - query, torch.ones_like(query)], dim=1)  # [batch, conditions, classes]
    for rule in (Threshold(0.8), SoftThreshold(0.2, 0.8), CountThreshold(0.2, 0.8), Gate(0.8), NoRefinement()):
        together = rule(several, probability[:, None])
        for condition in range(3):
            assert torch.equal(together[:, condition], rule(several[:, condition], probability))


def test_a_soft_threshold_is_a_ramp_that_never_leaves_the_query(query, probability):
    weights = SoftThreshold(0.2, 0.6)(query, probability)
    expected = query * ((probability - 0.2) / 0.4).clamp(0.0, 1.0)
    torch.testing.assert_close(weights, expected)
    assert ((weights >= 0.0) & (weights <= query)).all()
    assert ((weights > 0.0) & (weights < 1.0)).any()


def test_a_soft_threshold_lies_between_the_hard_ones_at_its_ends(query, probability):
    weights = SoftThreshold(0.2, 0.6)(query, probability)
    assert (weights <= Threshold(0.2)(query, probability)).all()
    assert (weights >= Threshold(0.6)(query, probability)).all()


@pytest.mark.parametrize(("queried", "threshold"), [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.4)])
def test_a_threshold_by_count_rises_in_equal_steps_to_four_classes(queried, threshold):
    query = torch.zeros(40, 6)
    query[:, :queried] = 1.0
    probability = torch.linspace(0.0, 0.6, 40)[:, None].expand(-1, 6)
    assert torch.equal(CountThreshold(0.1, 0.4)(query, probability), Threshold(threshold)(query, probability))


def test_a_rule_without_its_probability_is_rejected(query):
    for rule in (Threshold(0.3), SoftThreshold(0.2, 0.6), CountThreshold(0.2, 0.6), Gate(0.1)):
        with pytest.raises(InputError, match=f"'{rule.name}' needs a classifier"):
            rule(query, None)


@pytest.mark.parametrize(
    ("value", "refinement", "name", "key", "option"),
    [
        (0.3, Threshold(0.3), "0.3", "delta_0p3", 0.3),
        ("0.30", Threshold(0.3), "0.3", "delta_0p3", 0.3),
        (0, Threshold(0.0), "0", "delta_0", 0.0),
        (1.0, Threshold(1.0), "1", "delta_1", 1.0),
        (1e-05, Threshold(1e-05), "1e-05", "delta_1em05", 1e-05),
        (0.123456, Threshold(0.123456), "0.123456", "delta_0p123456", 0.123456),
        ("none", NoRefinement(), "none", "none", "none"),
        ("oracle", Oracle(), "oracle", "oracle", "oracle"),
        ("gate", Gate(0.25), "gate", "gate", "gate"),
        ("count:0-0.30", CountThreshold(0, 0.3), "count:0-0.3", "count_0_0p3", "count:0-0.3"),
        ("soft:0.2-0.6", SoftThreshold(0.2, 0.6), "soft:0.2-0.6", "soft_0p2_0p6", "soft:0.2-0.6"),
        ("soft:1e-05-0.60", SoftThreshold(1e-05, 0.6), "soft:1e-05-0.6", "soft_1em05_0p6", "soft:1e-05-0.6"),
    ],
)
def test_names_keys_and_options_stand_for_their_rule(value, refinement, name, key, option):
    parsed = parse_refinement(value, "o", gate_threshold=0.25)
    assert parsed == refinement
    assert (parsed.name, parsed.key, parsed.option) == (name, key, option)
    assert parse_refinement(parsed.option, "o", gate_threshold=0.25) == parsed
    assert parse_key(parsed.key).name == name


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *((value, "; expected are none, a number from 0 to 1, soft:LOW-HIGH, count:ONE-MANY, gate, oracle")
          for value in (True, False, "nope", None, [0.1], "delta:0.3", "")),
        (1.5, ": the threshold is 1.5; a number from 0 to 1"),
        (-0.1, ": the threshold is -0.1; a number from 0 to 1"),
        (float("nan"), ": .* is nan; a finite number"),
        ("soft", ": it is written soft:LOW-HIGH"),
        ("soft:0.2", ": it is written soft:LOW-HIGH"),
        ("soft:0.2-0.3-0.4", ": it is written soft:LOW-HIGH"),
        ("soft:a-b", ": it is written soft:LOW-HIGH"),
        ("soft:0.6-0.2", ": .* from 0.6 to 0.2; two numbers from 0 to 1, the lower one first"),
        ("soft:0.3-0.3", ": .* the lower one first"),
        ("soft:0.3-1.3", ": .* two numbers from 0 to 1"),
        ("none:0.3", ": it is written none"),
        ("count:0.3-0.2", ": .* 0.3 and 0.2; two numbers from 0 to 1, the lower one first"),
    ],
    ids=str,
)  # fmt: skip
def test_impossible_refinements_are_rejected_with_option_finding_and_expectation(value, reason):
    expected = rf"evaluation\.thresholds: {re.escape(repr(value))} is not a valid refinement{reason}"
    with pytest.raises(InputError, match=expected):
        parse_refinements(["none", value], "evaluation.thresholds")


def test_refinements_keep_their_order_and_lose_repetitions():
    values = ["none", 0.3, 0, "oracle", 0.30, 0.0, 1, "none", 0.30000001, "gate"]
    assert [rule.name for rule in parse_refinements(values, "o")] == ["none", "0.3", "0", "oracle", "1", "gate"]


def test_keys_are_letters_digits_and_underscores_and_tell_refinements_apart():
    values = ["none", "oracle", "gate", *(n / 100 for n in range(101)), 1e-5, 2.5e-7, "soft:0.2-0.6", "soft:0.2-0.7"]
    keys = [rule.key for rule in parse_refinements(values, "o")]
    assert len(set(keys)) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", key) for key in keys)
