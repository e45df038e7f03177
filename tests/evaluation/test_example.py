import pytest
import torch

from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.example import extract_query
from tse_refine.model.network import Network
from tse_refine.refinement import NoRefinement, Threshold


@pytest.fixture
def example(tiny_data, tiny_network_config):
    """Extract from the first test mixture, with a classifier that gives every class 0.5."""

    def extract(condition, refinement, classifier=True):
        torch.manual_seed(0)
        if not classifier:
            tiny_network_config.classifier = None
        network = Network(len(tiny_data.class_names), tiny_data.sample_rate, tiny_network_config).eval()
        if classifier:
            torch.nn.init.zeros_(network.classifier.linear.weight)
            torch.nn.init.zeros_(network.classifier.linear.bias)
        batch = tiny_data.datasets["test"].__getitems__([(0, 0)])
        with torch.inference_mode():
            features = network.features(batch["mixture"])
        names, rate = tiny_data.class_names, tiny_data.sample_rate
        return extract_query(network, features, batch, condition, refinement, names, rate)

    return extract


def test_a_query_has_its_active_classes_first_and_loses_what_the_rule_removes(example):
    kept, emptied = (example(Condition(2, 1), Threshold(delta)) for delta in (0.4, 0.6))
    assert len(kept.query) == 3
    assert set(kept.query[:2]) <= set(kept.active)
    assert kept.query[2] not in kept.active
    assert kept.refined_query == kept.query
    assert (kept.refined == kept.raw).all()
    assert emptied.refined_query == ()
    assert not (emptied.refined == emptied.raw).all()
    assert set(kept.row) == {"condition", "mixture", "active", "query", "measure", "raw", "refined query", "refined"}


def test_the_measure_is_that_of_the_condition(example):
    assert example(Condition(0, 2), Threshold(0.4)).row["measure"] == "attenuation (dB)"
    assert (example(Condition(0, 2), Threshold(0.4)).target == 0.0).all()
    assert example(Condition(1, 0), Threshold(0.4)).row["measure"] == "SNRi (dB)"


def test_without_a_classifier_nothing_refined_is_shown(example):
    plain = example(Condition(1, 1), NoRefinement(), classifier=False)
    assert set(plain.signals) == {"mixture", "target", "raw"}
    assert not any("refined" in name for name in plain.row)
    assert plain.probability == {}


def test_sounds_are_scaled_alike_where_one_would_clip(example):
    loud = example(Condition(1, 1), Threshold(0.4))
    loud.mixture[0], loud.target[0] = -4.0, 2.0
    assert loud.signals["mixture"][0] == -1.0
    assert loud.signals["target"][0] == 0.5
