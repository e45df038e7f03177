"""Logs to Weights & Biases: options, tables, sounds and the best checkpoint; goes on without it where it is away."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from tse_refine.evaluation.example import Example
from tse_refine.evaluation.result_logger import ResultLogger
from tse_refine.training.checkpoints import BEST, RunCheckpoint
from tse_refine.training.csv_logger import RunCSVLogger
from tse_refine.training.sweep import agent_run, agent_settings, folder_name

# for the server's first answer, for a run's start and for the last upload of a run whose server has gone; W&B's own are
# minutes, 90 s and without end
_SECONDS, _SECONDS_TO_START, _SECONDS_TO_FINISH = 5.0, 30.0, 600.0


class RunWandbLogger(WandbLogger, ResultLogger):
    """Logs to a run of Weights & Biases, also the tables of validation and test.

    What else W&B lets one choose, its own variables do: ``WANDB_MODE``, ``WANDB_ENTITY``, ``WANDB_RUN_GROUP``,
    ``WANDB_TAGS``, ``WANDB_NOTES``, ``WANDB_RUN_ID``.

    Args:
        project: project of the run.
        name: name of the run; by default made of the system, the budget, the seed and what a sweep varies.
        save_dir: folder in which W&B keeps its files; by default the run's.
        log_model: upload ``best.ckpt`` as an artifact when a training has ended.
        log_audio: upload an example of each condition from the first mixtures of a test: mixture, target and
            extractions with the raw and the refined query. W&B then holds excerpts of the recordings.
    """

    def __init__(
        self,
        project: str = "tse_refine",
        name: str | None = None,
        save_dir: str | None = None,
        log_model: bool = False,
        log_audio: bool = False,
    ) -> None:
        super().__init__(name=name, save_dir=save_dir or ".", project=project)
        self._wandb_init.pop("anonymous")  # which Lightning always gives and W&B warns of
        self.log_best = log_model
        self.plays_examples = log_audio
        self._checkpoint: ModelCheckpoint | None = None

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Add options to the run's configuration, without those that W&B has from a sweep and would warn of."""
        swept = agent_settings()
        super().log_hyperparams({name: value for name, value in dict(params).items() if name not in swept})

    @rank_zero_only
    def log_rows(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Log a table of W&B."""
        # W&B gives a column one type, and has no type for NaN
        cells = [[None if value != value else value for value in row.values()] for row in rows]
        self.log_table(name, list(rows[0]), cells, step=step)

    @rank_zero_only
    def log_examples(self, name: str, examples: Sequence[Example], step: int) -> None:
        """Log a table of W&B with one row per condition, which plays its sounds."""
        import wandb

        players = [
            {f"{sound} sound": wandb.Audio(signal, example.sample_rate) for sound, signal in example.signals.items()}
            for example in examples
        ]
        self.log_rows(name, [example.row | sounds for example, sounds in zip(examples, players, strict=True)], step)

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember where the best checkpoint is; Lightning would upload ``last.ckpt`` too."""
        if self.log_best and isinstance(checkpoint_callback, RunCheckpoint):
            self._checkpoint = checkpoint_callback

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Upload ``best.ckpt``, if asked to, when a training has ended by itself."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if status != "success" or checkpoint is None or not checkpoint.best_model_path:
            return
        import wandb

        score = None if checkpoint.best_model_score is None else float(checkpoint.best_model_score)
        metadata = {"monitor": checkpoint.monitor, "score": score}
        artifact = wandb.Artifact(f"model-{self.experiment.id}", "model", metadata=metadata)
        artifact.add_file(checkpoint.best_model_path, Path(checkpoint.best_model_path).name)
        self.experiment.log_artifact(artifact, aliases=[BEST])


def start_wandb(trainer: Trainer, command: str = "fit", name: str | None = None) -> None:
    """Start the run of each logger of W&B, or take the logger out and report why, within seconds.

    The test of a training that W&B's agent has started goes on in the training's run.

    Args:
        trainer: trainer whose loggers have not been used yet.
        command: what the trainer will do; a ``fit`` without any other logger gets ``metrics.csv``, which is the
            training's, so that no other command does.
        name: name of a run that the user has not named.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if not isinstance(logger, WandbLogger):
            continue
        for option, value in (("name", name), ("job_type", command)):
            if f"WANDB_{option.upper()}" not in os.environ and logger._wandb_init.get(option) is None:
                logger._wandb_init[option] = value
        if reason := _failure(logger):
            others = [other for other in trainer.loggers if other is not logger]
            trainer.loggers = others or ([RunCSVLogger(trainer.default_root_dir)] if command == "fit" else [])
            print(
                f"tse-refine: W&B cannot be used ({reason}). Going on without it: the run's folder holds the same "
                "numbers. With WANDB_MODE=offline a run is kept for `wandb sync`.",
                file=sys.stderr,
            )


def run_name(config: Mapping[str, Any], command: str, folder: Path) -> str:
    """Return a name for a run of W&B that tells it apart: system, budget, seed and what a sweep varies.

    Args:
        config: options of the command.
        command: ``fit`` or another command, which the name then has at its end.
        folder: folder of the run, whose name stands in for that of a system.

    >>> run_name({"name": "Baseline 1", "budget": "demo", "seed_everything": 0}, "fit", Path("runs/demo_baseline1"))
    'Baseline 1, demo, seed 0'
    >>> run_name({"name": None, "budget": None, "seed_everything": 3}, "test", Path("runs/mine"))
    'mine, seed 3, test'
    """
    varied = {name: value for name, value in agent_settings().items() if name != "seed_everything"}
    seed = config["seed_everything"]
    parts = [
        config["name"] or folder.name,
        config["budget"],
        f"seed {seed}" if seed is not False else None,
        folder_name(varied) if varied else None,
        command if command != "fit" else None,
    ]
    return ", ".join(part for part in parts if part)


def _failure(logger: WandbLogger) -> str | None:
    """Start a logger's run; return why it cannot be started, or None."""
    import wandb  # takes seconds

    if wandb.run is not None and wandb.run.id == agent_run():
        logger._experiment = wandb.run
        return None
    settings = wandb.setup().settings.model_copy()
    settings.update_from_env_vars(dict(os.environ))  # which may have changed since an earlier training of this process
    mode = logger._wandb_init.setdefault("mode", "offline" if logger._offline else settings.mode)
    try:
        if mode == "online":
            keys = (settings.api_key, settings.identity_token_file, requests.utils.get_netrc_auth(settings.base_url))
            if not any(keys):
                return f"there is no key for {settings.base_url}, which `wandb login` asks for"
            requests.head(settings.base_url, timeout=_SECONDS)  # whatever it answers, it is there
            last = settings.finish_timeout or _SECONDS_TO_FINISH
            limits = wandb.Settings(init_timeout=_SECONDS_TO_START, finish_timeout=last)
            logger._wandb_init.setdefault("settings", limits)
        _ = logger.experiment
    except (requests.RequestException, wandb.Error) as error:
        return f"{settings.base_url}: {' '.join(str(error).split())[:200]}"
    return None
