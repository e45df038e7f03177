"""Where and how much ``benchmarks/gpu.py`` measures, and what its parts share."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import checkout  # noqa: F401
import torch
import yaml
from measuring import CLASSES, RATE, ROOT, network_config
from torch import Tensor

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.recipes import MixtureConfig
from tse_refine.model.network import Network, NetworkConfig

PUBLISHED = yaml.safe_load((ROOT / "configs" / "budget" / "paper.yaml").read_text())
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        models: names of ``configs/model``; the first is also loaded, evaluated and compiled.
        batch: mixtures per batch.
        seconds: length of a mixture.
        largest_batch: batch beyond which no larger one is tried.
        steps: training steps in a loop with the loader; more than 16 workers render ahead.
        pace: expected seconds of a part, over those with the published sizes on an H200.
        blocks_per_stack: fewer blocks than the models have, whose compilation would make a rehearsal long; not in the
            steps that are compared with other networks.
        matrix_size: rows of the matrices whose product is the machine's limit; null for as many as keep it busy.
            Processors without units for bfloat16 take minutes for large ones.
    """

    models: tuple[str, ...]
    batch: int
    seconds: float
    largest_batch: int
    steps: int
    pace: float
    blocks_per_stack: int | None = None
    matrix_size: int | None = None


# the batch is the data's default; beyond 512 mixtures tensors of paper_wide have more than 2^31 elements
FULL = Sizes(("paper", "paper_wide"), 8, PUBLISHED["data"]["mixture"]["duration_seconds"], 512, 50, pace=1.0)
TINY = Sizes(("small",), 2, 1.0, 6, 3, pace=0.1, blocks_per_stack=1, matrix_size=128)


@dataclass(frozen=True)
class Setting:
    """Where and how much is measured.

    Attributes:
        device: ``cuda`` or ``cpu``.
        sizes: how much is measured.
        repeats: rounds; a figure is their median.
        folder: folder for clip banks and runs.
    """

    device: str
    sizes: Sizes
    repeats: int
    folder: Path

    def mixture(self, batch: int | None = None) -> Tensor:
        """Return noise, ``[batch, samples]``, the same on every device."""
        generator = torch.Generator().manual_seed(0)
        shape = (batch or self.sizes.batch, round(self.sizes.seconds * RATE))
        return (0.1 * torch.randn(shape, generator=generator)).to(self.device)

    def config(self, name: str) -> NetworkConfig:
        """Return the sizes of a network."""
        config = network_config(name)
        return replace(config, blocks_per_stack=self.sizes.blocks_per_stack or config.blocks_per_stack)

    def network(self, name: str, num_classes: int = CLASSES) -> Network:
        """Build a network with the same weights each time."""
        torch.manual_seed(0)
        return Network(num_classes, RATE, self.config(name)).to(self.device)

    def precision(self, name: str) -> AbstractContextManager:
        """Return the context of ``float32``, or that of ``bfloat16`` under autocast."""
        return torch.autocast(self.device, torch.bfloat16) if name == "bfloat16" else nullcontext()

    def data(self, num_workers: int) -> MixtureDataModule:
        """Return mixtures of the synthetic corpus, with fewer recordings, since their number costs a loader nothing."""
        sizes, published = self.sizes, PUBLISHED["data"]
        share = sizes.seconds / published["mixture"]["duration_seconds"]
        shortest, longest = (share * seconds for seconds in published["mixture"]["event_seconds"])
        data = MixtureDataModule(
            SyntheticSounds(4, 1, 2),
            SyntheticBackgrounds(2, 1, 1),
            sample_rate=RATE,
            mixture=MixtureConfig(duration_seconds=sizes.seconds, event_seconds=(shortest, longest)),
            batch_size=sizes.batch,
            num_workers=num_workers,
            num_train=published["num_train"],
            cache_dir=str(self.folder / "cache"),
        )
        data.prepare_data()
        return data
