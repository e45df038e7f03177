import itertools

import pytest
import torch

from tse_refine.refinement import gate, refine

THRESHOLDS = [0.0, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0]


@pytest.fixture
def probability():
    return torch.rand(200, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def query():
    return (torch.rand(200, 12, generator=torch.Generator().manual_seed(1)) < 0.3).float()


def test_refined_queries_hold_the_queried_classes_that_are_probable_enough(query, probability):
    for row, (asked, probable) in enumerate(zip(query.tolist(), probability.tolist(), strict=True)):
        expected = [float(q == 1.0 and p >= 0.4) for q, p in zip(asked, probable, strict=True)]
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
    once = refine(query, activity, 0.5)
    assert torch.equal(once, query * activity)
    assert torch.equal(refine(once, activity, 0.5), once)


def test_empty_queries_stay_empty(probability):
    nothing = torch.zeros_like(probability)
    assert torch.equal(refine(nothing, probability, 0.0), nothing)
    assert torch.equal(gate(nothing, probability, 0.0), nothing)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_the_gate_passes_the_whole_query_or_nothing(query, probability, threshold):
    gated = gate(query, probability, threshold)
    refined = refine(query, probability, threshold)
    for row in range(len(query)):
        expected = query[row] if refined[row].any() else torch.zeros_like(query[row])
        assert torch.equal(gated[row], expected)


def test_the_gate_hears_only_queried_classes():
    probability = torch.tensor([[0.1, 0.99]])
    assert gate(torch.tensor([[1.0, 0.0]]), probability, 0.5).tolist() == [[0.0, 0.0]]
    assert gate(torch.tensor([[1.0, 1.0]]), probability, 0.5).tolist() == [[1.0, 1.0]]


def test_queries_of_several_conditions_share_a_mixtures_probability(query, probability):
    several = torch.stack([query, 1.0 - query, torch.ones_like(query)], dim=1)  # [batch, conditions, classes]
    for one in (refine, gate):
        together = one(several, probability[:, None], 0.8)
        for condition in range(3):
            assert torch.equal(together[:, condition], one(several[:, condition], probability, 0.8))
