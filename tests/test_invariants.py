"""What must hold whatever the numbers are: properties of queries, refinement, pooling, loss, and mixtures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tse_refine.data.queries import QueryConfig, condition_queries, draw_query, draw_query_order
from tse_refine.data.recipes import MixtureConfig
from tse_refine.evaluation.metrics import SNRI
from tse_refine.model.classifier import pooled_probability
from tse_refine.refinement import Gate, NoRefinement, Oracle, SoftThreshold, Threshold, parse_refinement
from tse_refine.training.losses import frame_activity, thresholded_snr_loss

QUICK = settings(max_examples=60, deadline=None, derandomize=True)
CLASSES = 7
unit = st.floats(0.0, 1.0, width=32)
probabilities = arrays(np.float32, (3, CLASSES), elements=unit).map(torch.from_numpy)
queries = arrays(np.float32, (3, CLASSES), elements=st.sampled_from([0.0, 1.0])).map(torch.from_numpy)
signals = arrays(np.float32, (2, 64), elements=st.floats(-1.0, 1.0, width=32)).map(torch.from_numpy)
thresholds = st.builds(Threshold, unit)
ramps = st.tuples(unit, unit).filter(lambda ends: float(f"{min(ends):g}") < float(f"{max(ends):g}"))
softs = ramps.map(lambda ends: SoftThreshold(min(ends), max(ends)))


@QUICK
@given(queries, probabilities, st.one_of(thresholds, softs, st.builds(Gate, unit), st.just(NoRefinement())))
def test_a_refined_query_lies_between_nothing_and_the_query(query, probability, rule):
    refined = rule(query, probability)
    assert torch.all((refined >= 0.0) & (refined <= query))


@QUICK
@given(queries, probabilities, probabilities, st.one_of(thresholds, softs))
def test_more_probable_classes_never_lose_weight(query, first, second, rule):
    lower, higher = torch.minimum(first, second), torch.maximum(first, second)
    assert torch.all(rule(query, lower) <= rule(query, higher))


@QUICK
@given(queries, probabilities, unit, unit)
def test_higher_thresholds_keep_subsets(query, probability, first, second):
    low, high = Threshold(min(first, second)), Threshold(max(first, second))
    assert torch.all(high(query, probability) <= low(query, probability))


@QUICK
@given(probabilities, queries, queries, st.one_of(thresholds, softs))
def test_a_class_is_refined_the_same_whatever_else_is_queried(probability, first, second, rule):
    both = first * second
    assert torch.equal(both * rule(first, probability), both * rule(second, probability))


@QUICK
@given(queries, queries)
def test_the_oracle_leaves_what_is_queried_and_active(query, activity):
    assert torch.equal(Oracle()(query, None, activity), query * activity)


@QUICK
@given(st.one_of(thresholds, softs))
def test_a_rule_is_what_its_name_says(rule):
    assert parse_refinement(rule.name, "threshold") == rule
    assert parse_refinement(rule.option, "threshold") == rule


@QUICK
@given(st.integers(0, 2**32), st.integers(1, CLASSES - 2), st.data())
def test_queries_of_a_mixture_are_nested_and_as_large_as_their_condition(seed, num_active, data):
    rng = np.random.default_rng(seed)
    active = rng.permutation(CLASSES)[:num_active]
    order = torch.from_numpy(draw_query_order(rng, active, CLASSES))[None]
    a, b = (data.draw(st.integers(0, num_active)) for _ in range(2))
    i, j = (data.draw(st.integers(0, CLASSES - num_active)) for _ in range(2))
    smaller, larger = sorted((a, b)), sorted((i, j))
    conditions = [(smaller[0], larger[0]), (smaller[1], larger[1])]
    narrow, wide = condition_queries(order, torch.tensor([num_active]), conditions)[0]
    assert torch.all(narrow <= wide)
    activity = torch.zeros(CLASSES)
    activity[active] = 1.0
    for query, (wanted_active, wanted_inactive) in zip((narrow, wide), conditions, strict=True):
        assert (query * activity).sum() == wanted_active
        assert (query * (1 - activity)).sum() == wanted_inactive


@QUICK
@given(st.integers(0, 2**32), unit, unit, st.booleans())
def test_a_training_query_names_each_class_once_and_inactive_ones_only_by_its_options(seed, alone, partly, allowed):
    rng = np.random.default_rng(seed)
    active = rng.permutation(CLASSES)[:3]
    config = QueryConfig((1, 2), alone, partly, (1, 2))
    query = draw_query(rng, active, CLASSES, config, allowed).tolist()
    inactive = set(query) - set(active.tolist())
    assert len(set(query)) == len(query) >= 1
    if not allowed or alone == partly == 0.0:
        assert not inactive
    assert len(inactive) <= 2


@QUICK
@given(arrays(np.float32, (2, 9, 3), elements=st.floats(-200.0, 200.0, width=32)))
def test_a_pooled_probability_is_one_and_lies_among_those_of_the_frames(logits):
    pooled = pooled_probability(torch.from_numpy(logits))
    frames = torch.sigmoid(torch.from_numpy(logits).double())
    assert torch.all((pooled >= 0.0) & (pooled <= 1.0))
    assert torch.all(pooled <= frames.amax(1) + 1e-6)
    assert torch.all(pooled >= frames.mean(1) - 1e-6)  # louder frames count more


@QUICK
@given(signals, signals, st.sampled_from([10.0, 30.0]))
def test_the_loss_is_finite_and_never_rewards_beyond_its_threshold(estimate, target, snr_max_db):
    loss = thresholded_snr_loss(estimate, target, target + 0.1, snr_max_db)
    assert torch.all(torch.isfinite(loss))
    assert torch.all(loss >= -snr_max_db - 1e-3)


@QUICK
@given(signals, st.floats(0.01, 100.0))
def test_the_improvement_does_not_depend_on_the_level(noise, gain):
    target = torch.sin(torch.arange(64.0))[None].expand(2, -1)
    mixture, estimate = target + 0.5 * noise, target + 0.1 * noise + 0.01
    at_gain = SNRI.of_signals(gain * estimate, gain * target, gain * mixture)
    audible = (mixture - target).square().sum(1) > 1e-3
    torch.testing.assert_close(
        at_gain[audible], SNRI.of_signals(estimate, target, mixture)[audible], atol=1e-2, rtol=1e-3
    )


@QUICK
@given(st.integers(1, 4), st.integers(1, 50), st.integers(1, 1000), st.data())
def test_frames_of_a_class_that_sounds_throughout_all_count(events, frames, samples, data):
    classes = torch.tensor([[data.draw(st.integers(-1, 4)) for _ in range(events)]])
    spans = torch.tensor([[[0, samples]] * events])
    activity = frame_activity(classes, spans, 5, samples, frames)
    present = {label for label in classes[0].tolist() if label >= 0}
    for label in range(5):
        assert torch.all(activity[0, :, label] == float(label in present))


@pytest.mark.parametrize("split", ["train", "val"])
def test_mixtures_are_bounded_and_the_sum_of_their_parts(tiny_data, split):
    dataset = tiny_data.datasets[split]
    mixture = MixtureConfig(duration_seconds=1.0, event_seconds=(0.5, 0.8))
    for index in range(len(dataset)):
        item, recipe = dataset[0, index], dataset.recipe((0, index))
        assert item["mixture"].abs().max() <= 1.0 + 1e-6
        assert len(recipe.events) in mixture.num_events
        for event in recipe.events:
            assert 0 <= event.onset <= event.onset + event.length <= dataset.recipes.num_samples
            assert mixture.snr_db[0] <= event.snr_db <= mixture.snr_db[1]
        if split == "val":
            background = item["mixture"] - item["sources"].sum(0)
            everything = item["query"] * item["activity"]
            wanted = torch.tensor([bool(label >= 0 and everything[label]) for label in item["source_classes"].tolist()])
            torch.testing.assert_close(item["target"], item["sources"][wanted].sum(0), atol=1e-6, rtol=0)
            assert background.square().mean() < item["sources"].sum(0).square().mean()
