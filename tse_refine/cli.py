"""The command line: Lightning's ``fit``, ``validate``, ``test``, ``predict``, and the package's own commands."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.cli import ArgsType

from tse_refine.data.corpus import SPLITS
from tse_refine.errors import InputError, did_you_mean
from tse_refine.trainer_cli import RefinementCLI, read_data, run_trainer
from tse_refine.version import __version__

_REFUSED_BY_THE_SYSTEM = {
    getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENOTDIR", "EISDIR")
}


def run_report(args: list[str]) -> None:
    """Draw figures and tables of finished runs."""
    from tse_refine.report import write_report

    parser = argparse.ArgumentParser("tse-refine report", description=run_report.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run that `test` has evaluated")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where figures and tables go")
    parser.add_argument("--threshold", type=float, help="at which figures refine; by default the recommended one")
    options = parser.parse_args(args)
    for path in write_report(options.runs, options.output, options.threshold):
        print(path)


def run_prepare(args: list[str]) -> None:
    """Download what is missing, verify it, and decode all recordings."""
    from tse_refine.prepare import prepare

    _, config = _data_parser("prepare", run_prepare.__doc__).parse_known_args(args)
    print(prepare(read_data(config, download=True)))


def run_preview(args: list[str]) -> None:
    """Write one mixture as sound, numbers and a picture."""
    from tse_refine.preview import write_preview

    parser = _data_parser("preview", run_preview.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--index", type=int, default=0, metavar="N", help="number of the mixture, from 0")
    parser.add_argument("--epoch", type=int, default=0, metavar="N", help="of a training set that is redrawn")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier preview")
    options, config = parser.parse_known_args(args)
    data = read_data(config)
    for path in write_preview(data, options.split, options.index, options.output, options.epoch, options.overwrite):
        print(path)


def run_recipes(args: list[str]) -> None:
    """Write the mixtures of a split as Scaper's recipes (JAMS), in the layout of FSDSoundScapes."""
    from tse_refine.data.scene_export import export_scenes

    parser = _data_parser("recipes", run_recipes.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder above jams/SPLIT/...")
    options, config = parser.parse_known_args(args)
    print(export_scenes(read_data(config), options.split, options.output))


def run_sweep(args: list[str]) -> None:
    """Run a W&B sweep file here, without W&B."""
    from tse_refine.sweep import run_sweep as run

    parser = argparse.ArgumentParser("tse-refine sweep", description=run_sweep.__doc__)
    parser.add_argument("file", type=Path, help="such as configs/sweeps/loss_weight.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of a random search")
    options = parser.parse_args(args)
    print(run(options.file, options.seed))


def _data_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of a command that takes the same stacked configs as ``fit``."""
    return argparse.ArgumentParser(
        f"tse-refine {command}",
        description=description,
        allow_abbrev=False,
        epilog="Besides these, all options of `tse-refine fit`, such as -c configs/data/esc50.yaml or --data.seed 1; "
        "only those of `data` matter here.",
    )


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "prepare": run_prepare,
    "preview": run_preview,
    "recipes": run_recipes,
    "report": run_report,
    "sweep": run_sweep,
}


def main(args: ArgsType = None) -> None:
    """Run the command line: behind the console script, ``python -m tse_refine`` and the tests.

    Args:
        args: words of the command line; by default those of the process.
    """
    words = sys.argv[1:] if args is None else list(args)
    if words == ["--version"]:
        print(f"tse-refine {__version__}")
        return
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return
    try:
        if words[0] in COMMANDS:
            COMMANDS[words[0]](words[1:])
        elif words[0] in RefinementCLI.subcommands():
            run_trainer(None if args is None else words)
        else:
            known = [*RefinementCLI.subcommands(), *COMMANDS]
            raise InputError(f"{words[0]!r} is no command; {did_you_mean(words[0], known)}")
    except InputError as error:
        print(f"tse-refine: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno not in _REFUSED_BY_THE_SYSTEM:
            raise
        print(
            f"tse-refine: {error.filename or 'a file'} cannot be used ({error.strerror}). Check that the path is "
            "right, that you may write there and that there is space, and run the command again.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


def _overview() -> str:
    """Return a line on each command."""
    lines = {
        "fit": "train, evaluating query refinement after each epoch",
        "validate": "evaluate a checkpoint on the validation mixtures",
        "test": "evaluate a checkpoint on the test mixtures and write every result file",
        "predict": "write extractions of chosen test mixtures as WAV files",
        **{name: str(command.__doc__).splitlines()[0] for name, command in COMMANDS.items()},
    }
    listed = "\n".join(f"  {name:10}{text[0].lower()}{text[1:].rstrip('.')}" for name, text in lines.items())
    return (
        "Target sound extraction with context-aware query refinement.\n\n"
        f"usage: tse-refine COMMAND ...   (tse-refine COMMAND --help explains its options)\n\n{listed}\n\n"
        "A first training: tse-refine fit -c configs/proposed.yaml -c configs/model/small.yaml "
        "-c configs/data/embedded.yaml"
    )
