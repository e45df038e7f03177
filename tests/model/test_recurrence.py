import pytest
import torch
from torch import nn

from tse_refine.model.recurrence import run_gru


def gradients(gru, frames, run, weights):
    leaf = frames.clone().requires_grad_()
    gru.zero_grad()
    output = run(leaf)
    (output * weights).sum().backward()
    return {"output": output.detach(), "frames": leaf.grad} | {k: p.grad.clone() for k, p in gru.named_parameters()}


@pytest.mark.parametrize(("batch", "frames", "layers"), [(1, 1, 1), (3, 11, 2), (2, 40, 3)])
def test_values_and_gradients_in_training_are_those_of_the_gru_of_pytorch(batch, frames, layers):
    torch.manual_seed(0)
    gru = nn.GRU(5, 4, layers, batch_first=True, bidirectional=True).double()
    signal, weights = torch.randn(batch, frames, 5).double(), torch.randn(batch, frames, 8).double()
    ours = gradients(gru, signal, lambda leaf: run_gru(gru, leaf), weights)
    reference = gradients(gru, signal, lambda leaf: gru(leaf)[0], weights)
    torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_values_in_evaluation_are_those_of_the_gru_of_pytorch(batch):
    torch.manual_seed(0)
    gru = nn.GRU(5, 4, 2, batch_first=True, bidirectional=True).double()
    frames = torch.randn(batch, 30, 5).double()
    torch.testing.assert_close(run_gru(gru, frames), gru(frames)[0], rtol=1e-9, atol=1e-12)


def test_training_does_not_record_each_frame_for_the_backward_pass():
    gru = nn.GRU(5, 4, 1, batch_first=True, bidirectional=True)

    def nodes(frames):
        found, waiting = set(), [run_gru(gru, torch.randn(1, frames, 5)).grad_fn]
        while waiting:
            node = waiting.pop()
            if node is not None and node not in found:
                found.add(node)
                waiting += [following for following, _ in node.next_functions]
        return len(found)

    assert nodes(50) == nodes(3)


def test_on_a_cpu_the_recurrence_is_float32_under_autocast():
    torch.manual_seed(0)
    gru = nn.GRU(5, 4, 2, batch_first=True, bidirectional=True)
    frames = torch.randn(2, 9, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained = run_gru(gru, frames)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        evaluated = run_gru(gru, frames)
    assert trained.dtype == evaluated.dtype == torch.float32
    torch.testing.assert_close(trained, gru(frames)[0])
    torch.testing.assert_close(trained, evaluated)
