"""Lightning's ``fit``, ``validate``, ``test`` and ``predict`` on this package's module and data."""

from __future__ import annotations

import logging
import os
import pickle
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace
from lightning import LightningModule, Trainer
from lightning import __version__ as lightning_version
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError, did_you_mean
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.evaluation.prediction import PredictionWriter
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import write_text
from tse_refine.training.module import ExtractionModule
from tse_refine.version import PACKAGE, __version__

TRAINER_DEFAULTS: dict[str, Any] = {
    "default_root_dir": "runs/default",
    "max_epochs": 100,
    "gradient_clip_val": 5.0,  # ours; the paper does not say
    "num_sanity_val_steps": 1,  # one batch through the whole evaluation before the first epoch
    "logger": {"class_path": "tse_refine.RunCSVLogger"},
}
CHECKPOINT_DEFAULTS: dict[str, Any] = {
    "checkpoint.monitor": "val/snri_db/1a0i/none",
    "checkpoint.mode": "max",
    "checkpoint.filename": "best",
    "checkpoint.save_last": True,
    "checkpoint.enable_version_counter": False,  # a resumed training replaces its best checkpoint
}


class RefinementParser(LightningArgumentParser):
    """A parser whose refusals are one paragraph: what is wrong and, for a misspelt option, what was probably meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the paragraph to stderr and exit with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        hint = "`tse-refine fit --help` explains every option."
        misspelt = re.search(r"(?:unrecognized arguments: --|option ')([\w.]+)", message)
        if misspelt:
            hint = did_you_mean(misspelt[1], _option_names(self), few=True) or hint
        elif "data.foregrounds" in message and "required" in message:
            hint = "Stack a file that says what the data are, such as -c configs/data/embedded.yaml."
        print(f"tse-refine: {' '.join(message.split())}. {hint}", file=sys.stderr)
        raise SystemExit(2)


class SaveRunConfig(SaveConfigCallback):
    """Saves the resolved configuration with the data digest: ``RUN/config.yaml``, for a test ``RUN/test/config.yaml``.

    That of a test is written by the evaluation, together with the results that it describes.

    With ``--overwrite`` it first clears the folder of the training it had: here, since now all input is known to be
    good.
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file of a training; leave that of a test to the evaluation."""
        run = RunFolder(trainer.default_root_dir)
        config = self.config.clone()
        if stage == "fit" and config.pop("overwrite"):
            run.clear()
        # what the command was told, not what the run is; a test says which checkpoint it tested
        for key in ("config", "overwrite", *(["ckpt_path"] if stage == "fit" else [])):
            config.pop(key, None)
        config.data.digest = trainer.datamodule.digest
        # paths that follow the run's folder must follow the next one that the file is used for
        if config.checkpoint.dirpath == str(run.checkpoints):
            config.checkpoint.dirpath = None
        for logger in _configured_loggers(config):
            if logger.init_args.get("save_dir") == str(run.path):
                logger.init_args.save_dir = None
        text = self.parser.dump(config, skip_none=False)
        if stage == "fit":
            write_text(run.config, text)
        for callback in trainer.callbacks:
            if stage == "test" and isinstance(callback, QueryRefinementEvaluation):
                callback.test_config = text


class RefinementCLI(LightningCLI):
    """LightningCLI with the data's classes and sample rate linked to the model, and the run's folder set up."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the callbacks with short addresses, the links and ``--overwrite``."""
        parser.add_lightning_class_args(QueryRefinementEvaluation, "evaluation")
        parser.add_lightning_class_args(PredictionWriter, "prediction")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(CHECKPOINT_DEFAULTS)
        parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
        parser.link_arguments("data.sample_rate", "model.sample_rate", apply_on="instantiate")
        parser.add_argument(
            "--overwrite", action="store_true", help="Start over in a run's folder that already holds a training."
        )

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Let our table stand for Lightning's, which would list a hundred metrics below one another."""
        super().setup_parser(*args, **kwargs)
        for name in ("validate", "test"):
            self._subcommand_parsers[name].set_defaults({"verbose": False})
        # the callback writes what is of use; kept in memory, features of many mixtures would fill it
        self._subcommand_parsers["predict"].set_defaults({"return_predictions": False})

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, the checkpoint and where loggers write."""
        config = self.config[self.subcommand]
        if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
            # W&B's agent gives all runs of a sweep one command; its flags cannot name a folder for each
            folder = Path(config.trainer.default_root_dir) / os.environ["WANDB_RUN_ID"]
            config.trainer.default_root_dir = str(folder)
        run = RunFolder(config.trainer.default_root_dir)
        if self.subcommand == "fit":
            run.refuse_second_training(config.ckpt_path, config.overwrite)
        if config.checkpoint.dirpath is None:
            config.checkpoint.dirpath = str(run.checkpoints)
        loggers = _configured_loggers(config)
        for logger in loggers:
            if logger.init_args.get("save_dir") in (None, "."):  # "." is WandbLogger's own default
                logger.init_args.save_dir = str(run.path)
        if self.subcommand != "fit":  # metrics.csv belongs to the training; the results have files of their own
            config.trainer.logger = [one for one in loggers if not one.class_path.endswith("RunCSVLogger")] or False

    def _parse_ckpt_path(self) -> None:
        """Resolve ``best`` and ``last``, then let the checkpoint's hyper-parameters say what the network is."""
        config = self.config[self.config.subcommand]
        run = RunFolder(config.trainer.default_root_dir)
        config.ckpt_path = run.checkpoint(config.ckpt_path, needed=self.config.subcommand != "fit")
        try:
            super()._parse_ckpt_path()
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
            raise InputError(
                f"--ckpt_path: {config.ckpt_path} cannot be read as a checkpoint ({_first_line(error)}). Give "
                "checkpoints/best.ckpt or last.ckpt of a run."
            ) from error


def run_trainer(args: list[str] | None) -> None:
    """Run one of Lightning's commands; without arguments, those of the process."""
    _start(RefinementCLI, args)


def read_data(args: list[str], download: bool = False) -> MixtureDataModule:
    """Build the data module that the options of ``fit`` describe, and nothing else of them.

    Args:
        args: the options, such as ``-c`` and stacked configs.
        download: download what is missing of published recordings, as with ``data.download: true``.

    Raises:
        InputError: what the data module refuses.
    """
    words = ["fit", *args, *(["--data.download", "true"] if download else [])]
    return _start(_DataCLI, words).datamodule


class _DataCLI(RefinementCLI):
    """Reads all options and builds of them only the data."""

    def before_instantiate_classes(self) -> None:
        """Settle nothing: no run begins."""

    def _parse_ckpt_path(self) -> None:
        """Leave checkpoints alone."""

    def instantiate_classes(self) -> None:
        """Build the data module."""
        parser = RefinementParser()
        parser.add_lightning_class_args(MixtureDataModule, "data")
        self.datamodule = parser.instantiate_classes(Namespace(data=self.config[self.subcommand].data)).data

    def _set_seed(self) -> None:
        """Leave chance alone."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


def _start(cli: type[RefinementCLI], args: list[str] | None) -> RefinementCLI:
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.msg)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch 2.11 deprecates what Lightning 2.6 uses
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # mixing is fast; two cores are few
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")  # main() may be called from Python
    header = [
        f"{PACKAGE}=={__version__}",
        f"lightning.pytorch=={lightning_version}",
    ]  # comments in saved configurations
    return cli(
        ExtractionModule,
        MixtureDataModule,
        save_config_callback=SaveRunConfig,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_defaults=TRAINER_DEFAULTS,
        seed_everything_default=0,
        auto_configure_optimizers=False,
        parser_class=RefinementParser,
        parser_kwargs={"prog": PACKAGE} | {name: {"dump_header": header} for name in cli.subcommands()},
        args=args,
    )


def _configured_loggers(config: Namespace) -> list[Namespace]:
    """Return the loggers that a configuration describes by class, one or several; not a bare true or false."""
    given = config.trainer.logger
    return [logger for logger in (given if isinstance(given, list) else [given]) if hasattr(logger, "init_args")]


def _option_names(parser: ArgumentParser) -> list[str]:
    """Return the names of all options of a parser and of its subcommands."""
    names = []
    for action in parser._actions:
        if isinstance(action.choices, dict):  # subcommands, each with a parser of its own
            names += [name for sub in action.choices.values() for name in _option_names(sub)]
        names.append(action.dest)
    return sorted(set(names))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
