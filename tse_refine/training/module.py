"""The LightningModule: network, losses, optimiser."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from tse_refine.data.dataset import Batch
from tse_refine.errors import InputError
from tse_refine.evaluation.metrics import SNRI
from tse_refine.files.atomic import normalized_name
from tse_refine.model.checkpoint import CHECKPOINT_KEY, TrainedNetwork, check_weights, load_network, training_options
from tse_refine.model.classifier import pooled_log_probability
from tse_refine.model.mel_classifier import MelClassifier
from tse_refine.model.network import Features, Network, NetworkConfig
from tse_refine.refinement import parse_refinement
from tse_refine.training.initialization import copy_weights, freeze_parts
from tse_refine.training.losses import clip_bce_loss, frame_activity, frame_bce_loss, thresholded_snr_loss
from tse_refine.training.processes import mean_over_processes


class ExtractionModule(LightningModule):
    """Trains extraction and classification jointly: L = L_TSE + lambda L_SED (arXiv 2509.08292, section 3).

    Args:
        class_names: names of the classes by index; linked to the data.
        sample_rate: Hz; linked to the data.
        network: sizes of the network.
        loss_weight: weight of the classification loss (lambda; 10 is ours, the published value is lost).
        frame_loss_weight: weight, within the classification loss, of the cross-entropy of frame probabilities, since
            mixtures that are generated tell when each class sounds; 0, the published training, knows only which.
        spectrum_augmentation: shift and mask bands of the mel classifier's spectrogram in training
            (:func:`tse_refine.model.mel_classifier.augmented`), so that it learns less of single recordings by heart.
        extraction: train the extractor too; without it the classifier alone, in minutes, for ``classifier_from``.
        classifier_from: checkpoint of a run whose classifier is used as it is and stays fixed; null to train it.
        init_from: checkpoint whose weights the training starts from, also one of other classes: what belongs to a class
            is copied for the classes that both know (:func:`tse_refine.training.initialization.copy_weights`); null to
            draw all weights.
        freeze: parts of the network that stay as they are, such as ``[encoder, decoder]``.
        query_refinement: refinement, such as ``soft:0.05-0.3``, that training queries go through late in the training,
            with the classifier's own decisions, wrong ones too, while targets stay; null for the published training.
        query_refinement_start: fraction of all steps after which they do; until then a context (``network.context``)
            is of the true activity, from then on of the classifier's probabilities.
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
        frame_loss_weight: float = 0.0,
        spectrum_augmentation: bool = False,
        extraction: bool = True,
        classifier_from: str | None = None,
        init_from: str | None = None,
        freeze: list[str] = [],  # noqa: B006  never changed
        query_refinement: float | str | None = None,
        query_refinement_start: float = 0.5,
        snr_max_db: float = 30.0,
        learning_rate: float = 5e-4,
        warmup_fraction: float = 0.1,
        compile_stacks: bool = False,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        # plain types, so that a checkpoint loads without executing code; classes and sample rate follow the data, and
        # how the network is computed follows the command
        numbers = {"loss_weight": loss_weight, "frame_loss_weight": frame_loss_weight, "learning_rate": learning_rate}
        others = {"snr_max_db": snr_max_db, "warmup_fraction": warmup_fraction, "extraction": extraction}
        self.save_hyperparameters({"network": asdict(network)} | numbers | others)
        for name, value in numbers.items():
            if not 0.0 <= value < math.inf:
                raise InputError(f"model.{name} is {value}; a finite number from 0 is expected.")
        if network.classifier is None:
            if not extraction or classifier_from is not None:
                raise InputError(
                    "model.network.classifier is null, but model.extraction false and model.classifier_from are about "
                    "a classifier; stack an experiment that has one."
                )
        elif classifier_from is not None and (not extraction or network.classifier.input == "shared"):
            raise InputError(
                "model.classifier_from fixes a classifier while the extractor is trained, so model.extraction must be "
                "true and model.network.classifier.input mel: one on the shared features changes with them."
            )
        if spectrum_augmentation and (network.classifier is None or network.classifier.input != "mel"):
            raise InputError(
                "model.spectrum_augmentation is true, but there is no classifier on a spectrogram; set "
                "model.network.classifier.input to mel, or leave it out."
            )
        if not math.isfinite(snr_max_db):
            raise InputError(f"model.snr_max_db is {snr_max_db}; a finite number of dB is expected.")
        for name, value in (("warmup_fraction", warmup_fraction), ("query_refinement_start", query_refinement_start)):
            if not 0.0 <= value < 1.0:
                raise InputError(f"model.{name} is {value}; a fraction from 0 to below 1 is expected.")
        rule = None if query_refinement is None else parse_refinement(query_refinement, "model.query_refinement")
        if rule is not None and (network.classifier is None or not rule.recommendable):
            raise InputError(
                f"model.query_refinement is {query_refinement!r}; a rule that decides by the classifier, such as "
                "soft:0.05-0.3, and a network with a classifier are expected."
            )
        self.class_names = list(map(normalized_name, class_names))
        self.sample_rate = sample_rate
        self.loss_weight = loss_weight
        self.frame_loss_weight = frame_loss_weight
        self.spectrum_augmentation = spectrum_augmentation
        self.extraction = extraction
        self.classifier_from = classifier_from
        self.init_from = init_from
        self.frozen = tuple(freeze)
        self._resumed = False
        self.query_refinement = rule
        self.query_refinement_start = query_refinement_start
        self.snr_max_db = snr_max_db
        self.learning_rate = learning_rate
        self.warmup_fraction = warmup_fraction
        self.network = Network(len(class_names), sample_rate, network)
        freeze_parts(self.network, self.frozen)
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
        if self.spectrum_augmentation:
            assert isinstance(self.network.classifier, MelClassifier)
            # of its own numbers, so that a resumed training goes on as if it had not been stopped
            numbers = (torch.initial_seed(), self.current_epoch, batch_idx, self.global_rank)
            seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
            self.network.classifier.augmentation = torch.Generator().manual_seed(seed)
        if self.extraction:
            features = self.network.features(batch["mixture"])
            estimate = self._extract_in_training(features, batch)
            losses = self._losses(estimate, features.frame_logits, batch)
            active = (batch["query"] * batch["activity"]).sum(1) > 0  # a silent target has no SNRi
            improvement = SNRI.of_signals(estimate.detach(), batch["target"], batch["mixture"])
            improvement = torch.where(active, improvement, 0.0).sum().float()
            logged = losses | {"snri_db": improvement, "active": active.sum()}
        else:
            logged = losses = self._losses(None, self.network.classify(batch["mixture"]), batch)
        logged = mean_over_processes(logged)
        if not torch.isfinite(logged["loss"]):
            raise InputError(self._diverged(losses["loss"], batch))
        num_active = logged.pop("active", 0)
        if num_active > 0:
            logged["snri_db"] /= num_active
        else:
            logged.pop("snri_db", None)
        self.log_dict({f"train/{name}": value for name, value in logged.items()}, prog_bar=True)
        return losses["loss"]

    def _diverged(self, loss: Tensor, batch: Batch) -> str:
        step = f"training step {self.global_step} in epoch {self.current_epoch}"
        if torch.isfinite(loss):
            return f"{step}: the loss of another process is not finite; its message names the mixtures."
        indices = ", ".join(str(index) for index in batch["index"].tolist())
        return (
            f"{step}: the loss is {loss}, of the training mixtures {indices}. Either the training diverges, which a "
            "lower model.learning_rate or --trainer.precision 32-true avoids, or one of them is at fault: `tse-refine "
            f"preview --split train --epoch {self.current_epoch} --index N` with the data's options renders it."
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Log the loss; return features and probabilities of the mixtures, for the evaluation callback."""
        outputs = self.test_step(batch, batch_idx)
        features, estimate = outputs["features"], None
        if self.extraction:
            estimate = self.network.extract(features, batch["query"])
        loss = self._losses(estimate, features.frame_logits, batch)["loss"]
        self.log("val/loss", loss, batch_size=len(batch["mixture"]), sync_dist=True)
        return outputs

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
        """Reject data whose classes are not the network's; fix what is not trained."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is not None:
            check_class_names(self.class_names, datamodule.class_names, "the network")
        self.network.classifier_parts().requires_grad_(self.classifier_from is None)
        self.train(self.training)
        if not self.extraction:
            self.network.extractor_parts().requires_grad_(False)
        freeze_parts(self.network, self.frozen)
        if stage == "fit" and not any(weight.requires_grad for weight in self.parameters()):
            raise InputError("model.freeze leaves nothing to train; leave out a part.")

    def on_fit_start(self) -> None:
        """Take over weights of other runs; a resumed training has them in its own checkpoint."""
        if self._resumed:
            return
        if self.init_from is not None:
            option = f"model.init_from: {self.init_from}"
            copied = copy_weights(self.network, self.class_names, load_network(self.init_from), option)
            self.print(f"{option}: {copied}")
        if self.classifier_from is not None:
            self._take_classifier(self.classifier_from)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the description of the network and the digest of its data, in plain types."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        trained = TrainedNetwork(
            self.network,
            tuple(self.class_names),
            self.sample_rate,
            duration_seconds=data.mixture.duration_seconds,
            extracts=self.extraction,
            aliases=data.aliases,
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
        self._resumed = True
        check_weights(checkpoint.get("state_dict", {}), owner)
        check_class_names(about["class_names"], self.class_names, owner)
        trained_rate = about["sample_rate"]
        if trained_rate != self.sample_rate:
            raise InputError(
                f"data.sample_rate is {self.sample_rate} Hz, but the checkpoint (--ckpt_path) was trained at "
                f"{trained_rate} Hz; use the data options of its run's config.yaml."
            )

    def train(self, mode: bool = True) -> ExtractionModule:
        """Switch to training or evaluation; parts that are fixed keep the statistics of their batch norms."""
        super().train(mode)
        fixed = (*self.frozen, *(["classifier"] if self.classifier_from is not None else []))
        for part in fixed:
            self.network.get_submodule(part).eval()
        return self

    def _take_classifier(self, path: str) -> None:
        """Take the classifier of another run over, and fix it."""
        option = f"model.classifier_from: {path}"
        trained = load_network(path)
        check_class_names(list(trained.class_names), self.class_names, option)
        theirs, own = trained.network.classifier, self.network.classifier
        assert own is not None
        weights = {} if theirs is None else theirs.state_dict()
        shapes = [{name: weight.shape for name, weight in part.items()} for part in (weights, own.state_dict())]
        if trained.sample_rate != self.sample_rate or shapes[0] != shapes[1]:
            raise InputError(
                f"{option} has another classifier than this network: {trained.network.config.classifier} at "
                f"{trained.sample_rate} Hz, but {self.network.config.classifier} at {self.sample_rate} Hz is expected. "
                "Use the model and data options of its run."
            )
        own.load_state_dict(weights)

    def _extract_in_training(self, features: Features, batch: Batch) -> Tensor:
        """Extract with the truth early in the training, and late with what the classifier makes of it."""
        query = batch["query"]
        if self.query_refinement is None and not self.network.config.context:
            return self.network.extract(features, query)
        if self.global_step < self.query_refinement_start * self.trainer.estimated_stepping_batches:
            return self.network.extract(features, query, batch["activity"])
        if self.query_refinement is not None:
            probability = features.probability()
            assert probability is not None
            query = self.query_refinement(query, probability.detach())
        return self.network.extract(features, query)

    def _losses(self, estimate: Tensor | None, frame_logits: Tensor | None, batch: Batch) -> dict[str, Tensor]:
        """Return the total loss and, detached, its parts; the heads that are not trained have none."""
        losses: dict[str, Tensor] = {}
        total = batch["mixture"].new_zeros(())
        if estimate is not None:
            extraction = thresholded_snr_loss(estimate, batch["target"], batch["mixture"], self.snr_max_db).mean()
            total, losses["loss_tse"] = total + extraction, extraction.detach()
        if frame_logits is not None and self.classifier_from is None:
            classification = clip_bce_loss(*pooled_log_probability(frame_logits), batch["activity"])
            if self.frame_loss_weight > 0.0:
                num_frames, num_classes = frame_logits.shape[1:]
                spans = (batch["source_classes"], batch["source_spans"])
                sounding = frame_activity(*spans, num_classes, batch["mixture"].shape[1], num_frames)
                classification = classification + self.frame_loss_weight * frame_bce_loss(frame_logits, sounding)
            total, losses["loss_sed"] = total + self.loss_weight * classification, classification.detach()
        return {"loss": total, **losses}


def check_class_names(trained: list[str], found: list[str], owner: str) -> None:
    """Reject data whose classes differ from those a network was built for.

    Args:
        trained: class names of the network by index.
        found: class names of the data.
        owner: holder of the network's names, for the message.

    Raises:
        InputError: the names or their order differ.
    """
    trained, found = (list(map(normalized_name, names)) for names in (trained, found))
    if trained == found:
        return
    only_trained = ", ".join(sorted(set(trained) - set(found))) or "none"
    only_found = ", ".join(sorted(set(found) - set(trained))) or "none"
    raise InputError(
        f"data.foregrounds has other classes than {owner}: {len(found)} against {len(trained)}; only in the data: "
        f"{only_found}; only in {owner}: {only_trained}. Use the data options of the run's config.yaml, or train on "
        "these data."
    )
