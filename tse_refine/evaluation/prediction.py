"""The callback that writes extractions of chosen mixtures as WAV files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from lightning import Callback, Trainer
from torch import Tensor

from tse_refine.data.dataset import Batch
from tse_refine.data.queries import condition_queries
from tse_refine.errors import InputError
from tse_refine.evaluation.callback import Module
from tse_refine.evaluation.conditions import parse_conditions
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import replacing_folder
from tse_refine.model.checkpoint import check_extracts
from tse_refine.refinement import DEFAULT_THRESHOLD, KEPT_WEIGHT, Oracle, parse_refinement


class PredictionWriter(Callback):
    """Writes one folder per mixture, ``RUN/predict/<index>``, with WAV files, the query and the probabilities.

    ``mixture.wav``, ``target.wav``, ``estimate_none.wav`` (the raw query), ``estimate_refined.wav`` (the refined query;
    exact silence when it is empty) and ``query.json``. Which mixtures: ``data.predict_indices``. WAV files hold
    floats, so that levels are what they are.

    Args:
        condition: query as [active, inactive] classes.
        threshold: refinement: a number from 0 to 1, or the name of another rule that needs no truth, such as
            ``soft:0.2-0.6``.
    """

    def __init__(self, condition: Any = [1, 3], threshold: float | str = DEFAULT_THRESHOLD) -> None:  # noqa: B006  never changed
        self.condition = condition
        self.refinement = parse_refinement(threshold, "prediction.threshold")
        if isinstance(self.refinement, Oracle):
            raise InputError("prediction.threshold: 'oracle' is for evaluation; give a number or another rule.")

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Check the condition against the data."""
        if stage == "predict":
            check_extracts(pl_module.extraction)
            data = trainer.datamodule  # type: ignore[attr-defined]
            most_active, num_classes = max(data.mixture.num_events), len(data.class_names)
            self._conditions = parse_conditions([self.condition], "prediction.condition", most_active, num_classes)

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Batch, batch_idx: int, *_: int
    ) -> None:
        """Extract with the raw and the refined query and write both."""
        activity = batch["activity"]
        query = condition_queries(batch["query_order"], activity.sum(1).long(), self._conditions)[:, 0]
        is_target = (query * activity).gather(1, batch["source_classes"].clamp(min=0))
        is_target = is_target * (batch["source_classes"] >= 0)  # [batch, events]
        signals = {
            "mixture": batch["mixture"],
            "target": (is_target[:, :, None] * batch["sources"]).sum(1),
            "estimate_none": self._extract(trainer, pl_module, outputs, query),
        }
        probability, refined = outputs["probability"], None
        if probability is not None:
            refined = self.refinement(query, probability)
            is_queried = refined.any(dim=1, keepdim=True)
            signals["estimate_refined"] = self._extract(trainer, pl_module, outputs, refined) * is_queried
        for row, index in enumerate(batch["index"].tolist()):
            self._write(
                RunFolder(trainer.default_root_dir).predict / f"{index:05d}",
                {name: signal[row] for name, signal in signals.items()},
                pl_module.sample_rate,
                self._describe(
                    pl_module.class_names,
                    query[row],
                    activity[row],
                    None if probability is None else probability[row],
                    None if refined is None else refined[row],
                ),
            )

    @staticmethod
    def _extract(trainer: Trainer, pl_module: Module, outputs: Any, query: Tensor) -> Tensor:
        with trainer.precision_plugin.forward_context():
            return pl_module.network.extract(outputs["features"], query).float()

    def _describe(
        self,
        class_names: list[str],
        query: Tensor,
        activity: Tensor,
        probability: Tensor | None,
        refined: Tensor | None,
    ) -> dict[str, Any]:
        def named(weights: Tensor) -> list[str]:
            return [name for name, weight in zip(class_names, weights.tolist(), strict=True) if weight >= KEPT_WEIGHT]

        description: dict[str, Any] = {"active": named(activity), "query": named(query)}
        if probability is not None and refined is not None:
            description["threshold"] = self.refinement.option
            description["refined_query"] = named(refined)
            probabilities = zip(class_names, probability.tolist(), strict=True)
            description["probability"] = {name: round(value, 4) for name, value in probabilities}
        return description

    @staticmethod
    def _write(folder: Path, signals: dict[str, Tensor], sample_rate: int, description: dict[str, Any]) -> None:
        with replacing_folder(folder) as partial:
            for name, signal in signals.items():
                write_wav(partial / f"{name}.wav", signal.cpu().numpy(), sample_rate)
            (partial / "query.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def write_wav(path: Path, signal: np.ndarray, sample_rate: int) -> None:
    """Write a signal ``[samples]`` as a WAV file of floats.

    Raises:
        OSError: the file cannot be written; libsndfile's own error would not say why.
    """
    content = io.BytesIO()
    soundfile.write(content, signal, sample_rate, subtype="FLOAT", format="WAV")
    path.write_bytes(content.getbuffer())
