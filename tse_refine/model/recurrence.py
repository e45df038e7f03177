"""The bidirectional GRU of the classifier, fast on a CPU.

PyTorch's own GRU on a CPU records every frame in the graph of autograd, and its backward pass replays them one by one:
at the full frame rate that took longer than all convolutions of the network. Here a layer is one operation: both
directions go through the frames together, and the backward pass computes all that does not depend on the order of the
frames, the gradients of the weights above all, in one product over all frames. Without gradients the same loop is the
faster one for a single recording; for several at once PyTorch's is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import linear

from tse_refine.model.precision import without_autocast


def run_gru(gru: nn.GRU, frames: Tensor) -> Tensor:
    """Return the output of a bidirectional GRU that starts from zeros, as ``gru(frames)[0]``.

    It is computed in the precision of the weights, also under autocast: in 16 bits it is slower, on a CPU and on a GPU.

    Args:
        gru: bidirectional, ``batch_first``, with biases and without dropout.
        frames: ``[batch, frames, inputs]``.

    Returns:
        ``[batch, frames, 2 * hidden]``: states of the forward direction, then of the backward direction.
    """
    with without_autocast(frames.device):
        weight: Tensor = gru.weight_ih_l0  # type: ignore[assignment]
        frames = frames.to(weight.dtype)
        if torch.compiler.is_compiling():  # the loop would become as many operations as there are frames
            return gru(frames)[0]
        frame_by_frame = frames.device.type == "cpu" and (torch.is_grad_enabled() or len(frames) == 1)
        if not frame_by_frame:
            return gru(frames)[0]
        sequence = frames.transpose(0, 1)
        for layer in range(gru.num_layers):
            sequence = _run_layer(gru, layer, sequence)
        return sequence.transpose(0, 1)


def _run_layer(gru: nn.GRU, layer: int, sequence: Tensor) -> Tensor:
    """Map ``[frames, batch, inputs]`` to ``[frames, batch, 2 * hidden]``."""

    def both(name: str) -> list[Tensor]:
        return [getattr(gru, f"{name}_l{layer}{suffix}") for suffix in ("", "_reverse")]

    projected = linear(sequence, torch.cat(both("weight_ih")), torch.cat(both("bias_ih")))
    forward, backward = projected.chunk(2, -1)
    inputs = torch.stack([forward, backward.flip(0)], 1)  # [frames, 2, batch, 3 * hidden]
    weight, bias = torch.stack(both("weight_hh")), torch.stack(both("bias_hh"))
    if torch.is_grad_enabled():
        states = _Recurrence.apply(inputs, weight, bias)
    else:
        scratch = inputs.new_empty(2, 1, *inputs.shape[1:]).expand(-1, len(inputs), -1, -1, -1)  # of one frame
        states = _run_frames(inputs, weight, bias, *scratch)[1:]
    return torch.cat([states[:, 0], states[:, 1].flip(0)], -1)


def _run_frames(inputs: Tensor, weight: Tensor, bias: Tensor, products: Tensor, gates: Tensor) -> Tensor:
    """Return the states before the first frame and after each, ``[frames + 1, directions, batch, hidden]``.

    ``products`` and ``gates`` receive u, and r, z and n (:class:`_Recurrence`), and are as large as ``inputs``.
    """
    frames, directions, batch, width = inputs.shape
    hidden = width // 3
    states = inputs.new_zeros(frames + 1, directions, batch, hidden)
    transposed = weight.transpose(1, 2).contiguous()
    offset = bias[:, None].expand(-1, batch, -1).contiguous()
    opening, candidate = gates.split((2 * hidden, hidden), -1)  # opening: reset and update gate
    parts = (
        states[:-1], states[1:], products, inputs[..., : 2 * hidden], products[..., : 2 * hidden], opening,
        opening[..., :hidden], opening[..., hidden:],
        inputs[..., 2 * hidden :], products[..., 2 * hidden :], candidate,
    )  # fmt: skip
    for h, following, u, x_rz, u_rz, rz, r, z, x_n, u_n, n in zip(*(part.unbind(0) for part in parts), strict=True):
        torch.baddbmm(offset, h, transposed, out=u)
        torch.add(x_rz, u_rz, out=rz).sigmoid_()
        torch.addcmul(x_n, r, u_n, out=n).tanh_()
        torch.lerp(n, h, z, out=following)
    return states


class _Recurrence(torch.autograd.Function):
    """The states of a GRU from the products of its inputs (Cho et al. 2014, arXiv 1406.1078, in PyTorch's form).

    With reset gate r, update gate z and candidate n of a frame, x the products of the inputs and u = W h + b those of
    the previous state h, the next state is n + z (h - n), where n = tanh(x_n + r u_n).
    """

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map inputs ``[frames, directions, batch, 3 * hidden]`` to states ``[frames, directions, batch, hidden]``.

        ``weight`` is ``[directions, 3 * hidden, hidden]``, ``bias`` ``[directions, 3 * hidden]``.
        """
        products, gates = torch.empty_like(inputs), torch.empty_like(inputs)
        states = _run_frames(inputs, weight, bias, products, gates)
        ctx.save_for_backward(states, products, gates, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of inputs, weight and bias."""
        states, products, gates, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        hidden = states.shape[-1]
        r, z, n = gates.split(hidden, -1)
        h, u_n = states[:-1], products[..., 2 * hidden :]
        # the gradients of a frame's products are these factors times the gradient of its state
        d_candidate = (1.0 - z) * (1.0 - n * n)
        factors = torch.stack([d_candidate * u_n * r * (1.0 - r), (h - n) * z * (1.0 - z), d_candidate * r], -2)
        d_states = gradient.clone()  # becomes the whole gradient of each state, from the last frame to the first
        d_products = torch.empty_like(factors)  # [frames, directions, batch, 3, hidden]
        per_frame = zip(*(part.unbind(0) for part in (d_states, z, factors, d_products)), strict=True)
        backwards = list(per_frame)[::-1]
        for number, (d_state, keep, factor, d_product) in enumerate(backwards):
            torch.mul(factor, d_state.unsqueeze(-2), out=d_product)
            if number + 1 < len(backwards):
                backwards[number + 1][0].addcmul_(keep, d_state).baddbmm_(d_product.flatten(-2), weight)
        d_inputs = torch.cat([d_products[..., :2, :].flatten(-2), d_candidate * d_states], -1)
        rows = d_products.flatten(-2).transpose(0, 1).flatten(1, 2)  # [directions, frames * batch, 3 * hidden]
        d_weight = rows.transpose(1, 2) @ h.transpose(0, 1).flatten(1, 2)
        return d_inputs, d_weight, rows.sum(1)
