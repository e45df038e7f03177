"""The LightningModule: network, losses, optimiser."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from tse_refine.data.dataset import Batch
from tse_refine.errors import InputError
from tse_refine.evaluation.metrics import SNRI
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork, check_weights, load_network, training_options
from tse_refine.model.classifier import pooled_log_probability
from tse_refine.model.network import Network, NetworkConfig
from tse_refine.training.losses import clip_bce_loss, thresholded_snr_loss


class ExtractionModule(LightningModule):
    """Trains extraction and classification jointly: L = L_TSE + lambda L_SED (arXiv 2509.08292, section 3).

    Args:
        class_names: names of the classes by index; linked to the data.
        sample_rate: Hz; linked to the data.
        network: sizes of the network.
        loss_weight: weight of the classification loss (lambda; 10 is ours, the published value is lost).
        snr_max_db: SNR above which the extraction loss stops rewarding, dB.
        learning_rate: peak learning rate of the schedule.
        warmup_fraction: fraction of all steps in which the rate rises linearly; it then falls to 0 as a cosine.
        compile_stacks: compile the convolutional stacks (``torch.compile``), for a minute or two at the first step and
            at the first evaluation; needs a C++ compiler.
        checkpoint_activations: keep only what enters each block in training and compute the rest anew in the backward
            pass, for less memory and a third more work.
    """

    def __init__(
        self,
        class_names: list[str],
        sample_rate: int,
        network: NetworkConfig = NetworkConfig(),  # noqa: B008  a dataclass that is never changed
        loss_weight: float = 10.0,
        snr_max_db: float = 30.0,
        learning_rate: float = 5e-4,
        warmup_fraction: float = 0.1,
        compile_stacks: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        # plain types, so that a checkpoint loads without executing code; classes and sample rate follow the data, and
        # how the network is computed follows the command
        options = {"network": asdict(network), "loss_weight": loss_weight, "snr_max_db": snr_max_db}
        self.save_hyperparameters(options | {"learning_rate": learning_rate, "warmup_fraction": warmup_fraction})
        for name, value in (("loss_weight", loss_weight), ("learning_rate", learning_rate)):
            if not 0.0 <= value < math.inf:
                raise InputError(f"model.{name} is {value}; a finite number from 0 is expected.")
        if not math.isfinite(snr_max_db):
            raise InputError(f"model.snr_max_db is {snr_max_db}; a finite number of dB is expected.")
        if not 0.0 <= warmup_fraction < 1.0:
            raise InputError(f"model.warmup_fraction is {warmup_fraction}; a fraction from 0 to below 1 is expected.")
        self.class_names = list(class_names)
        self.sample_rate = sample_rate
        self.loss_weight = loss_weight
        self.snr_max_db = snr_max_db
        self.learning_rate = learning_rate
        self.warmup_fraction = warmup_fraction
        self.network = Network(len(class_names), sample_rate, network)
        if compile_stacks:
            self.network.compile_stacks()
        if checkpoint_activations:
            self.network.checkpoint_activations()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: str | torch.device = "cpu", **options: Any
    ) -> ExtractionModule:
        """Build the module of a checkpoint with its weights, in evaluation mode; the data are not needed.

        Args:
            checkpoint_path: checkpoint of a run.
            map_location: device of the module.
            options: options of the module that replace those of the checkpoint.

        Raises:
            InputError: as :func:`tse_refine.model.checkpoint.read_checkpoint`.
        """
        trained = load_network(checkpoint_path)
        options = training_options(checkpoint_path) | options | {"network": trained.network.config}
        module = cls(list(trained.class_names), trained.sample_rate, **options)
        module.network.load_state_dict(trained.network.state_dict())
        return module.to(map_location).eval()

    def forward(self, mixture: Tensor, query: Tensor) -> Tensor:
        """Extract the classes of ``query`` ``[batch, classes]`` from ``mixture`` ``[batch, samples]``."""
        return self.network(mixture, query)[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the total loss of a batch."""
        estimate, features = self.network(batch["mixture"], batch["query"])
        losses = self._losses(estimate, features.frame_logits, batch)
        if not torch.isfinite(losses["loss"]):
            indices = ", ".join(str(index) for index in batch["index"].tolist())
            raise InputError(
                f"training step {self.global_step} in epoch {self.current_epoch}: the loss is {losses['loss']}, of the "
                f"training mixtures {indices}. Either the training diverges, which a lower model.learning_rate or "
                "--trainer.precision 32-true avoids, or one of them is at fault: `tse-refine preview --split train "
                f"--epoch {self.current_epoch} --index N` with the data's options renders it."
            )
        active = (batch["query"] * batch["activity"]).sum(1) > 0  # a silent target has no SNRi
        if active.any():
            improvement = SNRI.of_signals(estimate.detach()[active], batch["target"][active], batch["mixture"][active])
            self.log("train/snri_db", improvement.mean().float(), prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in losses.items()}, prog_bar=True)
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the loss; return features and probabilities of the mixtures, for the evaluation callback."""
        features = self.network.features(batch["mixture"])
        estimate = self.network.extract(features, batch["query"])
        loss = self._losses(estimate, features.frame_logits, batch)["loss"]
        self.log("val/loss", loss, batch_size=len(batch["mixture"]), sync_dist=True)
        return {"features": features, "probability": features.probability()}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return features and probabilities of the mixtures, for the evaluation callback."""
        features = self.network.features(batch["mixture"])
        return {"features": features, "probability": features.probability()}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return features and probabilities of the mixtures, for the callback that writes extractions."""
        return self.test_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        """Adam; the rate rises linearly, then falls as a cosine, stepped with each optimiser step."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            raise InputError(
                "trainer.max_epochs is -1: the learning rate falls as a cosine to the end of the training, so the end "
                "must be fixed; set trainer.max_epochs or trainer.max_steps."
            )
        total = int(steps)
        warmup = max(1, round(self.warmup_fraction * total))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup)))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def setup(self, stage: str) -> None:
        """Reject data whose classes are not the network's."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:
            check_class_names(self.class_names, datamodule.class_names, "the network")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of the network and the digest of its data, in plain types."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        trained = TrainedNetwork(
            self.network, tuple(self.class_names), self.sample_rate, duration_seconds=data.mixture.duration_seconds
        )
        description = trained.description() | {"data_digest": data.digest}
        del description["recommended_threshold"]  # the evaluation callback's
        checkpoint.setdefault(CHECKPOINT_KEY, {}).update(description)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reject a checkpoint of another program or with other classes, also when their number is the same."""
        about, owner = checkpoint.get(CHECKPOINT_KEY), "the checkpoint (--ckpt_path)"
        if not isinstance(about, dict) or not {"class_names", "sample_rate"} <= about.keys():
            raise InputError(
                "--ckpt_path: the checkpoint was not written by tse-refine; expected is checkpoints/best.ckpt or "
                "last.ckpt of a run."
            )
        check_weights(checkpoint.get("state_dict", {}), owner)
        check_class_names(about["class_names"], self.class_names, owner)
        trained_rate = about["sample_rate"]
        if trained_rate != self.sample_rate:
            raise InputError(
                f"data.sample_rate is {self.sample_rate} Hz, but the checkpoint (--ckpt_path) was trained at "
                f"{trained_rate} Hz; use the data options of its run's config.yaml."
            )

    def _losses(self, estimate: Tensor, frame_logits: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        extraction = thresholded_snr_loss(estimate, batch["target"], batch["mixture"], self.snr_max_db).mean()
        if frame_logits is None:
            return {"loss": extraction, "loss_tse": extraction.detach()}
        classification = clip_bce_loss(*pooled_log_probability(frame_logits), batch["activity"])
        return {
            "loss": extraction + self.loss_weight * classification,
            "loss_tse": extraction.detach(),
            "loss_sed": classification.detach(),
        }


def check_class_names(trained: list[str], found: list[str], owner: str) -> None:
    """Reject data whose classes differ from those a network was built for.

    Args:
        trained: class names of the network by index.
        found: class names of the data.
        owner: holder of the network's names, for the message.

    Raises:
        InputError: the names or their order differ.
    """
    if trained == found:
        return
    only_trained = ", ".join(sorted(set(trained) - set(found))) or "none"
    only_found = ", ".join(sorted(set(found) - set(trained))) or "none"
    raise InputError(
        f"data.foregrounds has other classes than {owner}: {len(found)} against {len(trained)}; only in the data: "
        f"{only_found}; only in {owner}: {only_trained}. Use the data options of the run's config.yaml, or train on "
        "these data."
    )
