"""The convolutional block as one operation with a backward pass of its own, for training on a CPU.

Features are frames-major here, ``[batch, frames, channels]``: 1x1 convolutions are then plain matrix products, and the
residual and the skip one product. Only what enters the two PReLUs is kept for the backward pass, which computes the
norms' outputs anew; PyTorch's own backward passes of PReLU and of the norm cost as much as the products.
:class:`tse_refine.model.blocks.ConvBlock` is the plain implementation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import conv2d, leaky_relu

aten = torch.ops.aten


class FusedBlock(torch.autograd.Function):
    """1x1, PReLU, norm, depthwise dilated convolution, PReLU, norm, then one product for residual and skip."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        w_in: Tensor, b_in: Tensor, slope_1: Tensor, gain_1: Tensor, bias_1: Tensor,
        w_deep: Tensor, b_deep: Tensor, slope_2: Tensor, gain_2: Tensor, bias_2: Tensor,
        w_out: Tensor, b_out: Tensor,
        dilation: int, eps: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Map features ``[batch, frames, channels]`` to the next features and the skip.

        ``w_in`` is ``[hidden, channels]``, ``w_deep`` ``[hidden, 1, kernel]`` and ``w_out`` ``[channels + skip,
        hidden]``, all of the features' dtype; gains, biases and slopes of norms and PReLUs are float32 or float64.
        """
        entering_1 = torch.addmm(b_in, x.flatten(0, 1), w_in.t()).view(*x.shape[:2], -1)
        hidden, *statistics_1 = _norm(leaky_relu(entering_1, slope_1.item()), gain_1, bias_1, eps)
        entering_2 = _depthwise(hidden, w_deep, b_deep, dilation)
        hidden, *statistics_2 = _norm(leaky_relu(entering_2, slope_2.item()), gain_2, bias_2, eps)
        outputs = torch.addmm(b_out, hidden.flatten(0, 1), w_out.t()).view(*x.shape[:2], -1)
        ctx.save_for_backward(
            x, entering_1, entering_2, *statistics_1, *statistics_2,
            w_in, slope_1, gain_1, bias_1, w_deep, slope_2, gain_2, bias_2, w_out,
        )  # fmt: skip
        ctx.dilation = dilation  # type: ignore[attr-defined]
        residual, skip = outputs.split((x.shape[-1], len(w_out) - x.shape[-1]), -1)
        return x + residual, skip.contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, d_features: Tensor, d_skip: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the features and of each parameter."""
        (x, entering_1, entering_2, mean_1, scale_1, mean_2, scale_2,
         w_in, slope_1, gain_1, bias_1, w_deep, slope_2, gain_2, bias_2, w_out) = ctx.saved_tensors  # type: ignore[attr-defined]  # fmt: skip
        d_outputs = torch.cat([d_features, d_skip], -1).flatten(0, 1)
        active = leaky_relu(entering_2, slope_2.item())
        normed = _normalised(active, mean_2, scale_2, gain_2, bias_2).flatten(0, 1)
        d_w_out, d_b_out = d_outputs.t() @ normed, d_outputs.sum(0)
        d_normed = (d_outputs @ w_out).view_as(active)
        d_active, d_gain_2, d_bias_2 = _norm_backward(d_normed, active, mean_2, scale_2, gain_2)
        d_entering, d_slope_2 = _prelu_backward(d_active, entering_2, slope_2)
        active = leaky_relu(entering_1, slope_1.item())
        normed = _normalised(active, mean_1, scale_1, gain_1, bias_1)
        d_normed, d_w_deep, d_b_deep = _depthwise_backward(d_entering, normed, w_deep, ctx.dilation)  # type: ignore[attr-defined]
        d_active, d_gain_1, d_bias_1 = _norm_backward(d_normed.contiguous(), active, mean_1, scale_1, gain_1)
        d_entering, d_slope_1 = _prelu_backward(d_active, entering_1, slope_1)
        d_entering = d_entering.flatten(0, 1)
        d_w_in, d_b_in = d_entering.t() @ x.flatten(0, 1), d_entering.sum(0)
        d_x = torch.addmm(d_features.flatten(0, 1), d_entering, w_in).view_as(x)
        return (
            d_x, d_w_in, d_b_in, d_slope_1, d_gain_1, d_bias_1,
            d_w_deep, d_b_deep, d_slope_2, d_gain_2, d_bias_2, d_w_out, d_b_out, None, None,
        )  # fmt: skip


def _as_image(frames: Tensor, rows: int = 1) -> Tensor:
    """View ``[batch, frames, channels]`` as ``[batch, channels, frames / rows, rows]``, channels last in memory."""
    return frames.unflatten(1, (-1, rows)).permute(0, 3, 1, 2)


def _as_frames(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 1).flatten(1, 2)


def _norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the normalised features, and mean and inverse deviation of each item."""
    batch, frames, channels = x.shape
    y, mean, scale = aten.native_group_norm(_as_image(x), gain, bias, batch, channels, frames, 1, eps)
    return _as_frames(y), mean, scale


def _normalised(x: Tensor, mean: Tensor, scale: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    gain = scale * gain  # [batch, channels]
    return torch.addcmul((bias - mean * gain)[:, None].to(x.dtype), x, gain[:, None].to(x.dtype))


def _norm_backward(d_y: Tensor, x: Tensor, mean: Tensor, scale: Tensor, gain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, frames, channels = x.shape
    sizes = (batch, channels, frames, 1)
    d_x, d_gain, d_bias = aten.native_group_norm_backward(
        _as_image(d_y), _as_image(x), mean, scale, gain, *sizes, [True, True, True]
    )
    return _as_frames(d_x), d_gain, d_bias


def _padded(frames: Tensor, dilation: int) -> Tensor:
    missing = -frames.shape[1] % dilation
    if missing == 0:
        return frames
    return torch.cat([frames, frames.new_zeros(len(frames), missing, frames.shape[2])], 1)


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Convolve; frames a dilation apart are a column of an image, along which the convolution has no dilation."""
    image = _as_image(_padded(x, dilation), dilation)
    y = conv2d(image, weight[..., None], bias, padding=(weight.shape[-1] // 2, 0), groups=x.shape[2])
    return _as_frames(y)[:, : x.shape[1]].contiguous()


def _depthwise_backward(d_y: Tensor, x: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, Tensor, Tensor]:
    channels, half = x.shape[2], weight.shape[-1] // 2
    d_x, d_weight, d_bias = aten.convolution_backward(
        _as_image(_padded(d_y, dilation), dilation), _as_image(_padded(x, dilation), dilation), weight[..., None],
        [channels], (1, 1), (half, 0), (1, 1), False, (0, 0), channels, (True, True, True),
    )  # fmt: skip
    return _as_frames(d_x)[:, : x.shape[1]], d_weight[..., 0], d_bias


def _prelu_backward(d_y: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    negative = x.clamp(max=0)
    if x.dtype == torch.bfloat16:  # a sum in bfloat16 would lose most of it
        d_slope = (negative * d_y).sum(dtype=torch.float32).to(slope.dtype)
    else:
        d_slope = torch.dot(negative.view(-1), d_y.reshape(-1))
    return aten.leaky_relu_backward(d_y, x, slope.item(), False), d_slope.reshape(1)
