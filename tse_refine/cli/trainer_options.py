"""The options of Lightning's commands: their parser, stacked configs, defaults, and the data that they describe."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, Namespace, get_loader, set_loader
from lightning import Trainer
from lightning import __version__ as lightning_version
from lightning.pytorch.cli import LightningArgumentParser

from tse_refine.cli.options import find_config
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError, did_you_mean, printable
from tse_refine.evaluation.callback import QueryRefinementEvaluation
from tse_refine.evaluation.prediction import PredictionWriter
from tse_refine.evaluation.run_config import build_data, check_groups, import_plugin, update_config
from tse_refine.files.documents import MOST_YAML_BYTES, parse_yaml, read_text
from tse_refine.training.calibrate import calibrate
from tse_refine.training.checkpoints import RunCheckpoint
from tse_refine.training.module import ExtractionModule
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


def read_data(words: list[str], **changes: Any) -> MixtureDataModule:
    """Build the data module that options of ``fit`` describe; the other options are checked too.

    Args:
        words: the options, such as ``-c`` and stacked configs.
        changes: options of the data that replace those.

    Raises:
        InputError: the data cannot be used.
    """
    return build_data(read_options(words), **changes)


def read_options(words: list[str]) -> dict[str, Any]:
    """Return the configuration that options of ``fit`` describe, checked.

    Args:
        words: the options, such as ``-c`` and stacked configs.

    Raises:
        InputError: an option is unknown or cannot be used.
    """
    parser = command_parser("fit")
    config = parser.parse_args(words)
    check_groups(parser, config)
    options: dict[str, Any] = share_root(config).as_dict()
    return options


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
    add("--data.root", type=str | None, help="Folder of the recordings of foregrounds and backgrounds; it takes the "
        "place of their own init_args.root.")  # fmt: skip
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
    for corpus in () if root is None else filter(None, (config.data[name] for name in CORPORA)):
        if "root" not in corpus.init_args:
            raise InputError(
                f"data.root is {root}, but {corpus.class_path} has no init_args.root. Leave data.root out, or stack a "
                "config whose corpora are read from a folder, such as -c data/esc50."
            )
        corpus.init_args.root = root
    return config


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n", 1)[0]
