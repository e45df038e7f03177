"""Lightning's ``fit``, ``validate``, ``test`` and ``predict`` on this package's module and data, and ``calibrate``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml
from filelock import FileLock, Timeout
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from lightning import LightningModule, Trainer
from lightning import __version__ as lightning_version
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from tse_refine.cli.options import find_config
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError, did_you_mean, printable
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.evaluation.prediction import PredictionWriter
from tse_refine.evaluation.run_config import build_data, check_groups, import_plugin, update_config
from tse_refine.evaluation.run_folder import CALIBRATED, RunFolder
from tse_refine.files.atomic import remove_leftovers, write_text
from tse_refine.files.documents import MOST_YAML_BYTES, one_line, parse_yaml, read_text
from tse_refine.model.checkpoint import training_options
from tse_refine.training.calibrate import calibrate
from tse_refine.training.checkpoints import AtomicCheckpointIO, RunCheckpoint
from tse_refine.training.module import ExtractionModule
from tse_refine.training.processes import check_launcher, lost_processes
from tse_refine.training.stopping import StopSignals, restored_signals
from tse_refine.training.wandb_start import start_wandb
from tse_refine.version import PACKAGE, __version__

DEFAULTS: dict[str, Any] = {
    "trainer.max_epochs": 100,
    "trainer.gradient_clip_val": 5.0,  # ours; the paper does not say
    "trainer.num_sanity_val_steps": 1,  # one batch through the whole evaluation before the first epoch
    "trainer.logger": {"class_path": "tse_refine.RunCSVLogger"},
}
COMMAND_DEFAULTS: dict[str, dict[str, Any]] = {
    "fit": {},
    "validate": {"verbose": False},  # our table instead of Lightning's, which would list a hundred metrics
    "calibrate": {"verbose": False},
    "test": {"verbose": False},
    # the callback writes what is of use; kept in memory, features of many mixtures would fill it
    "predict": {"return_predictions": False},
}
CORPORA = ("foregrounds", "backgrounds")
_NOT_OPTIONS = {"model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders"}
_RESTORES = "checkpoint_connector"  # Lightning's module that gives a checkpoint's parts to their owners
_YAML = "yaml with present names"


def _load_yaml(text: str) -> Any:
    parse_yaml(text)  # in bounded size, and with one kind of error
    return update_config(get_loader("yaml")(text))


set_loader(_YAML, _load_yaml, exceptions=(yaml.YAMLError, ValueError))


class TrainerParser(LightningArgumentParser):
    """A parser whose errors are one paragraph: what is wrong and, for a misspelt option, the nearest names.

    Attributes:
        method_options: names of the options that the trainer's method receives.
    """

    method_options: Sequence[str] = ()

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the paragraph to stderr and exit with status 2."""
        cause: BaseException | None = ex
        while cause is not None and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:  # its text is the paragraph
            raise cause
        if not self.exit_on_error:
            super().error(message, ex)
        hint = f"`{self.prog} --help` explains every option."
        misspelt = re.search(r"(?:unrecognized arguments: --|option ')([\w.]+)", message)
        if misspelt:
            hint = did_you_mean(misspelt[1], sorted({action.dest for action in self._actions}), few=True) or hint
        elif "data.foregrounds" in message and "required" in message:
            hint = "Stack a config of the data, such as -c data/synthetic."
        print(InputError(f"tse-refine: {' '.join(message.split())}. {hint}"), file=sys.stderr)
        raise SystemExit(2)


class ConfigAction(ActionConfigFile):
    """Reads a config that is given by its path, by the name of a shipped one, as an address or as text."""

    def __call__(
        self, parser: argparse.ArgumentParser, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Stack the config on those before it."""
        try:
            is_name = "://" not in values and not isinstance(parse_yaml(values), dict)
        except ValueError:
            is_name = True
        super().__call__(parser, cfg, str(_readable_config(values)) if is_name else values, option_string)


def _readable_config(name: str) -> Path:
    """Return the path of a config; InputError where it is missing or is not YAML."""
    path = find_config(name)
    try:
        parse_yaml(read_text(path, MOST_YAML_BYTES))
    except ValueError as error:
        raise InputError(f"{printable(path)}: is not a config in YAML ({error}). Correct or replace it.") from error
    return path


class _Plugin:
    """Type of the values of ``--plugins``, which are imported when they are parsed; its repr stands in the help."""

    def __call__(self, name: str) -> str:
        return import_plugin(name)

    def __repr__(self) -> str:
        return "module"


class SaveRunConfig(SaveConfigCallback):
    """Saves the resolved configuration with the data digest: ``RUN/config.yaml``, for a test ``RUN/test/config.yaml``.

    The file of a test is written by the evaluation, together with the results that it describes.

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
        if "WANDB_SWEEP_ID" in os.environ and "WANDB_RUN_ID" in os.environ:
            # W&B's agent gives all runs of a sweep one command; its flags cannot name a folder for each
            folder = Path(config.trainer.default_root_dir) / os.environ["WANDB_RUN_ID"]
            config.trainer.default_root_dir = str(folder)
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
            start_wandb(self.trainer)
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
    TrainerCLI(command, words).run()


def read_data(words: list[str], **changes: Any) -> MixtureDataModule:
    """Build the data module that options of ``fit`` describe; the other options are checked too.

    Args:
        words: the options, such as ``-c`` and stacked configs.
        changes: options of the data that replace those, such as ``download``.

    Raises:
        InputError: the data cannot be used.
    """
    parser = command_parser("fit")
    config = parser.parse_args(words)
    check_groups(parser, config)
    config = share_root(config)
    return build_data(config.as_dict(), **changes)


def command_parser(command: str) -> TrainerParser:
    """Return the parser of one of Lightning's commands, with the data's classes and sample rate linked to the model."""
    method = getattr(Trainer, "validate" if command == "calibrate" else command)
    header = [f"{PACKAGE}=={__version__}", f"lightning.pytorch=={lightning_version}"]
    parser = TrainerParser(
        f"tse-refine {command}",
        description=_first_line((calibrate if command == "calibrate" else method).__doc__),
        dump_header=header,
        parser_mode=_YAML,
    )
    add = parser.add_argument
    add("-c", "--config", action=ConfigAction, help="Shipped config by its name, such as experiment/proposed, or path "
        "of a YAML file; repeated, each is stacked on those before it.")  # fmt: skip
    add("--plugins", nargs="*", type=_Plugin(), default=[], metavar="MODULE", help="Python modules to import first: "
        "corpora, refinement rules and measures that they define can be named in options.")  # fmt: skip
    add("--name", type=str | None, help="Name of the system in reports; an experiment's config gives it.")
    add("--budget", type=str | None, help="Name of the budget: what the run's folder is called, runs/BUDGET for "
        "proposed and runs/BUDGET_NAME for other systems, where trainer.default_root_dir names none.")  # fmt: skip
    add("--seed_everything", type=bool | int, default=0, help="Seed of everything random but the data, which have "
        "data.seed; true for a random one, false to set none.")  # fmt: skip
    add("--overwrite", action="store_true", help="Start over in a run's folder that already holds a training.")
    parser.add_lightning_class_args(Trainer, "trainer")
    folder = next(action for action in parser._actions if action.dest == "trainer.default_root_dir")
    folder.help = "Folder of the run; by default the one that --budget describes."  # Lightning's is another
    parser.add_lightning_class_args(ExtractionModule, "model")
    parser.add_lightning_class_args(MixtureDataModule, "data")
    add("--data.root", type=str | None, help="Folder of the recordings of both corpora; it takes the place of their "
        "own init_args.root.")  # fmt: skip
    parser.add_lightning_class_args(QueryRefinementEvaluation, "evaluation")
    parser.add_lightning_class_args(PredictionWriter, "prediction")
    parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
    parser.link_arguments("data.class_names", "model.class_names", apply_on="instantiate")
    parser.link_arguments("data.sample_rate", "model.sample_rate", apply_on="instantiate")
    parser.method_options = parser.add_method_arguments(Trainer, method.__name__, skip=_NOT_OPTIONS)
    parser.set_defaults(DEFAULTS | COMMAND_DEFAULTS[command])
    return parser


def default_folder(name: str | None, budget: str | None) -> str:
    """Return the folder of a run whose options name none: after its budget and its system.

    The method itself needs no system's name beside a budget, so that ``runs/demo`` is the demo.

    >>> default_folder("Proposed", "demo"), default_folder("Baseline 1", "demo"), default_folder("Baseline 1", None)
    ('runs/demo', 'runs/demo_baseline1', 'runs/baseline1')
    """
    system = re.sub(r"\W", "", (name or "").lower())
    parts = [budget] if budget and system == "proposed" else [budget, system]
    return f"runs/{'_'.join(part for part in parts if part) or 'default'}"


def share_root(config: Namespace) -> Namespace:
    """Give both corpora the folder of ``data.root``, in place.

    Args:
        config: options of a command.

    Raises:
        InputError: a corpus has no such option.
    """
    root = config.pop("data.root", None)
    for corpus in () if root is None else (config.data[name] for name in CORPORA):
        if "root" not in corpus.init_args:
            raise InputError(
                f"data.root is {root}, but {corpus.class_path} has no init_args.root. Leave data.root out, or stack a "
                "config whose corpora are read from a folder, such as -c data/esc50."
            )
        corpus.init_args.root = root
    return config


def _configured_loggers(config: Namespace) -> list[Namespace]:
    """Return the loggers that a configuration describes by class, one or several; not a bare true or false."""
    loggers = config.trainer.logger
    return [logger for logger in (loggers if isinstance(loggers, list) else [loggers]) if hasattr(logger, "init_args")]


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]
