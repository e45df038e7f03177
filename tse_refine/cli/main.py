"""The command line: Lightning's ``fit``, ``validate``, ``test``, ``predict``, and the package's own commands."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from tse_refine.data.corpora.base import SPLITS
from tse_refine.errors import InputError, did_you_mean
from tse_refine.version import __version__

_REFUSED_BY_THE_SYSTEM = {
    getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENOTDIR", "EISDIR")
}


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuse words of the command line."""
        raise InputError(f"{message}. `{self.prog} --help` explains every option.")


def run_report(args: list[str]) -> None:
    """Draw figures and tables of finished runs."""
    from tse_refine.analysis.report import write_report

    parser = _Parser("tse-refine report", description=run_report.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run that `test` has evaluated")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where figures and tables go")
    parser.add_argument("--threshold", help="refinement that figures show; by default the recommended one")
    options = parser.parse_args(args)
    for path in write_report(options.runs, options.output, options.threshold):
        print(path)


def run_prepare(args: list[str]) -> None:
    """Download what is missing, verify it, and decode all recordings."""
    from tse_refine.cli.data import prepare
    from tse_refine.cli.trainer import read_data

    _, config = _data_parser("prepare", run_prepare.__doc__).parse_known_args(args)
    print(prepare(read_data(config, download=True)))


def run_preview(args: list[str]) -> None:
    """Write one mixture as sound, numbers and a picture."""
    from tse_refine.analysis.preview import write_preview
    from tse_refine.cli.trainer import read_data

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
    from tse_refine.cli.trainer import read_data

    parser = _data_parser("recipes", run_recipes.__doc__)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder above jams/SPLIT/...")
    options, config = parser.parse_known_args(args)
    print(read_data(config).export_scenes(options.split, options.output))


def run_sweep(args: list[str]) -> None:
    """Run a W&B sweep file here, without W&B."""
    from tse_refine.training.sweep import run_sweep as run

    parser = _Parser("tse-refine sweep", description=run_sweep.__doc__)
    parser.add_argument("file", type=Path, help="such as configs/sweeps/loss_weight.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of a random search")
    options = parser.parse_args(args)
    print(run(options.file, options.seed))


def run_extract(args: list[str]) -> None:
    """Extract sounds from recordings of your own."""
    from tse_refine.cli.extract import extract_files
    from tse_refine.extraction.extractor import Extractor
    from tse_refine.extraction.outputs import plan_outputs
    from tse_refine.extraction.query import parse_query

    parser = _Parser("tse-refine extract", description=run_extract.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="such as runs/demo/checkpoints/best.ckpt")
    add("--input", required=True, nargs="+", type=Path, metavar="FILE", help="recordings, and folders of them")
    add("--query", required=True, nargs="+", metavar="CLASS", help="what to extract; all for every class")
    add(
        "--except", "--exclude", nargs="+", default=[], dest="excluded", metavar="CLASS", help="what to leave out of it"
    )
    add("--output", required=True, type=Path, metavar="FILE", help="file, or folder for files with the inputs' names")
    add("--threshold", metavar="P", help="keep a class where its probability is at least this, 0 keeps all; or another "
        "refinement: none, gate, soft:LOW-HIGH; by default the best on the validation mixtures, or 0.1")  # fmt: skip
    add("--refine", choices=("window", "file"), default="window", help="decide per window (default), or once for the "
        "whole file by the largest probability in it")  # fmt: skip
    add("--each", action="store_true", help="a file for each class that is kept, instead of one for all")
    add("--residual", action="store_true", help="also write everything else: the input less what was extracted")
    add("--format", metavar="NAME", help="wav, flac, ogg, ...; by default what the output or the input is called")
    add("--device", metavar="NAME", help="such as cpu or cuda; by default cuda where there is one")
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args(args)
    extractor = Extractor.load(options.checkpoint, options.device)
    query = parse_query(options.query, extractor.class_names, options.excluded)
    naming = (options.format, options.each, options.residual, options.overwrite)
    plans = plan_outputs(options.input, options.output, query, *naming)
    deciding = (options.threshold, options.refine)
    if not extract_files(extractor, plans, query, *deciding, options.overwrite, options.json):
        raise SystemExit(2)


def run_classes(args: list[str]) -> None:
    """List the classes that a checkpoint knows, one a line."""
    from tse_refine.model.checkpoint import load_network

    parser = _Parser("tse-refine classes", description=run_classes.__doc__, allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="of a run")
    print("\n".join(load_network(parser.parse_args(args).checkpoint).class_names))


def run_export(args: list[str]) -> None:
    """Write a trained network as one file for other programs, ONNX or torch.export."""
    from tse_refine.extraction.export import SUFFIXES, export_checkpoint

    parser = _Parser("tse-refine export", description=run_export.__doc__, allow_abbrev=False)
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="of a run")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="model.onnx, or model.pt2 for torch")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx", help="onnx (default), or torch for torch.export")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--threshold", metavar="P", help="fixed threshold or another refinement, such as "
        "soft:0.2-0.6; by default the threshold is an input of the model")  # fmt: skip
    options = parser.parse_args(args)
    inputs = export_checkpoint(options.checkpoint, options.output, options.format, options.overwrite, options.threshold)
    if options.threshold is None and "threshold" not in inputs:
        print(
            "tse-refine: this network has no classifier, so that the model has no threshold and no probability: it "
            "uses the query as it is.",
            file=sys.stderr,
        )
    print(options.output)


def run_listen(args: list[str]) -> None:
    """Open a local page to drop or record sound, tick classes, and hear what is extracted."""
    from tse_refine.extraction.listen.server import serve
    from tse_refine.extraction.listen.sounds import Limits

    parser = _Parser("tse-refine listen", description=run_listen.__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="such as runs/demo/checkpoints/best.ckpt")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="at which the page can be reached; by default from this "
        "machine only, 0.0.0.0 from everywhere, without a password")  # fmt: skip
    add("--port", type=int, default=7860, metavar="N", help="by default 7860; 0 for any that is free")
    add("--device", metavar="NAME", help="such as cpu or cuda; by default cuda where there is one")
    add("--max-megabytes", type=float, default=Limits.megabytes, metavar="N", help="largest file; by default 50")
    add("--max-minutes", type=float, default=Limits.minutes, metavar="N", help="longest sound; by default 10")
    options = parser.parse_args(args)
    limits = Limits(options.max_megabytes, options.max_minutes)
    serve(options.checkpoint, options.host, options.port, options.device, limits)


def _data_parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of a command that takes the same stacked configs as ``fit``."""
    return _Parser(
        f"tse-refine {command}",
        description=description,
        allow_abbrev=False,
        epilog="Besides these, all options of `tse-refine fit`, such as -c configs/data/esc50.yaml or --data.seed 1; "
        "only those of `data` matter here.",
    )


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "classes": run_classes,
    "export": run_export,
    "extract": run_extract,
    "listen": run_listen,
    "prepare": run_prepare,
    "preview": run_preview,
    "recipes": run_recipes,
    "report": run_report,
    "sweep": run_sweep,
}


def main(args: Sequence[str] | None = None) -> None:
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
            sys.stdout.flush()
        else:
            _run_trainer(words[0], None if args is None else words)
    except InputError as error:
        print(f"tse-refine: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # whoever read the output has seen enough; nothing more is said to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a shell reports a program that a closed pipe ended
    except OSError as error:
        if error.errno not in _REFUSED_BY_THE_SYSTEM:
            raise
        print(
            f"tse-refine: {error.filename or 'a file'} cannot be used ({error.strerror}). Check that the path is "
            "right, that you may write there and that there is space, and run the command again.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


def _run_trainer(command: str, words: list[str] | None) -> None:
    """Run one of Lightning's commands; Lightning takes seconds to import, and the other commands do without."""
    from tse_refine.cli.trainer import RefinementCLI, run_trainer

    if command not in RefinementCLI.subcommands():
        known = [*RefinementCLI.subcommands(), *COMMANDS]
        raise InputError(f"{command!r} is no command; {did_you_mean(command, known)}")
    run_trainer(words)


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
