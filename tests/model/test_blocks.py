import numpy as np
import pytest
import torch
from torch import nn

from tse_refine.model.blocks import ConvBlock, ConvStacks, GlobalLayerNorm


def reference_norm(x, gain, bias):
    mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-8) * gain[None, :, None] + bias[None, :, None]


def reference_block(x, weights, dilation):
    """The block in float64 NumPy, loop by loop; the hidden features that both 1x1 convolutions read."""
    names = ("0.weight", "0.bias", "1.weight", "2.weight", "2.bias", "3.weight", "3.bias", "4.weight", "5.weight")
    w_in, b_in, slope_1, gain_1, bias_1, w_deep, b_deep, slope_2, gain_2 = (weights[f"body.{name}"] for name in names)
    hidden = np.einsum("hc,bct->bht", w_in[:, :, 0], x) + b_in[None, :, None]
    hidden = reference_norm(np.where(hidden > 0, hidden, slope_1 * hidden), gain_1, bias_1)
    half = w_deep.shape[-1] // 2
    deep = np.zeros_like(hidden) + b_deep[None, :, None]
    for tap in range(w_deep.shape[-1]):
        shift = (tap - half) * dilation
        for frame in range(x.shape[-1]):
            if 0 <= frame + shift < x.shape[-1]:
                deep[:, :, frame] += w_deep[:, 0, tap] * hidden[:, :, frame + shift]
    return reference_norm(np.where(deep > 0, deep, slope_2 * deep), gain_2, weights["body.5.bias"])


def in_float64(module):
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def scrambled(module):
    """Weights away from their initial values: gains of 1 and biases of 0 would hide a swapped pair."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def test_global_layer_norm_is_over_channels_and_frames_of_each_item():
    torch.manual_seed(0)
    norm = scrambled(GlobalLayerNorm(5))
    x = 3.0 + 2.0 * torch.randn(2, 5, 7)
    expected = reference_norm(x.double().numpy(), *(value for value in in_float64(norm).values()))
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, atol=1e-5)


def test_the_norm_by_channels_has_the_values_and_gradients_of_the_norm_of_all():
    torch.manual_seed(0)
    norm = scrambled(GlobalLayerNorm(5)).double()
    results = []
    for run in (norm, norm.by_channels):
        norm.zero_grad()
        x = (3.0 + 2.0 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1)).double()).requires_grad_()
        y = run(x)
        y.pow(3).sum().backward()
        results.append([y.detach(), x.grad, norm.weight.grad.clone(), norm.bias.grad.clone()])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kernel_size", "dilation"), [(3, 1), (3, 4), (5, 2)])
def test_block_equals_its_numpy_version(kernel_size, dilation):
    torch.manual_seed(0)
    block = scrambled(ConvBlock(4, 6, 5, kernel_size, dilation))
    x = torch.randn(2, 4, 11)
    weights = in_float64(block)
    hidden = reference_block(x.double().numpy(), weights, dilation)
    residual = np.einsum("ch,bht->bct", weights["residual.weight"][:, :, 0], hidden)
    skip = np.einsum("ch,bht->bct", weights["skip.weight"][:, :, 0], hidden)
    features, aside = block(x)
    expected = x.numpy() + residual + weights["residual.bias"][None, :, None]
    np.testing.assert_allclose(features.detach().numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(aside.detach().numpy(), skip + weights["skip.bias"][None, :, None], atol=1e-4)


def test_block_without_skip_path_has_no_skip_output_and_no_weights_for_it():
    block = ConvBlock(4, 6, None, 3, 1)
    assert block(torch.randn(1, 4, 9))[1] is None
    assert not [name for name, _ in block.named_parameters() if name.startswith("skip")]


@pytest.mark.parametrize("frames", [1, 2, 30])
@pytest.mark.parametrize("dilation", [1, 128])
def test_block_keeps_the_number_of_frames(frames, dilation):
    features, skip = ConvBlock(4, 6, 5, 3, dilation)(torch.randn(2, 4, frames))
    assert features.shape == (2, 4, frames)
    assert skip.shape == (2, 5, frames)


def test_block_sees_exactly_its_dilated_taps():
    torch.manual_seed(0)
    block = ConvBlock(4, 6, 5, kernel_size=3, dilation=4)
    block.body[2] = block.body[5] = nn.Identity()  # the norms mix all frames
    x = torch.randn(1, 4, 21)
    changed = x.clone()
    changed[..., 10] += 1.0
    difference = (block(changed)[1] - block(x)[1]).abs().sum((0, 1))
    assert torch.nonzero(difference)[:, 0].tolist() == [6, 10, 14]


def test_dilations_double_in_a_stack_and_start_again_in_the_next():
    stacks = ConvStacks(4, 6, 5, 3, blocks_per_stack=4, num_stacks=2, out_channels=3)
    assert [block.body[3].dilation for block in stacks.blocks] == [(1,), (2,), (4,), (8,)] * 2


def test_stacks_give_the_sum_of_all_skips():
    torch.manual_seed(0)
    stacks = ConvStacks(4, 6, 5, 3, blocks_per_stack=3, num_stacks=2, out_channels=7)
    x = torch.randn(2, 4, 20)
    features, skips = x, []
    for block in stacks.blocks:
        features, skip = block(features)
        skips.append(skip)
    expected = stacks.output(torch.stack(skips).sum(0))
    assert stacks(x).shape == (2, 7, 20)
    torch.testing.assert_close(stacks(x), expected)


def test_stacks_without_skip_path_give_the_end_of_the_residual_path():
    torch.manual_seed(0)
    stacks = ConvStacks(4, 6, None, 3, blocks_per_stack=3, num_stacks=1, out_channels=7)
    x = torch.randn(2, 4, 20)
    features = x
    for block in stacks.blocks:
        features = block(features)[0]
    torch.testing.assert_close(stacks(x), stacks.output(features))


def test_only_the_last_residual_is_frozen_and_only_beside_a_skip_path():
    def frozen(skip_channels):
        stacks = ConvStacks(4, 6, skip_channels, 3, blocks_per_stack=2, num_stacks=2, out_channels=3)
        return [name for name, parameter in stacks.named_parameters() if not parameter.requires_grad]

    assert frozen(5) == ["blocks.3.residual.weight", "blocks.3.residual.bias"]
    assert frozen(None) == []
