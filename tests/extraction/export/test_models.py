"""Exported models against their networks, in onnxruntime and in PyTorch."""

import pytest
import torch

from tests.fixtures.exports import CLASSES, FIXED, FIXED_NAMES, RATE, THRESHOLDS, check_agreement, inputs_of
from tse_refine.refinement import NoRefinement

pytestmark = pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch reading its own files

# frames are 40 samples apart, pools of the first network four frames; exports are made with 8003 samples
LENGTHS = [1, 2, 39, 40, 41, 120, 121, 160, 161, 1000, 7999, 8003, 16_000, 25_001]


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_model_agrees_with_the_network_at_any_length_and_threshold(model, samples):
    for threshold in THRESHOLDS:
        check_agreement(model, inputs_of(model, samples, threshold=threshold))


@pytest.mark.parametrize("samples", [1, 1000, 25_001])
def test_a_model_with_a_fixed_refinement_agrees_with_the_network(fixed_model, samples):
    inputs = inputs_of(fixed_model, samples, batch=20)
    outputs = check_agreement(fixed_model, inputs)
    assert list(outputs) == ["estimate", "probability", "refined_query"]
    is_changed = not torch.equal(outputs["refined_query"], inputs["query"])
    assert is_changed is not isinstance(fixed_model.refinement, NoRefinement)


@pytest.mark.parametrize("fixed_model", FIXED[:2], indirect=True, ids=FIXED_NAMES[:2])
def test_a_soft_threshold_weighs_classes_in_the_model(fixed_model):
    inputs = inputs_of(fixed_model, 4001, batch=40) | {"query": torch.ones(40, len(CLASSES))}
    weights = check_agreement(fixed_model, inputs)["refined_query"]
    assert ((weights > 0.0) & (weights < 1.0)).any()
    assert (weights == 0.0).any()
    assert (weights == 1.0).any()


def test_a_minute_is_as_exact_as_a_second(model):
    check_agreement(model, inputs_of(model, 60 * RATE + 1, batch=1))


@pytest.mark.parametrize("level", [1e-2, 1e-4, 1e-6, 0.0])
def test_estimates_of_faint_mixtures_and_silence_agree_with_the_network(model, level):
    outputs = check_agreement(model, inputs_of(model, 4001, level=level, threshold=0.0))
    assert all(output.isfinite().all() for output in outputs.values())


def test_rows_of_a_batch_do_not_influence_each_other(model):
    inputs = inputs_of(model, 5000, batch=5)
    together = model.run(**inputs)["estimate"]
    for row in range(5):
        item = {name: value if name == "threshold" else value[row : row + 1] for name, value in inputs.items()}
        torch.testing.assert_close(model.run(**item)["estimate"], together[row : row + 1], rtol=0.0, atol=1e-6)


def test_the_estimate_of_an_empty_query_is_exact_silence_and_its_neighbours_are_not(model):
    inputs = inputs_of(model, 4001, threshold=0.0)
    inputs["query"] = torch.tensor([[1.0, 0, 0, 0], [0.0, 0, 0, 0], [0.0, 1, 1, 0]])
    with torch.no_grad():
        assert model.network(inputs["mixture"], inputs["query"])[0][1].any()  # the network alone is not silent
    estimate = model.run(**inputs)["estimate"]
    assert not estimate[1].any()
    assert estimate[0].any()
    assert estimate[2].any()


def test_refinement_removes_classes_less_probable_than_the_threshold(refining_model):
    inputs = inputs_of(refining_model, 4001)
    inputs["query"] = torch.ones(3, len(CLASSES))
    num_kept = []
    for threshold in THRESHOLDS:
        outputs = refining_model.run(**{**inputs, "threshold": torch.tensor(threshold)})
        assert torch.equal(outputs["refined_query"], (outputs["probability"] >= threshold).float())
        assert torch.equal(outputs["estimate"].any(dim=1), outputs["refined_query"].any(dim=1))
        num_kept.append(int(outputs["refined_query"].sum()))
    assert num_kept[0] == inputs["query"].numel()  # 0: the query as it is
    assert num_kept[-1] == 0  # 1: nothing, hence silence
    assert len(set(num_kept)) > 3  # the thresholds make a difference
