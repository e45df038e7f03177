"""A network compiled, or with activation checkpointing, computes what it computes without."""

import copy
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from tse_refine.errors import InputError
from tse_refine.model import blocks
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig

TINY = NetworkConfig(8, 5.0, 6, 8, 6, 3, 1, 1, 1, 8, ClassifierConfig())


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network(3, 8000, TINY)


def batch(size, samples):
    mixture = torch.randn(size, samples, generator=torch.Generator().manual_seed(1))
    return mixture, torch.eye(3)[:1].expand(size, -1)


def step(network, size=4, samples=801):
    network.zero_grad()
    estimate, features = network(*batch(size, samples))
    (estimate.square().mean() + features.frame_logits.square().mean()).backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in network.named_parameters() if parameter.grad is not None
    }
    return {"estimate": estimate.detach(), "logits": features.frame_logits.detach()} | gradients


@torch.no_grad()
def evaluate(network, size=4, samples=801):
    return network(*batch(size, samples))[0]


def test_a_compiled_network_computes_the_same_and_is_compiled_anew_for_no_batch_or_length(network, monkeypatch):
    # PyTorch captures and differentiates the graphs as always; compiling their C++ would take a minute
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    compiled = copy.deepcopy(network)
    compiled.compile_stacks()
    assert list(compiled.state_dict()) == list(network.state_dict())
    for size, samples in ((4, 801), (3, 1203)):
        step(compiled, size, samples)
        evaluate(compiled, size, samples)
    compiled_graphs = counters["stats"]["unique_graphs"]
    assert compiled_graphs > 0
    for size, samples in ((2, 999), (5, 801), (7, 2500)):
        torch.testing.assert_close(step(compiled, size, samples), step(network, size, samples), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(evaluate(compiled, size, samples), evaluate(network, size, samples))
    assert counters["stats"]["unique_graphs"] == compiled_graphs


def test_compilation_without_a_compiler_is_refused(network, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, and there is no no-such-compiler here"):
        network.compile_stacks()


def test_activation_checkpointing_changes_no_value_and_no_gradient(network):
    checkpointed = copy.deepcopy(network)
    checkpointed.checkpoint_activations()
    torch.testing.assert_close(step(checkpointed), step(network), rtol=0, atol=0)
    torch.testing.assert_close(evaluate(checkpointed), evaluate(network), rtol=0, atol=0)


def test_activation_checkpointing_keeps_less_for_the_backward_pass(network):
    def kept():
        numbers = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: numbers.append(tensor.numel()), lambda _: None):
            network.mask_estimator(torch.randn(4, 6, 100))
        return sum(numbers)

    whole = kept()
    network.checkpoint_activations()
    assert kept() < 0.6 * whole


def test_in_evaluation_a_batch_in_parts_gives_what_it_gives_whole(network, monkeypatch):
    whole = evaluate(network, size=5)
    monkeypatch.setattr(blocks, "_CACHED_FLOATS", 2 * 42 * TINY.hidden_channels)  # two items at a time
    sizes = []

    def recorded(features, *weights, apply=blocks.FusedBlock.apply):
        sizes.append(len(features))
        return apply(features, *weights)

    monkeypatch.setattr(blocks.FusedBlock, "apply", recorded)
    torch.testing.assert_close(evaluate(network, size=5), whole)
    assert sizes == 2 * [2, 2, 1]  # both stacks
