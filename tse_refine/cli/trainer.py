"""Lightning's ``fit``, ``validate``, ``test`` and ``predict`` on this package's module and data, and ``calibrate``."""

from __future__ import annotations

import json
import logging
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tse_refine.cli.trainer_options import TrainerParser, command_parser, default_folder, share_root
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.evaluation.run_config import check_groups
from tse_refine.evaluation.run_folder import CALIBRATED, RunFolder
from tse_refine.files.atomic import remove_leftovers, write_text
from tse_refine.files.documents import one_line
from tse_refine.model.checkpoint import training_options
from tse_refine.training.calibrate import calibrate
from tse_refine.training.checkpoints import AtomicCheckpointIO
from tse_refine.training.module import ExtractionModule
from tse_refine.training.processes import check_launcher, lost_processes
from tse_refine.training.stopping import StopSignals, restored_signals
from tse_refine.training.sweep import agent_run
from tse_refine.training.tensorboard_logger import check_tensorboard
from tse_refine.training.wandb_logger import run_name, start_wandb
from tse_refine.version import __version__

_RESTORES = "checkpoint_connector"  # Lightning's module that gives a checkpoint's parts to their owners


class SaveRunConfig(SaveConfigCallback):
    """Saves the resolved configuration with the data digest: ``RUN/config.yaml``, for a test ``RUN/test/config.yaml``.

    The file of a test is written by the evaluation, together with the results that it describes. Loggers get the
    configuration too.

    With ``--overwrite`` it first sets the earlier training aside: only now, since all options have been checked.
    """

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file of a training; leave that of a test to the evaluation."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # a trial leaves no trace
            return
        run = RunFolder(trainer.default_root_dir)
        config = self.config.clone()
        if stage == "fit":
            if config.pop("overwrite") and run.set_aside():
                print(f"The training before this one is in {run.replaced} until this one has a checkpoint.", flush=True)
            run.trained.unlink(missing_ok=True)
            remove_leftovers(run.checkpoints)
        # these belong to the command, not to the run; only a test's configuration names the checkpoint
        for key in ("config", "overwrite", *(["ckpt_path"] if stage == "fit" else [])):
            config.pop(key, None)
        config.data.digest = trainer.datamodule.digest  # type: ignore[attr-defined]
        # paths that follow the run's folder must follow the next one that the file is used for
        if config.checkpoint.dirpath == str(run.checkpoints):
            config.checkpoint.dirpath = None
        for logger in _configured_loggers(config):
            if logger.init_args.get("save_dir") == str(run.path):
                logger.init_args.save_dir = None
        text = self.parser.dump(config, skip_none=False)
        options = {**yaml.safe_load(text), "tse_refine_version": __version__}
        for used in trainer.loggers:
            used.log_hyperparams(options)
        if stage == "fit":
            write_text(run.config, text)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if stage == "test" and isinstance(callback, QueryRefinementEvaluation):
                callback.test_config = text


class TrainerCLI(LightningCLI):
    """LightningCLI for one command, with the run's folder, checkpoint and loggers settled.

    Args:
        command: ``fit``, ``validate``, ``calibrate``, ``test`` or ``predict``.
        words: options of the command.
    """

    parser: TrainerParser

    def __init__(self, command: str, words: list[str]) -> None:
        self.command = command
        super().__init__(
            ExtractionModule,
            MixtureDataModule,
            save_config_callback=SaveRunConfig,
            save_config_kwargs={"save_to_log_dir": False},
            auto_configure_optimizers=False,
            args=words,
            run=False,  # with subcommands Lightning would make the parsers of all four
        )

    def setup_parser(self, *_: Any) -> None:
        """Make the parser of the command."""
        self.parser = command_parser(self.command)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options; a checkpoint's hyper-parameters decide on the network."""
        config = parser.parse_args(args)
        check_groups(parser, config)
        if config.trainer.default_root_dir is None:
            config.trainer.default_root_dir = default_folder(config.name, config.budget)
        run = RunFolder(config.trainer.default_root_dir)
        if self.command == "fit" and config.ckpt_path is None and not config.overwrite and SLURMEnvironment.detect():
            config.ckpt_path = run.latest()
        config.ckpt_path = run.checkpoint(config.ckpt_path, needed=self.command != "fit")
        if config.ckpt_path is not None:
            config = parser.parse_object({"model": training_options(config.ckpt_path)}, config)
        self.config = share_root(config)

    def before_instantiate_classes(self) -> None:
        """Settle the run's folder, the checkpoint's and where loggers write."""
        config = self.config
        if (name := agent_run()) is not None and Path(config.trainer.default_root_dir).name != name:
            # W&B's agent gives all runs of a sweep one command; its flags cannot name a folder for each
            config.trainer.default_root_dir = str(Path(config.trainer.default_root_dir) / name)
        run = RunFolder(config.trainer.default_root_dir)
        config.trainer.default_root_dir = str(run.path)
        if self.command == "fit" and not config.trainer.fast_dev_run:
            run.refuse_second_training(config.ckpt_path, config.overwrite)
        if config.checkpoint.dirpath is None:
            config.checkpoint.dirpath = str(run.checkpoints)
        if config.trainer.enable_progress_bar is False:  # which Lightning rejects beside a bar that a budget configures
            callbacks = config.trainer.callbacks or []
            callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
            config.trainer.callbacks = [
                part for part in callbacks if not part.class_path.endswith("ProgressBar")
            ] or None
        loggers = _configured_loggers(config)
        for logger in loggers:
            if logger.class_path.endswith("TensorBoardLogger"):
                check_tensorboard()  # what a logger of several rejects itself, jsonargparse makes a page of
            if logger.init_args.get("save_dir") in (None, "."):  # "." is WandbLogger's own default
                logger.init_args.save_dir = str(run.path)
        if self.command != "fit":  # metrics.csv belongs to the training; the results have files of their own
            config.trainer.logger = [
                logger for logger in loggers if not logger.class_path.endswith("RunCSVLogger")
            ] or False

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the trainer, which stops at signals and writes checkpoints whole or not at all."""
        trainer = super().instantiate_trainer(**kwargs)
        check_launcher(trainer)
        trainer.callbacks.append(StopSignals())  # type: ignore[attr-defined]  # after the checkpoint's
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def run(self) -> None:
        """Run the command.

        Raises:
            InputError: another training runs in the folder, or a process of this one was lost.
            StoppedError: a signal has stopped the command.
        """
        options = {name: self.config_init[name] for name in self.parser.method_options}
        run = RunFolder(self.trainer.default_root_dir)
        trial = bool(self.trainer.fast_dev_run)  # type: ignore[attr-defined]
        writes = self.command == "fit" and self.trainer.is_global_zero and not trial
        with ExitStack() as stack:
            stack.enter_context(restored_signals())
            stack.enter_context(lost_processes())
            if writes:
                stack.enter_context(_only_training(run))
                # one that ended since the options were checked
                run.refuse_second_training(self.config.ckpt_path, self.config.overwrite)
            start_wandb(self.trainer, self.command, run_name(self.config.as_dict(), self.command, run.path))
            with _naming_checkpoint(self.config.ckpt_path):
                if self.command == "calibrate":
                    output = run.checkpoints / f"{CALIBRATED}.ckpt"
                    calibrate(self.trainer, self.model, self.datamodule, Path(self.config.ckpt_path), output)
                    return
                getattr(self.trainer, self.command)(model=self.model, datamodule=self.datamodule, **options)
            if writes:
                write_text(run.trained, json.dumps({"steps": self.trainer.global_step}) + "\n")


@contextmanager
def _naming_checkpoint(path: str | None) -> Iterator[None]:
    """Raise what goes wrong while Lightning restores a checkpoint as an InputError: its state is damaged."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, InputError) or not any(_RESTORES in frame.filename for frame in frames):
            raise
        raise InputError(
            f"--ckpt_path: the state of the training in {path} cannot be restored ({type(error).__name__}: "
            f"{one_line(error)}). Use another checkpoint of the run, or start over with --overwrite."
        ) from error


@contextmanager
def _only_training(run: RunFolder) -> Iterator[None]:
    """Keep other trainings out of a run's folder."""
    run.path.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.path / ".training.lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"trainer.default_root_dir: another training is running in {run.path}. Give another folder, or wait."
        ) from None


def run_trainer(command: str, words: list[str]) -> None:
    """Run one of Lightning's commands."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in record.msg)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch 2.11 deprecates what Lightning 2.6 uses
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # mixing is fast; two cores are few
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")  # main() may be called from Python
    cli = TrainerCLI(command, words)
    cli.run()
    if command == "fit" and agent_run() is not None and not cli.trainer.fast_dev_run:  # type: ignore[attr-defined]
        # what `tse-refine sweep` runs after a training; in this process, so that it is in the same run of W&B
        run = RunFolder(cli.trainer.default_root_dir)
        TrainerCLI("test", ["-c", str(run.config), "--trainer.default_root_dir", str(run.path)]).run()


def _configured_loggers(config: Namespace) -> list[Namespace]:
    """Return the loggers that a configuration describes by class, one or several; not a bare true or false."""
    loggers = config.trainer.logger
    return [logger for logger in (loggers if isinstance(loggers, list) else [loggers]) if hasattr(logger, "init_args")]
