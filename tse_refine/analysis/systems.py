"""Runs side by side: which may be compared, and which are one system that differs in its seed only."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tse_refine.analysis.compared_options import complete_data
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.metrics import SNRI, Measure
from tse_refine.evaluation.statistics import Interval, paired_difference, pooled_mean
from tse_refine.refinement import Gate, NoRefinement, Oracle, Refinement, Threshold
from tse_refine.version import PACKAGE

SILENT_DB = 0.3  # an answer whose SNR is nearer to 0 dB is as good as silence
# options of the data that change how mixtures are served, not what they are
_NOT_DIGESTED = (
    *("digest", "cache_dir", "num_workers", "batch_size", "num_train", "num_val", "num_test"),
    *("download", "predict_indices", "aliases"),
)


@dataclass(frozen=True)
class System:
    """Runs of one training, which differ in their seed only.

    Attributes:
        name: the experiment's name, with the loss weight where systems differ in it.
        runs: runs with different seeds.
    """

    name: str
    runs: tuple[TestedRun, ...]

    @property
    def inactive_sample_rate(self) -> float:
        """Fraction of the training queries that name inactive classes only."""
        return float(self.runs[0].config["data"]["queries"]["inactive_sample_rate"])

    @property
    def has_classifier(self) -> bool:
        """Whether the system can refine queries."""
        return self.runs[0].has_classifier

    @property
    def refinements(self) -> tuple[Refinement, ...]:
        """What the system was tested with, in the order of tables (:func:`in_display_order`)."""
        return in_display_order(self.runs[0].grid.refinements)

    @property
    def candidates(self) -> tuple[Refinement, ...]:
        """The refinements among which a user chooses: all but the raw query, the oracle and the gate."""
        return tuple(rule for rule in self.refinements if not isinstance(rule, NoRefinement | Oracle | Gate))

    def label(self, refinement: Refinement) -> str:
        """Return the name of a method: the system, and how it refines if it can."""
        return f"{self.name}, {self.own(refinement).label}" if self.has_classifier else self.name

    def own(self, refinement: Refinement) -> Refinement:
        """Return the refinement of the same name as the system was tested with: its gate has its own threshold."""
        names = {rule.name: rule for rule in self.runs[0].grid.refinements}
        return names.get(refinement.name, refinement)

    def measured(self, condition: Condition, refinement: Refinement) -> bool:
        """Whether every run of the system was tested there."""
        return all(run.grid.holds(condition, refinement) for run in self.runs)

    def cell(self, measure: Measure, condition: Condition, refinement: Refinement) -> np.ndarray:
        """Return one measure of all runs in one cell, ``[runs, mixtures]``; KeyError where it was not measured."""
        return np.stack([run.grid.cell(measure, condition, refinement) for run in self.runs])

    def kept(self, condition: Condition, refinement: Refinement) -> tuple[np.ndarray, np.ndarray]:
        """Return how many active and how many inactive classes are kept in one cell, ``[runs, mixtures]`` each."""
        places = [(run.grid, *run.grid.place(condition, refinement)) for run in self.runs]
        active = np.stack([grid.kept_active[:, c, r] for grid, c, r in places])
        return active, np.stack([grid.kept_inactive[:, c, r] for grid, c, r in places])

    def silent(self, condition: Condition, refinement: Refinement) -> np.ndarray:
        """Return which answers are as good as silence, 1 or 0 with NaN where there is no query, ``[runs, mixtures]``.

        The SNR of exact silence is 0 dB, whatever the target: these are answers whose SNR is within ``SILENT_DB`` of
        it. SNRi alone hides them, since silence has one of its own, often a good one.
        """
        snr = []
        for run in self.runs:
            c, _ = run.grid.place(condition, refinement)
            snr.append(run.grid.cell(SNRI, condition, refinement) + run.grid.input_snr_db[:, c])
        return np.where(np.isnan(snr), np.nan, np.abs(snr) < SILENT_DB)

    def mean(self, condition: Condition, refinement: Refinement, measure: Measure | None = None) -> Interval | None:
        """Return the mean of a measure, by default the condition's own; None where it was not measured."""
        try:
            return pooled_mean(self.cell(measure or condition.measure, condition, refinement)[:, :, None])
        except KeyError:
            return None

    def difference(self, other: System, condition: Condition, first: Refinement, second: Refinement) -> Interval:
        """Return this system with its ``first`` refinement minus another, or the same, with its ``second``, in pairs.

        The measure is the condition's own; KeyError where one of them was not measured.
        """
        values = self.cell(condition.measure, condition, first), other.cell(condition.measure, condition, second)
        if self is other:  # run by run
            return pooled_mean((values[0] - values[1])[:, :, None])
        return paired_difference(values[0][:, :, None], values[1][:, :, None])


class Method(NamedTuple):
    """A system with a refinement; ``label`` names both."""

    label: str
    system: System
    refinement: Refinement


def in_display_order(refinements: Iterable[Refinement]) -> tuple[Refinement, ...]:
    """Return refinements as tables list them: raw query, thresholds ascending, others as they come, oracle, gate.

    >>> from tse_refine.refinement import SoftThreshold
    >>> rules = Gate(), Oracle(), SoftThreshold(0.1, 0.3), Threshold(0.5), Threshold(0.1), NoRefinement()
    >>> [rule.name for rule in in_display_order(rules)]
    ['none', '0.1', '0.5', 'soft:0.1-0.3', 'oracle', 'gate']
    """
    places = {NoRefinement: 0, Threshold: 1, Oracle: 3, Gate: 4}

    def place(rule: Refinement) -> tuple[int, float]:
        return places.get(type(rule), 2), rule.delta if isinstance(rule, Threshold) else 0.0

    return tuple(sorted(refinements, key=place))


def methods(systems: Sequence[System], refinement: Refinement | None) -> list[Method]:
    """Return what there is to compare.

    Args:
        systems: systems; those that refine appear with the raw query, refined, with the oracle, and gated.
        refinement: refinement that is shown; None where no system refines.
    """
    shown = []
    for system in systems:
        rules = [NoRefinement(), refinement, Oracle(), Gate()] if system.has_classifier else [NoRefinement()]
        own = [system.own(rule) for rule in rules if rule is not None]
        tested = {rule.name for rule in system.refinements}
        shown += [Method(system.label(rule), system, rule) for rule in own if rule.name in tested]
    return shown


def group_systems(runs: Sequence[TestedRun]) -> list[System]:
    """Group runs by everything but their seed, in their order.

    Args:
        runs: at least one run.

    Raises:
        InputError: runs were tested with different mixtures or queries, by different versions or on other recordings,
            are of one system but cannot be pooled, or are the same run.
    """
    for first, second in itertools.combinations(runs, 2):
        _check_origin(first, second)
    for run in runs[1:]:
        _check_queries(runs[0], run)
    groups: dict[tuple[str, str], list[TestedRun]] = {}
    for run in runs:
        groups.setdefault(_group(run), []).append(run)
    names = [name for name, _ in groups]
    weights = [members[0].config["model"]["loss_weight"] for members in groups.values()]
    folders = _distinct_folders([members[0] for members in groups.values()])
    systems = []
    for name, weight, folder, members in zip(names, weights, folders, groups.values(), strict=True):
        alike = [other for other, base in zip(weights, names, strict=True) if base == name]
        if len(alike) > 1:
            name += f" (λ = {weight:g})" if len(set(alike)) == len(alike) else f" ({folder})"
        systems.append(System(name, tuple(members)))
    return systems


def _group(run: TestedRun) -> tuple[str, str]:
    """Return what runs of one system have in common: name and training."""
    name = run.config.get("name")
    if not name:  # configurations of older versions have none, and are named as in the paper
        inactive = run.config["data"]["queries"]["inactive_sample_rate"] > 0
        if run.has_classifier:
            name = "Proposed, with inactive samples" if inactive else "Proposed"
        else:
            name = "Baseline 2" if inactive else "Baseline 1"
    return str(name), run.training_fingerprint


def _distinct_folders(runs: Sequence[TestedRun]) -> list[str]:
    """Return the ends of the runs' paths, which differ, as long as needed to tell them apart."""
    paths = [run.folder.path.resolve().parts for run in runs]
    length = next(length for length in itertools.count(1) if len({path[-length:] for path in paths}) == len(paths))
    return ["/".join(path[-length:]) for path in paths]


def _check_origin(first: TestedRun, second: TestedRun) -> None:
    """Reject runs of another version or other recordings, and what cannot be pooled of one system."""
    where = f"{first.folder.path} and {second.folder.path}"
    if first.folder.path.resolve() == second.folder.path.resolve():
        raise InputError(f"{where} are the same run, which would count as two seeds; name it once.")
    versions = [run.version for run in (first, second) if run.version is not None]
    if len({tuple(version.split(".")[:2]) for version in versions}) > 1:
        raise InputError(
            f"{where} were tested by {PACKAGE} {' and '.join(versions)}, which need not measure the same; expected is "
            "one version, up to its last number. Run `tse-refine test` again with one version for both."
        )
    pairs = {"trained": (first.config, second.config), "tested": (first.test_config, second.test_config)}
    for verb, configs in pairs.items():
        data = [config.get("data", {}) for config in configs]
        digests = [options["digest"] for options in data if options.get("digest") is not None]
        # the queries of a training are in the digest too: only of the same options the same one is expected
        alike = [
            {name: value for name, value in complete_data(options).items() if name not in _NOT_DIGESTED}
            for options in data
        ]
        if len(set(digests)) > 1 and alike[0] == alike[1]:
            raise InputError(
                f"{where} were {verb} with the same options on different recordings: their data.digest is "
                f"{' and '.join(map(str, digests))}. Train and test both on the same recordings."
            )
    if _group(first) == _group(second):
        names = [[rule.name for rule in run.grid.refinements] for run in (first, second)]
        if set(names[0]) != set(names[1]):
            raise InputError(
                f"{where} are of one system, but were tested at different thresholds: "
                f"{' and '.join(', '.join(tested) for tested in names)}. Test both with the same "
                "evaluation.thresholds and evaluation.threshold."
            )
        gates = [run.operating.gate_threshold for run in (first, second)]
        if Gate().name in names[0] and first.test_config and second.test_config and gates[0] != gates[1]:
            raise InputError(
                f"{where} are of one system, but their gates close at different thresholds: {gates[0]:g} and "
                f"{gates[1]:g}. Test both with the same evaluation.threshold."
            )


def _check_queries(first: TestedRun, second: TestedRun) -> None:
    """Reject runs that were tested with different mixtures or queries."""
    ours, theirs = first.grid, second.grid
    where = f"{first.folder.path} and {second.folder.path}"
    if ours.conditions != theirs.conditions:
        tested = " and ".join(", ".join(condition.name for condition in grid.conditions) for grid in (ours, theirs))
        raise InputError(
            f"{where} were tested in different conditions or another order of them: {tested}. Test both with the same "
            "evaluation.conditions."
        )
    difference = f"there are {len(ours.mixtures)} and {len(theirs.mixtures)} mixtures"
    differ = np.ones(1, bool)
    if np.array_equal(ours.mixtures, theirs.mixtures):
        differ = ((ours.query_active != theirs.query_active) | (ours.query_inactive != theirs.query_inactive)).any(1)
        difference = f"mixture {ours.mixtures[differ.argmax()]} is the first of {differ.sum()} that differ"
    if differ.any():
        raise InputError(
            f"{where} were tested on different mixtures, classes or queries, so that their results cannot stand "
            f"side by side: {difference}. Test both on the same data (data.seed, corpora, data.mixture, data.num_test)."
        )
    if not np.allclose(ours.input_snr_db, theirs.input_snr_db, atol=0.05, equal_nan=True):
        most = np.nanmax(np.abs(ours.input_snr_db - theirs.input_snr_db))
        raise InputError(
            f"{where} were tested on different mixtures: their own SNRs differ by up to {most:.2f} dB. Test both on "
            "the same recordings and data.mixture."
        )
