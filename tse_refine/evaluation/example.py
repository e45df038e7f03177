"""One query of one mixture, extracted raw and refined, to be seen and played."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tse_refine.data.dataset import Batch
from tse_refine.data.queries import condition_queries
from tse_refine.evaluation.conditions import Condition
from tse_refine.model.network import Features, Network
from tse_refine.refinement import KEPT_WEIGHT, Refinement


@dataclass(frozen=True)
class Example:
    """What one query of one mixture gives.

    Attributes:
        index: number of the test mixture.
        condition: condition of the query.
        refinement: refinement of the query.
        sample_rate: sample rate, Hz.
        active: classes of the mixture.
        query: queried classes, the active ones first.
        refined_query: classes that are kept.
        probability: probability of each queried class; empty without a classifier.
        mixture: waveform, ``[samples]``; the signals below likewise.
        target: sum of the sources of the queried active classes.
        raw: extraction with the raw query.
        refined: extraction with the refined query.
        raw_db: SNRi of the former, or its attenuation where nothing queried is active, dB.
        refined_db: the same of the latter.
    """

    index: int
    condition: Condition
    refinement: Refinement
    sample_rate: int
    active: tuple[str, ...]
    query: tuple[str, ...]
    refined_query: tuple[str, ...]
    probability: Mapping[str, float]
    mixture: np.ndarray
    target: np.ndarray
    raw: np.ndarray
    refined: np.ndarray
    raw_db: float
    refined_db: float

    @property
    def signals(self) -> dict[str, np.ndarray]:
        """What can be played, by name, with one gain for all so that no peak is above 1."""
        signals = {"mixture": self.mixture, "target": self.target, "raw": self.raw}
        if self.refinement.needs_classifier:
            signals["refined"] = self.refined
        peak = max(1.0, *(float(np.abs(signal).max()) for signal in signals.values()))
        return {name: signal / peak for name, signal in signals.items()}

    @property
    def row(self) -> dict[str, Any]:
        """What can be read, as the row of a table."""
        row: dict[str, Any] = {"condition": self.condition.name, "mixture": self.index}
        row |= {"active": ", ".join(self.active), "query": ", ".join(self.query)}
        row |= {"measure": self.condition.measure.axis_label, "raw": self.raw_db}
        if self.refinement.needs_classifier:
            row |= {"refined query": ", ".join(self.refined_query), "refined": self.refined_db}
        return row


def extract_query(
    network: Network,
    features: Features,
    batch: Batch,
    condition: Condition,
    refinement: Refinement,
    class_names: Sequence[str],
    sample_rate: int,
    precision: Callable[[], AbstractContextManager] = nullcontext,
) -> Example:
    """Extract a query from a mixture, raw and refined.

    Args:
        network: gives the estimates.
        features: features of the mixture.
        batch: the mixture alone, with the keys for evaluation (:class:`tse_refine.data.dataset.MixtureDataset`).
        condition: condition of the query; the mixture has as many active classes.
        refinement: refinement of the query.
        class_names: names by index.
        sample_rate: Hz.
        precision: makes the context of a pass, such as the trainer's autocast.
    """
    activity = batch["activity"]
    query = condition_queries(batch["query_order"], activity.sum(1).long(), [condition])[:, 0]
    target = batch["sources"][:, : condition.active].sum(1)  # sources come in the order in which they are queried
    with torch.inference_mode(), precision():
        probability = features.probability()
        refined_query = refinement(query, probability, activity)
        raw, refined = (network.extract(features, weights).float() for weights in (query, refined_query))
    values = [condition.measure.of_signals(signal, target, batch["mixture"]).item() for signal in (raw, refined)]
    order = batch["query_order"][0].tolist()
    queried = [label for label in order if query[0, label]]
    return Example(
        index=int(batch["index"]),
        condition=condition,
        refinement=refinement,
        sample_rate=sample_rate,
        active=tuple(class_names[label] for label in order[: int(activity.sum())]),
        query=tuple(class_names[label] for label in queried),
        refined_query=tuple(class_names[label] for label in queried if refined_query[0, label] >= KEPT_WEIGHT),
        probability={}
        if probability is None
        else {class_names[label]: float(probability[0, label]) for label in queried},
        mixture=_waveform(batch["mixture"]),
        target=_waveform(target),
        raw=_waveform(raw),
        refined=_waveform(refined),
        raw_db=values[0],
        refined_db=values[1],
    )


def _waveform(signal: Tensor) -> np.ndarray:
    waveform: np.ndarray = signal[0].float().cpu().numpy().copy()
    return waveform
