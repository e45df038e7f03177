"""Calibrates the classifier of a trained run on its validation mixtures; nothing is trained."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor

from tse_refine.errors import InputError
from tse_refine.evaluation.calibration import Calibration, fit_calibration, reliability
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.files.atomic import replacing
from tse_refine.files.tables import Table
from tse_refine.model.checkpoint import CHECKPOINT_KEY, read_checkpoint
from tse_refine.model.classifier import pooled_probability, rescale_logits
from tse_refine.refinement import Refinement, parse_refinement
from tse_refine.training.module import ExtractionModule

# refinements among which a calibrated classifier's is chosen
CANDIDATES: tuple[Refinement, ...] = tuple(
    parse_refinement(option, "candidates")
    for option in (
        *(0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5),
        *("soft:0-0.1", "soft:0-0.2", "soft:0.02-0.1", "soft:0.05-0.15", "soft:0.05-0.3", "soft:0.1-0.4"),
        *("soft:0.2-0.6", "count:0.02-0.1", "count:0.05-0.2", "count:0.05-0.3", "count:0.1-0.4"),
    )
)


def calibrate(
    trainer: Trainer, module: ExtractionModule, data: LightningDataModule, checkpoint: Path, output: Path
) -> None:
    """Calibrate a classifier, choose the refinement that suits it, and write a checkpoint with both.

    Both are decided on the validation mixtures: first the calibration (:func:`fit_calibration`), which becomes part of
    the classifier's last layer, so that nothing else need know of it; then the refinement, among those of the
    validation and :data:`CANDIDATES`, by mean SNRi over ``evaluation.recommend_for``. A network whose extractor follows
    the classifier (``query_in_time``, ``context``) follows the calibrated one, and extracts differently, the raw query
    too; the refinement is chosen with that.

    Args:
        trainer: runs the validation.
        module: module of the run; gets the checkpoint's weights.
        data: data of the run.
        checkpoint: checkpoint of the run.
        output: checkpoint to write; everything but the last layer and the recommendation is that of the first.

    Raises:
        InputError: the network has no classifier.
    """
    read = read_checkpoint(checkpoint)
    classifier = module.network.classifier
    if classifier is None:
        raise InputError(f"--ckpt_path: the network of {checkpoint} has no classifier that could be calibrated.")
    module.on_load_checkpoint(dict(read.content))
    module.network.load_state_dict(read.weights)
    device = trainer.strategy.root_device
    module.to(device).eval()
    data.prepare_data()
    data.setup("validate")
    logits, activity = _classified(module, data, device)
    found = fit_calibration(logits, activity)
    _show(logits, activity, found, module.class_names)
    rescale_logits(classifier.linear, found.scale, found.shift)
    evaluation = next(part for part in trainer.callbacks if isinstance(part, QueryRefinementEvaluation))  # type: ignore[attr-defined]
    evaluation.consider(CANDIDATES)
    trainer.validate(module, datamodule=data, verbose=False)
    content = dict(read.content)
    content["state_dict"] = {name: weight.cpu() for name, weight in module.state_dict().items()}
    content[CHECKPOINT_KEY] = dict(content[CHECKPOINT_KEY])
    evaluation.on_save_checkpoint(trainer, module, content)
    if trainer.is_global_zero:
        with replacing(output) as temporary:
            torch.save(content, temporary)
        print(f"Written to {output}", flush=True)


@torch.no_grad()
def _classified(module: ExtractionModule, data: LightningDataModule, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return frame logits and activity of the validation mixtures."""
    logits, activity = [], []
    for batch in data.val_dataloader():
        logits.append(module.network.classify(batch["mixture"].to(device)).float().cpu())
        activity.append(batch["activity"])
    return torch.cat(logits), torch.cat(activity)


def _show(logits: Tensor, activity: Tensor, found: Calibration, class_names: list[str]) -> None:
    rows = []
    for name, scaled in (("before", logits), ("after", logits * found.scale + found.shift)):
        error = reliability(pooled_probability(scaled).numpy(), activity.numpy()).error
        rows.append((name, f"{100 * error:.2f} %"))
    furthest = int(found.shift.abs().argmax())
    note = (
        f"Logits times {found.scale:.2f}; shifts from {found.shift.min():.2f} to {found.shift.max():.2f}, the largest "
        f"of {class_names[furthest]}. {len(activity)} mixtures of validation."
    )
    print(Table(("classifier", "expected calibration error"), rows, note=note).text(), flush=True)
