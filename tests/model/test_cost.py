from pathlib import Path

import pytest
import torch
import yaml

from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.cost import Cost, count_parameters, measure_cost
from tse_refine.model.network import Network, NetworkConfig

MODEL_CONFIGS = Path(__file__).parents[2] / "configs" / "model"
TINY = NetworkConfig(16, 5.0, 8, 12, 10, 3, 2, 1, 2, 4, ClassifierConfig(1), classifier_hidden_size=3)


def sizes_of(name):
    return yaml.safe_load((MODEL_CONFIGS / f"{name}.yaml").read_text())["model"]["network"]


def measured(sizes, classifier, num_classes=41, sample_rate=16000):
    torch.manual_seed(0)
    return measure_cost(Network(num_classes, sample_rate, NetworkConfig(**sizes, classifier=classifier)))


def counted(sizes, classifier, num_classes=41, sample_rate=16000):
    """Parameters and MACs layer by layer, in plain arithmetic."""
    n, b, h, sc = (
        sizes[f"{name}"] for name in ("num_filters", "bottleneck_channels", "hidden_channels", "skip_channels")
    )
    p, blocks = sizes["kernel_size"], sizes["blocks_per_stack"]
    stride = round(sizes["window_ms"] / 1000 * sample_rate / 2)
    window, frame_rate = 2 * stride, sample_rate / stride
    collected = sc or b  # channels of what the stacks give

    norm = 2 * h
    block_parameters = (b * h + h) + 1 + norm + (p * h + h) + 1 + norm + (h * b + b)
    block_macs = b * h + p * h + h * b
    if sc is not None:
        block_parameters += h * sc + sc
        block_macs += h * sc
    num_blocks = blocks * (sizes["shared_stacks"] + sizes["mask_stacks"])
    parameters = window * n + 2 * n + (n * b + b)  # encoder, norm, bottleneck
    parameters += num_blocks * block_parameters
    parameters += 1 + (collected * b + b) + 1 + (collected * n + n)  # PReLU and 1x1 behind shared and mask stacks
    parameters += num_classes * b + n * window  # query embedding, decoder
    macs_per_frame = window * n + n * b + num_blocks * block_macs + collected * b + collected * n + n * window
    macs = frame_rate * macs_per_frame  # the query embedding runs once a query, not once a frame

    classifier_parameters, classifier_macs = 0, 0.0
    if classifier is not None:
        hidden = sizes.get("classifier_hidden_size") or b // 2
        per_step = 0
        for layer in range(classifier.num_layers):
            wide = b if layer == 0 else 2 * hidden
            matrices = 2 * 3 * hidden * (wide + hidden)  # two directions, three gates
            per_step += matrices
            classifier_parameters += matrices + 2 * 3 * hidden * 2
        per_step += 2 * hidden * num_classes
        classifier_parameters += 2 * hidden * num_classes + num_classes
        classifier_macs = frame_rate / sizes["classifier_pooling"] * per_step
    return Cost(
        parameters + classifier_parameters,
        classifier_parameters,
        1e-9 * (macs + classifier_macs),
        1e-9 * classifier_macs,
    )


def assert_same(cost, expected):
    assert cost.parameters == expected.parameters
    assert cost.parameters_classifier == expected.parameters_classifier
    assert cost.gmac_per_second == pytest.approx(expected.gmac_per_second, rel=1e-12)
    assert cost.gmac_per_second_classifier == pytest.approx(expected.gmac_per_second_classifier, rel=1e-12)


def test_the_cost_of_the_papers_network_equals_a_count_by_hand():
    sizes = sizes_of("paper")
    cost = measured(sizes, ClassifierConfig())
    assert_same(cost, counted(sizes, ClassifierConfig()))
    extractor = cost.parameters - cost.parameters_classifier
    extractor_gmac = cost.gmac_per_second - cost.gmac_per_second_classifier
    assert extractor == 12_996_162
    assert extractor_gmac == pytest.approx(5.15, abs=0.005)
    assert 100 * cost.parameters_classifier / extractor == pytest.approx(4.64, abs=0.005)
    assert 100 * cost.gmac_per_second_classifier / extractor_gmac == pytest.approx(4.66, abs=0.005)


def test_the_cost_of_the_wide_network_equals_a_count_by_hand():
    sizes = sizes_of("paper_wide")
    cost = measured(sizes, None)
    assert_same(cost, counted(sizes, None))
    assert cost.parameters == 51_551_298
    assert cost.gmac_per_second == pytest.approx(20.52, abs=0.005)


def test_the_default_sizes_are_those_of_the_papers_file():
    assert NetworkConfig(**sizes_of("paper")) == NetworkConfig()


@pytest.mark.parametrize(
    ("changes", "classifier"),
    [
        ({}, ClassifierConfig()),
        ({"skip_channels": None, "classifier_hidden_size": 5}, ClassifierConfig(3)),
        ({"skip_channels": None}, None),
        ({"classifier_pooling": 8}, ClassifierConfig()),
        (
            {"classifier_pooling": 3, "kernel_size": 5, "mask_stacks": 2, "classifier_hidden_size": 7},
            ClassifierConfig(1),
        ),
    ],
)
@pytest.mark.parametrize("sample_rate", [8000, 11025])
def test_the_cost_of_any_network_equals_a_count_by_hand(changes, classifier, sample_rate):
    sizes = {"num_filters": 12, "window_ms": 5.0, "bottleneck_channels": 8, "hidden_channels": 14, "skip_channels": 6}
    sizes |= {"kernel_size": 3, "blocks_per_stack": 2, "shared_stacks": 1, "mask_stacks": 1, "classifier_pooling": 1}
    sizes |= changes
    expected = counted(sizes, classifier, num_classes=5, sample_rate=sample_rate)
    assert_same(measured(sizes, classifier, num_classes=5, sample_rate=sample_rate), expected)


def test_without_classifier_its_part_is_nothing():
    cost = measured(sizes_of("small"), None, num_classes=12, sample_rate=8000)
    assert cost.parameters_classifier == 0
    assert cost.gmac_per_second_classifier == 0.0


def test_the_file_of_the_small_network_states_its_size():
    assert measured(sizes_of("small"), ClassifierConfig(), 12, 8000).parameters == pytest.approx(0.479e6, abs=0.001e6)


def test_frozen_parameters_are_counted():
    network = Network(5, 8000, TINY)
    assert count_parameters(network) == sum(p.numel() for p in network.state_dict().values())
    assert count_parameters(None) == 0


def test_measuring_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    network = Network(5, 8000, TINY).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert measure_cost(network) == measure_cost(network)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_measuring_leaves_the_global_random_state_alone():
    network = Network(5, 8000, TINY)
    before = torch.get_rng_state()
    measure_cost(network)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_weights_precision_does_not_matter(dtype):
    network = Network(5, 8000, TINY)
    expected = measure_cost(network)
    assert measure_cost(network.to(dtype)) == expected
