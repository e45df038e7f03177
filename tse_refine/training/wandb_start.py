"""Starts the runs of Weights & Biases, and goes on without them where it cannot be reached."""

from __future__ import annotations

import os
import sys

import requests
from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger

from tse_refine.training.csv_logger import RunCSVLogger

_SECONDS, _SECONDS_TO_START = 5.0, 30.0  # for the server's first answer, and a run's start; W&B's own are minutes


def start_wandb(trainer: Trainer) -> None:
    """Start the run of each logger of W&B, or take the logger out and report why, within seconds.

    Args:
        trainer: trainer whose loggers have not been used yet; one without any other logger gets ``metrics.csv``.
    """
    if not trainer.is_global_zero:
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and (reason := _failure(logger)):
            others = [other for other in trainer.loggers if other is not logger]
            trainer.loggers = others or [RunCSVLogger(trainer.default_root_dir)]
            print(
                f"tse-refine: W&B cannot be used ({reason}). Going on without it: metrics.csv holds the same numbers. "
                "With WANDB_MODE=offline a run is kept for `wandb sync`.",
                file=sys.stderr,
            )


def _failure(logger: WandbLogger) -> str | None:
    """Start a logger's run; return why it cannot be started, or None."""
    import wandb  # takes seconds

    settings = wandb.setup().settings.model_copy()
    settings.update_from_env_vars(dict(os.environ))  # which may have changed since an earlier training of this process
    mode = logger._wandb_init.setdefault("mode", "offline" if logger._offline else settings.mode)
    try:
        if mode == "online":
            keys = (settings.api_key, settings.identity_token_file, requests.utils.get_netrc_auth(settings.base_url))
            if not any(keys):
                return f"there is no key for {settings.base_url}, which `wandb login` asks for"
            requests.head(settings.base_url, timeout=_SECONDS)  # whatever it answers, it is there
            logger._wandb_init.setdefault("settings", wandb.Settings(init_timeout=_SECONDS_TO_START))
        _ = logger.experiment
    except (requests.RequestException, wandb.Error) as error:
        return f"{settings.base_url}: {' '.join(str(error).split())[:200]}"
    return None
