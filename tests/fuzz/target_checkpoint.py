"""Checkpoints: every key of the dictionary, and the bytes of the archive."""

from __future__ import annotations

import io
import math
from random import Random
from types import SimpleNamespace
from typing import Any

import torch

from tests.fuzz.mutating import damaged_value, odd_value
from tests.fuzz.targets import scratch
from tse_refine.model.checkpoint import TrainedNetwork, load_network, training_options
from tse_refine.model.classifier import ClassifierConfig
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.training.module import ExtractionModule

INPUTS = 0.02


def seeds() -> list[bytes]:
    config = NetworkConfig(8, 10.0, 4, 4, 4, 3, 1, 1, 1, 4, ClassifierConfig(1), True, classifier_hidden_size=4)
    torch.manual_seed(0)
    trained = TrainedNetwork(Network(2, 8000, config).eval(), ("a", "b"), 8000, 0.2, 2.0, aliases={"a": ("first",)})
    trained.save(scratch("checkpoint") / "seed.ckpt")
    alone = (scratch("checkpoint") / "seed.ckpt").read_bytes()
    module = ExtractionModule(["a", "b"], 8000, config)
    content = {"state_dict": module.state_dict(), "epoch": 3, "optimizer_states": [{"state": {}}]}
    content["hyper_parameters"] = dict(module.hparams)
    data = SimpleNamespace(digest="0123", mixture=SimpleNamespace(duration_seconds=2.0), aliases=trained.aliases)
    module._trainer = SimpleNamespace(datamodule=data)
    module.on_save_checkpoint(content)
    return [alone, _bytes(content)]


def mutate(data: bytes, rng: Random) -> bytes:
    """Damage the dictionary; three times in four outside of the weights, which are most of it."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    if rng.random() < 0.75:
        weights = content.pop("state_dict")
        damaged = damaged_value(content, rng, _odd)
        return _bytes({**damaged, "state_dict": weights} if isinstance(damaged, dict) else damaged)
    return _bytes(damaged_value({**content, "state_dict": dict(content["state_dict"])}, rng, _odd))


def _odd(rng: Random) -> Any:
    kind = rng.randrange(6)
    if kind == 0:
        shape = rng.choice(((), (0,), (1,), (8, 1, 80), (4, 4, 1), (4,), (2, 4)))
        return torch.full(shape, rng.choice((0.5, math.nan, math.inf)), dtype=rng.choice((torch.float32, torch.half)))
    if kind == 1:  # large for its bytes
        return torch.zeros(1).expand(rng.choice(((8, 1, 80), (10**6, 10**6), (4, 4, 1))))
    if kind == 2:
        return rng.choice(
            (torch.zeros(4, dtype=torch.int64), torch.zeros(4, device="meta"), torch.eye(4).to_sparse(), {1, 2}, b"x")
        )
    if kind == 3:
        return rng.choice((10**6, 10**9, 4, 8, 24, 2**31 - 1, 10**300))
    return odd_value(rng)


def _bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def check(data: bytes) -> None:
    path = scratch("checkpoint") / "best.ckpt"
    path.unlink(missing_ok=True)  # an earlier one may still be mapped
    path.write_bytes(data)
    trained = load_network(path)
    training_options(path)
    assert all(parameter.isfinite().all() for parameter in trained.network.parameters())
    aliases = [word for words in trained.aliases.values() for word in words]
    assert all(name.isprintable() for name in (*trained.class_names, *aliases))
    assert math.isfinite(trained.duration_seconds)
