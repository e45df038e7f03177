import copy

import pytest
import torch

from tse_refine.model.blocks import ConvStacks


def stacks(skip_channels, kernel_size=3, dtype=torch.float64):
    torch.manual_seed(0)
    built = ConvStacks(4, 6, skip_channels, kernel_size, blocks_per_stack=3, num_stacks=2, out_channels=7).to(dtype)
    with torch.no_grad():  # gains of 1 and biases of 0 would hide a swapped pair
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


def plain(built, features):
    """The stacks by their plain blocks."""
    total = None
    for block in built.blocks:
        features, skip = block(features)
        total = skip if total is None or skip is None else total + skip
    return built.output(features if total is None else total)


def trained(built, run, features):
    built, features = copy.deepcopy(built), features.clone().requires_grad_()
    output = run(built, features)
    output.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in built.named_parameters() if parameter.requires_grad}
    return {"output": output.detach(), "features": features.grad} | gradients


def fused(built, features):
    return built(features)


@pytest.mark.parametrize("skip_channels", [5, None])
@pytest.mark.parametrize(("batch", "frames", "kernel_size"), [(1, 1, 3), (3, 21, 3), (2, 32, 5)])
def test_values_and_gradients_of_fused_blocks_are_those_of_the_plain_ones(skip_channels, batch, frames, kernel_size):
    built = stacks(skip_channels, kernel_size)
    features = torch.randn(batch, 4, frames, dtype=torch.float64)
    torch.testing.assert_close(trained(built, fused, features), trained(built, plain, features), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("skip_channels", [5, None])
@torch.no_grad()
def test_in_evaluation_values_are_those_of_plain_blocks(skip_channels):
    built, features = stacks(skip_channels), torch.randn(2, 4, 30, dtype=torch.float64)
    torch.testing.assert_close(built(features), plain(built, features), rtol=1e-9, atol=1e-9)


def test_in_bfloat16_gradients_point_where_those_of_float32_do():
    built, features = stacks(5, dtype=torch.float32), torch.randn(4, 4, 60)

    def in_bfloat16(built, features):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return built(features).float()

    exact, rounded = trained(built, fused, features), trained(built, in_bfloat16, features)
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        assert torch.cosine_similarity(rounded[name].flatten(), value.flatten(), dim=0) > 0.99, name
