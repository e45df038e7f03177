"""The callback that evaluates query refinement: after each validation epoch, and in test."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from tse_refine.data.dataset import Batch
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import Condition, parse_conditions
from tse_refine.evaluation.events import count_events
from tse_refine.evaluation.example import Example, extract_query
from tse_refine.evaluation.grid import Grid, GridResults, evaluate_batch
from tse_refine.evaluation.logged import logged_metrics, metric_names, recommended_refinement
from tse_refine.evaluation.printed import printed_results, summary_grid
from tse_refine.evaluation.result_logger import log_tables, result_loggers
from tse_refine.evaluation.results import (
    append_validation,
    classification_rows,
    earlier_results,
    read_validation,
    summary_rows,
    write_test_results,
)
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.model.checkpoint import CHECKPOINT_KEY, weights_digest
from tse_refine.model.cost import measure_cost
from tse_refine.refinement import DEFAULT_THRESHOLD, NoRefinement, Refinement, parse_refinement, parse_refinements

# the published conditions as far as the paper's text names them, and ours beside them
TEST_CONDITIONS = [[1, 0], [1, 1], [1, 2], [1, 3], [1, 5], [2, 0], [2, 1], [2, 2], [2, 3], [3, 0], [3, 1], [3, 3]]
TEST_CONDITIONS += [[0, 1], [0, 3]]
TEST_THRESHOLDS = ["none", 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, "soft:0.05-0.3", "count:0.05-0.3", "oracle", "gate"]
VALIDATION_CONDITIONS = [[1, 0], [1, 1], [1, 3], [2, 2], [0, 1]]
VALIDATION_THRESHOLDS = ["none", 0.1, 0.3, 0.5, "oracle"]
Module = Any  # an ExtractionModule, which this room must not import
LOG_NAMES = ("train/loss", "train/loss_tse", "train/loss_sed", "train/snri_db", "val/loss")
_OPTIONS = {
    "val": ("evaluation.validation_conditions", "evaluation.validation_thresholds"),
    "test": ("evaluation.conditions", "evaluation.thresholds"),
}


class QueryRefinementEvaluation(Callback):
    """Evaluates conditions (active:inactive) by refinements on the features that the module's step returns.

    After validation it logs the named metrics, appends to ``validation.csv``, recommends a refinement and prints a
    table; after test it writes ``RUN/test/`` and prints the table. Loggers that show tables get them too
    (:mod:`tse_refine.evaluation.result_logger`). A network without a classifier is evaluated with the refinements that
    need none, ``none`` and ``oracle``.

    Args:
        threshold: operating refinement (delta): a number, or the name of another rule that decides class by class,
            such as ``soft:0.2-0.6``; logged as ``refined``, and always among the refinements. Its threshold is the
            gate's (0.1: the paper wants few false negatives).
        conditions: pairs [active, inactive] of the test.
        thresholds: refinements of the test: numbers, ``none`` (no refinement), ``oracle`` (the true activity),
            ``gate`` (silence when no queried class reaches the operating threshold, otherwise the raw query),
            ``soft:LOW-HIGH``, ``count:ONE-MANY``. What the checkpoint recommends is always among them.
        validation_conditions: pairs [active, inactive] after each validation epoch.
        validation_thresholds: refinements after each validation epoch; the recommended one is among them.
        queries_per_pass: number of queries that go through the mask estimator together; a matter of memory.
        recommend_for: conditions of the validation whose mean SNRi decides on the recommended refinement, a condition
            as often as it is to count; null for each one with an active class once.
        class_aware: whether the test also extracts each active class alone, for the CA-SDRi and the accuracy of the
            labels that DCASE Task 4 reports (``class_aware.csv``).
    """

    def __init__(
        self,
        threshold: float | str = DEFAULT_THRESHOLD,
        conditions: list[Any] = TEST_CONDITIONS,
        thresholds: list[Any] = TEST_THRESHOLDS,
        validation_conditions: list[Any] = VALIDATION_CONDITIONS,
        validation_thresholds: list[Any] = VALIDATION_THRESHOLDS,
        queries_per_pass: int = 16,
        recommend_for: list[Any] | None = None,
        class_aware: bool = True,
    ) -> None:
        self.operating = parse_refinement(threshold, "evaluation.threshold")
        if not self.operating.per_class:
            raise InputError(
                f"evaluation.threshold is {threshold!r}; a number from 0 to 1 or another rule that decides class by "
                "class, such as soft:0.2-0.6, is expected."
            )
        if queries_per_pass < 1:
            raise InputError(f"evaluation.queries_per_pass is {queries_per_pass}; at least 1 is expected.")
        self.queries_per_pass = queries_per_pass
        self.recommend_for = recommend_for
        self.class_aware = class_aware
        self.recommended: Refinement | None = None
        self.test_config: str | None = None  # what RUN/test/config.yaml will hold; the command line composes it
        self.grids: dict[str, Grid] = {}  # by split, val and test; set up with the data
        self._conditions = {"val": validation_conditions, "test": conditions}
        self._refinements = {
            split: parse_refinements(values, _OPTIONS[split][1], self.operating.gate_threshold)
            for split, values in (("val", validation_thresholds), ("test", thresholds))
        }
        self._parts: list[GridResults] = []
        self._examples: dict[Condition, Example] = {}  # of a test, for loggers that play them

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Check the grids against the data, and what other callbacks monitor, before anything runs."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        most_active, num_classes = max(data.mixture.num_events), len(data.class_names)
        has_classifier = pl_module.network.classifier is not None
        for split, (conditions_option, refinements_option) in _OPTIONS.items():
            given = self._conditions[split] if pl_module.extraction else []  # a classifier alone extracts nothing
            conditions = parse_conditions(given, conditions_option, most_active, num_classes)
            refinements = self._refinements[split]
            if has_classifier:  # the operating refinement is always measured
                refinements = tuple({rule.name: rule for rule in (*refinements, self.operating)}.values())
            refinements = tuple(rule for rule in refinements if has_classifier or not rule.needs_classifier)
            if not refinements:
                raise InputError(
                    f"{refinements_option}: a network without a classifier needs 'none' or 'oracle' there."
                )
            class_aware = split == "test" and self.class_aware and has_classifier and pl_module.extraction
            self.grids[split] = Grid(conditions, refinements, class_aware=class_aware)
        if self.recommend_for is not None:
            parsed = parse_conditions(self.recommend_for, "evaluation.recommend_for", most_active, num_classes)
            for condition in parsed:
                if condition not in self.grids["val"].conditions or not condition.active:
                    raise InputError(
                        f"evaluation.recommend_for: {list(condition)} must be one of evaluation.validation_conditions "
                        "with an active class, since SNRi is measured there."
                    )
        if stage == "fit":
            self._check_monitors(trainer)

    def consider(self, refinements: Sequence[Refinement]) -> None:
        """Add refinements to those of the validation, among which one is recommended."""
        both = (*self._refinements["val"], *refinements)
        self._refinements["val"] = tuple({rule.name: rule for rule in both}.values())

    def on_fit_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Reject a damaged ``validation.csv`` of a training that is resumed, before an epoch is spent."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            read_validation(RunFolder(trainer.default_root_dir).validation)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Discard the batches of the previous epoch."""
        self._parts = []

    def on_test_epoch_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Discard the batches of the previous epoch."""
        self._parts, self._examples = [], {}

    def on_test_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Add the checkpoint's recommended refinement to the grid; report which results this test will replace.

        A report shows the recommended refinement, so that a test must have measured it.
        """
        if self.recommended is not None:
            grid = self.grids["test"]
            both = {rule.name: rule for rule in (*grid.refinements, self.recommended)}
            self.grids["test"] = replace(grid, refinements=tuple(both.values()))
        folder = RunFolder(trainer.default_root_dir).test
        writes = trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]
        earlier = earlier_results(folder) if writes else None
        if earlier is not None:
            print(f"{folder}: replacing {earlier}, when this test ends", file=sys.stderr, flush=True)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Batch, batch_idx: int, *_: int
    ) -> None:
        """Evaluate a batch on the features that ``validation_step`` returned."""
        self._evaluate(trainer, pl_module, outputs, batch, "val")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Batch, batch_idx: int, *_: int
    ) -> None:
        """Evaluate a batch on the features that ``test_step`` returned."""
        self._evaluate(trainer, pl_module, outputs, batch, "test")
        if any(logger.plays_examples for logger in result_loggers(trainer)):
            self._add_examples(trainer, pl_module, outputs, batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Log, recommend a refinement, print and append to ``validation.csv``; in the sanity check only compute."""
        results = _joined(self._parts)
        rows = summary_rows(results)
        metrics = logged_metrics(results, rows, "val", self.operating)
        if trainer.sanity_checking:
            return
        pl_module.log_dict(metrics, batch_size=1, sync_dist=True)
        self.recommended = recommended_refinement(rows, results.grid, self.recommend_for)
        if trainer.is_global_zero:
            heading = f"Validation after epoch {trainer.current_epoch}"
            if self.recommended is not None:
                heading += f", recommended threshold {self.recommended.name}"
            _show(pl_module, f"\n{heading}\n{printed_results(results, rows)}\n")
            log_tables(trainer, {"val/table": summary_grid(rows) or classification_rows(results)})
            if trainer.state.fn == "fit" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                path = RunFolder(trainer.default_root_dir).validation
                append_validation(path, rows, results.grid.measures, trainer.current_epoch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Write every result file, print the table, log the named metrics."""
        results = _joined(self._parts)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            folder = RunFolder(trainer.default_root_dir).test
            cost, weights = measure_cost(pl_module.network), weights_digest(pl_module.network)
            tables = write_test_results(folder, results, pl_module.class_names, cost, self.test_config, weights)
            rows = tables["summary"]
            heading = f"Test, {len(results.index)} mixtures"
            if self.recommended is not None:
                heading += f"; recommended on validation: {self.recommended.name}"
            _show(pl_module, f"\n{heading}\n{printed_results(results, rows)}\nWritten to {folder}")
            tables = {"table": summary_grid(rows), **tables}
            log_tables(trainer, {f"test/{name}": table for name, table in tables.items()})
            for logger in result_loggers(trainer):
                if logger.plays_examples and self._examples:
                    examples = [self._examples[c] for c in results.grid.conditions if c in self._examples]
                    logger.log_examples("test/examples", examples, trainer.global_step)
        else:
            rows = summary_rows(results)
        pl_module.log_dict(logged_metrics(results, rows, "test", self.operating), batch_size=1, sync_dist=True)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Module, checkpoint: dict[str, Any]) -> None:
        """Add the recommended refinement, as YAML writes it."""
        option = None if self.recommended is None else self.recommended.option
        checkpoint.setdefault(CHECKPOINT_KEY, {})["recommended_threshold"] = option

    def on_load_checkpoint(self, trainer: Trainer, pl_module: Module, checkpoint: dict[str, Any]) -> None:
        """Restore the refinement that was recommended when the checkpoint was written."""
        option = checkpoint.get(CHECKPOINT_KEY, {}).get("recommended_threshold")
        self.recommended = None if option is None else parse_refinement(option, "the checkpoint's recommendation")

    def _evaluate(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Batch, split: str) -> None:
        features = outputs["features"]
        results = evaluate_batch(
            pl_module.network,
            features,
            outputs["probability"],
            batch,
            self.grids[split],
            self.queries_per_pass,
            trainer.precision_plugin.forward_context,
        )
        if features.frame_logits is not None:
            truth = (batch["source_classes"], batch["source_spans"])
            counts = count_events(features.frame_logits, *truth, features.length, pl_module.sample_rate)
            results = replace(results, event_counts=counts)
        self._parts.append(results)

    def _add_examples(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Batch) -> None:
        """Extract an example of each condition that has none yet, from its first mixture."""
        has_classifier = outputs["probability"] is not None
        num_active = batch["activity"].sum(1)
        for condition in self.grids["test"].conditions:
            rows = torch.nonzero(num_active >= condition.active)[:1, 0]
            if condition in self._examples or not len(rows):
                continue
            self._examples[condition] = extract_query(
                pl_module.network,
                outputs["features"].select(rows),
                {name: value[rows] for name, value in batch.items()},
                condition,
                self.operating if has_classifier else NoRefinement(),
                pl_module.class_names,
                pl_module.sample_rate,
                trainer.precision_plugin.forward_context,
            )

    def _check_monitors(self, trainer: Trainer) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]
        may_be_empty = 0 in data.mixture.num_events or data.recipes is not None
        logged = [*metric_names(self.grids["val"], "val", self.operating, may_be_empty), *LOG_NAMES]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            monitor = getattr(callback, "monitor", None) if isinstance(callback, Checkpoint | EarlyStopping) else None
            if monitor is not None and monitor not in logged:
                raise InputError(
                    f"{type(callback).__name__} monitors {monitor!r}, which is not logged. Logged are "
                    f"{', '.join(logged)}; evaluation.validation_conditions and validation_thresholds decide."
                )


def _show(pl_module: Module, text: str) -> None:
    """Print beside the progress bar, and at once also where the output is a file."""
    pl_module.print(text)
    sys.stdout.flush()


def _joined(parts: list[GridResults]) -> GridResults:
    """Join the batches of all processes."""
    mine = GridResults.join(parts)
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return mine
    columns = {field.name: getattr(mine, field.name) for field in fields(mine) if field.name != "grid"}
    of_all = [columns] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(of_all, columns)
    return GridResults.join([GridResults(mine.grid, **part) for part in of_all])
