"""Runs side by side: which belong to one system, and the rows of the paper's Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tse_refine.analysis.comparability import check_comparable, recipe
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.evaluation.conditions import GATE, NONE, ORACLE, Condition
from tse_refine.evaluation.statistics import Interval, paired_difference, pooled_mean

SNRI_CONDITIONS: tuple[Condition, ...] = ((1, 0), (1, 1), (1, 3))
SILENT_CONDITION: Condition = (0, 1)


@dataclass(frozen=True)
class System:
    """Runs of one training recipe, which differ in their seed only.

    Attributes:
        name: as in the paper's Table 1, with the loss weight where systems differ in it.
        inactive_sample_rate: fraction of training queries that ask for inactive classes only.
        runs: with different seeds.
    """

    name: str
    inactive_sample_rate: float
    runs: tuple[MeasuredRun, ...]

    @property
    def has_classifier(self) -> bool:
        """Whether the system can refine queries."""
        return self.runs[0].config["model"]["network"]["classifier"] is not None

    @property
    def thresholds(self) -> list[str]:
        """The numeric thresholds that the system was tested at, ascending."""
        return sorted({t for t in self.runs[0].grid.thresholds if t not in (NONE, ORACLE, GATE)}, key=float)

    @property
    def gate_threshold(self) -> float:
        """The operating threshold of the test, at which ``gate`` decides."""
        run = self.runs[0]
        return float((run.test_config or run.config)["evaluation"]["threshold"])

    def measured(self, condition: Condition, threshold: str) -> bool:
        """Whether every run of the system was tested there."""
        return all(condition in run.grid.conditions and threshold in run.grid.thresholds for run in self.runs)

    def cell(self, measure: str, condition: Condition, threshold: str) -> np.ndarray:
        """Return one measure of all runs in one cell, ``[runs, mixtures]``; KeyError where it was not measured."""
        return np.stack([run.grid.cell(measure, condition, threshold) for run in self.runs])

    def mean(self, condition: Condition, threshold: str) -> Interval | None:
        """Return the mean SNRi, or attenuation for a query without active class; None where it was not measured."""
        measure = "snri_db" if condition[0] else "attenuation_db"
        try:
            return pooled_mean(self.cell(measure, condition, threshold)[:, :, None])
        except KeyError:
            return None

    def difference(self, other: System, condition: Condition, threshold: str, other_threshold: str) -> Interval:
        """Return the paired difference of two systems, or of two thresholds of one, in a condition.

        Raises:
            KeyError: one of them was not measured.
        """
        measure = "snri_db" if condition[0] else "attenuation_db"
        first, second = self.cell(measure, condition, threshold), other.cell(measure, condition, other_threshold)
        if self is other:  # run by run
            return pooled_mean((first - second)[:, :, None])
        return paired_difference(first[:, :, None], second[:, :, None])


def group_systems(runs: Sequence[MeasuredRun]) -> list[System]:
    """Group runs by everything but their seed, in the order given.

    Raises:
        InputError: runs were not asked the same about the same mixtures, were tested by different versions or on other
            recordings, or are of one system but cannot be pooled.
    """
    check_comparable(runs)
    groups: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        groups.setdefault(recipe(run.config), []).append(run)
    names = [_base_name(members[0].config) for members in groups.values()]
    weights = [members[0].config["model"]["loss_weight"] for members in groups.values()]
    folders = _distinct_folders([members[0] for members in groups.values()])
    systems = []
    for name, weight, members in zip(names, weights, groups.values(), strict=True):
        alike = [other for other, base in zip(weights, names, strict=True) if base == name]
        if len(alike) > 1:
            name += f" (λ = {weight:g})" if len(set(alike)) == len(alike) else f" ({folders[members[0]]})"
        rate = members[0].config["data"]["queries"]["inactive_sample_rate"]
        systems.append(System(name, rate, tuple(members)))
    return systems


def table_rows(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Return the rows of Table 1: a system without refinement, and where it can refine, at each threshold.

    Cells hold :class:`Interval` or None.
    """
    rows = []
    for system in systems:
        thresholds = system.runs[0].grid.thresholds
        shown = [NONE, *system.thresholds, ORACLE, GATE] if system.has_classifier else [NONE]
        for threshold in shown:
            if threshold not in thresholds:
                continue
            f1 = [run.macro_f1[threshold] for run in system.runs if threshold in run.macro_f1]
            rows.append(
                {
                    "system": system.name,
                    "refinement": threshold,
                    "gate_threshold": system.gate_threshold,
                    "seeds": len(system.runs),
                    "inactive_samples": system.inactive_sample_rate,
                    **{condition: system.mean(condition, threshold) for condition in SNRI_CONDITIONS},
                    SILENT_CONDITION: system.mean(SILENT_CONDITION, threshold),
                    "macro_f1": float(np.mean(f1)) if f1 else None,
                    "gmac_per_second": system.runs[0].cost["gmac_per_second"],
                    "parameters": system.runs[0].cost["parameters"],
                }
            )
    return rows


def methods(systems: Sequence[System], threshold: str | None) -> list[tuple[str, System, str]]:
    """Return what there is to compare: label, system, and the row of its grid.

    Args:
        systems: those that refine appear without, with and with ideal refinement, and gated.
        threshold: at which queries are refined; None where no system refines.
    """
    found = []
    for system in systems:
        if not system.has_classifier:
            found.append((system.name, system, NONE))
            continue
        found.append((f"{system.name}, raw query", system, NONE))
        if threshold is not None:
            found.append((f"{system.name}, refined at {threshold}", system, threshold))
        found.append((f"{system.name}, oracle", system, ORACLE))
        found.append((f"{system.name}, gate at {system.gate_threshold:g}", system, GATE))
    return [(label, system, row) for label, system, row in found if row in system.runs[0].grid.thresholds]


def _distinct_folders(runs: Sequence[MeasuredRun]) -> dict[MeasuredRun, str]:
    """Return the ends of the runs' paths, as long as it takes to tell them apart."""
    paths = [run.folder.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, paths)) + 1):
        ends = [parts[-length:] for parts in paths]
        if len(set(ends)) == len(ends):
            break
    return {run: "/".join(end) for run, end in zip(runs, ends, strict=True)}


def _base_name(config: dict[str, Any]) -> str:
    inactive = config["data"]["queries"]["inactive_sample_rate"] > 0
    if config["model"]["network"]["classifier"] is None:
        return "Baseline 2" if inactive else "Baseline 1"
    return "Proposed, with inactive samples" if inactive else "Proposed"
