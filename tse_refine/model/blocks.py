"""The convolutional block of Conv-TasNet and stacks of it (Luo and Mesgarani 2019, arXiv 1809.07454, section II-C)."""

from __future__ import annotations

from torch import Tensor, nn


def global_layer_norm(channels: int) -> nn.GroupNorm:
    """Normalise over channels and frames together, with a gain and a bias for each channel."""
    return nn.GroupNorm(1, channels, eps=1e-8)


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
            global_layer_norm(hidden_channels),
            nn.Conv1d(
                hidden_channels,
                hidden_channels,
                kernel_size,
                padding=(kernel_size - 1) // 2 * dilation,
                dilation=dilation,
                groups=hidden_channels,
            ),
            nn.PReLU(),
            global_layer_norm(hidden_channels),
        )
        self.residual = nn.Conv1d(hidden_channels, channels, 1)
        self.skip = None if skip_channels is None else nn.Conv1d(hidden_channels, skip_channels, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``[batch, channels, frames]`` to the next features of the residual path and those of the skip path."""
        hidden = self.body(features)  # [batch, hidden_channels, frames]
        return features + self.residual(hidden), None if self.skip is None else self.skip(hidden)


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
        self.blocks = nn.ModuleList(
            ConvBlock(channels, hidden_channels, skip_channels, kernel_size, dilation=2**number)
            for _ in range(num_stacks)
            for number in range(blocks_per_stack)
        )
        if skip_channels is not None:
            self.blocks[-1].residual.requires_grad_(False)
        self.output = nn.Sequential(nn.PReLU(), nn.Conv1d(skip_channels or channels, out_channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[batch, channels, frames]`` to ``[batch, out_channels, frames]``."""
        total: Tensor | None = None
        for block in self.blocks:
            features, skip = block(features)
            if skip is not None:
                total = skip if total is None else total + skip
        return self.output(features if total is None else total)
