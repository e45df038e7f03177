"""The convolutional block of Conv-TasNet and stacks of it (Luo and Mesgarani 2019, arXiv 1809.07454, section II-C)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tse_refine.model.fused_block import FusedBlock

_CACHED_FLOATS = 2_500_000  # of a hidden layer of the items that go through the blocks together, 10 MB


class GlobalLayerNorm(nn.GroupNorm):
    """Normalises over channels and frames together, with a gain and a bias for each channel.

    On a GPU, PyTorch's group norm gives each item of a batch to one of its hundred or more processors, and took half
    of a training step; there the moments of the channels are computed first, and joined. In float32, also under
    autocast.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, eps=1e-8)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``[batch, channels, frames]``."""
        return self.by_channels(features) if features.device.type == "cuda" else super().forward(features)

    def by_channels(self, features: Tensor) -> Tensor:
        """Do the same from the moments of each channel."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            variances, means = torch.var_mean(features, 2, correction=0)  # [batch, channels]
            between, mean = torch.var_mean(means, 1, correction=0, keepdim=True)  # [batch, 1]
            deviation = torch.sqrt(variances.mean(1, keepdim=True) + between + self.eps)
            gain = self.weight / deviation
            return torch.addcmul((self.bias - mean * gain)[..., None], features, gain[..., None])


class ConvBlock(nn.Module):
    """1x1, PReLU, norm, depthwise dilated convolution, PReLU, norm, then 1x1 back (residual) and 1x1 aside (skip).

    Args:
        channels: width of the residual path (B).
        hidden_channels: width between the two 1x1 convolutions (H).
        skip_channels: width of the skip path (Sc); None for a block without one.
        kernel_size: length of the depthwise convolution (P), odd.
        dilation: dilation of the depthwise convolution.
    """

    def __init__(
        self, channels: int, hidden_channels: int, skip_channels: int | None, kernel_size: int, dilation: int
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, hidden_channels, 1),
            nn.PReLU(),
            GlobalLayerNorm(hidden_channels),
            nn.Conv1d(
                hidden_channels,
                hidden_channels,
                kernel_size,
                padding=(kernel_size - 1) // 2 * dilation,
                dilation=dilation,
                groups=hidden_channels,
            ),
            nn.PReLU(),
            GlobalLayerNorm(hidden_channels),
        )
        self.residual = nn.Conv1d(hidden_channels, channels, 1)
        self.skip = None if skip_channels is None else nn.Conv1d(hidden_channels, skip_channels, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``[batch, channels, frames]`` to the next features of the residual path and those of the skip path."""
        hidden = self.body(features)  # [batch, hidden_channels, frames]
        return features + self.residual(hidden), None if self.skip is None else self.skip(hidden)

    def forward_fused(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Do the same on a CPU with ``[batch, frames, channels]``, in the precision of autocast."""
        layers: list[Any] = list(self.body)
        conv_in, prelu_1, norm_1, depthwise, prelu_2, norm_2 = layers
        outputs: list[nn.Conv1d] = [self.residual] if self.skip is None else [self.residual, self.skip]
        w_out = torch.cat([output.weight for output in outputs])[..., 0]  # [channels + skip_channels, hidden_channels]
        b_out = torch.cat([output.bias for output in outputs if output.bias is not None])
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        with torch.autocast("cpu", enabled=False):
            features, skip = FusedBlock.apply(
                features.to(dtype),
                conv_in.weight[..., 0].to(dtype), conv_in.bias.to(dtype), prelu_1.weight, norm_1.weight, norm_1.bias,
                depthwise.weight.to(dtype), depthwise.bias.to(dtype), prelu_2.weight, norm_2.weight, norm_2.bias,
                w_out.to(dtype), b_out.to(dtype), depthwise.dilation[0], norm_1.eps,
            )  # fmt: skip
        return features, None if self.skip is None else skip


class ConvStacks(nn.Module):
    """Stacks of blocks with dilations 1, 2, 4, ..., then PReLU and a 1x1 convolution on their output.

    Their output is the sum of all skips, or, without a skip path, the end of the residual path. As in the public
    implementations every block has its residual 1x1, the last one too. Nothing reads that one's output when there is a
    skip path, so it is frozen: distributed training refuses trainable parameters without a gradient.

    Args:
        channels: width of the features (B).
        hidden_channels: width inside a block (H).
        skip_channels: width of the skip path (Sc); None for blocks without one.
        kernel_size: length of the depthwise convolutions (P), odd.
        blocks_per_stack: number of blocks in a stack (X).
        num_stacks: number of stacks (R).
        out_channels: width of the result.

    Attributes:
        checkpoint_activations: whether training keeps only what enters each block, and computes the rest anew in the
            backward pass: less memory, a third more work.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        skip_channels: int | None,
        kernel_size: int,
        blocks_per_stack: int,
        num_stacks: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.checkpoint_activations = False
        self.blocks = nn.ModuleList(
            ConvBlock(channels, hidden_channels, skip_channels, kernel_size, dilation=2**number)
            for _ in range(num_stacks)
            for number in range(blocks_per_stack)
        )
        if skip_channels is not None:
            self.blocks[-1].residual.requires_grad_(False)
        self.output = nn.Sequential(nn.PReLU(), nn.Conv1d(skip_channels or channels, out_channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[batch, channels, frames]`` to ``[batch, out_channels, frames]``.

        On a CPU the blocks are fused ones, and without gradients only as many items at a time go through all of them as
        fit the processor's caches.
        """
        if features.device.type != "cpu" or torch.compiler.is_compiling():
            return self._run(features, fused=False)
        if torch.is_grad_enabled():
            return self._run(features, fused=True)
        items = max(1, _CACHED_FLOATS // (features.shape[-1] * self.hidden_channels))
        parts = [self._run(part, fused=True) for part in features.split(items)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _run(self, features: Tensor, fused: bool) -> Tensor:
        if fused:
            features = features.transpose(1, 2).contiguous()
        total: Tensor | None = None
        for block in self.blocks:
            run: Any = block.forward_fused if fused else block
            if self.checkpoint_activations and torch.is_grad_enabled():
                features, skip = checkpoint(run, features, use_reentrant=False)
            else:
                features, skip = run(features)
            if skip is not None:
                total = skip if total is None else total + skip
        total = features if total is None else total
        return self.output(total.transpose(1, 2) if fused else total)
