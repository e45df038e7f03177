"""The command line: finds the group of a command, imports that group alone, and turns errors into exit statuses."""

from __future__ import annotations

import codecs
import errno
import gc
import io
import locale
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tse_refine.errors import InputError, StoppedError, did_you_mean
from tse_refine.version import __version__

# Lightning's commands, whose module takes seconds to import
TRAINER_COMMANDS = {
    "fit": "train, evaluating query refinement after each epoch",
    "validate": "evaluate a checkpoint on the validation mixtures",
    "calibrate": "calibrate a checkpoint's classifier and choose its refinement, on the validation mixtures",
    "test": "evaluate a checkpoint on the test mixtures and write every result file",
    "predict": "write extractions of chosen test mixtures as WAV files",
}
# the other commands by the module of their group, which holds a function of each name
COMMANDS = {
    "prepare": "data",
    "preview": "data",
    "recipes": "data",
    "report": "analysis",
    "compare": "analysis",
    "sweep": "analysis",
    "extract": "extract",
    "classes": "checkpoints",
    "models": "checkpoints",
    "export": "checkpoints",
    "listen": "checkpoints",
    "push": "hub",
}
_SYSTEM_ERRORS = {
    getattr(errno, name) for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EFBIG", "ENOTDIR", "EISDIR")
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line: behind the console script, ``python -m tse_refine`` and the tests.

    Args:
        args: words of the command line; by default those of the process.
    """
    if args is None:
        _use_utf8()
    words = sys.argv[1:] if args is None else list(args)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends no command
    # Threads of PyTorch that wait for each other soon yield their cores. With the default, 60 times as long, a training
    # on two cores beside one other busy process takes five times as long as with this; alone it takes as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    if words == ["--version"]:
        print(f"tse-refine {__version__}")
        return
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return
    try:
        _run(*words)
        sys.stdout.flush()
    except InputError as error:
        print(f"tse-refine: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt as error:
        number = signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT
        print(f"\ntse-refine: stopped by {number.name}.", file=sys.stderr)
        raise StoppedError(number) from None
    except UnicodeEncodeError as error:  # of a path or in a file: everything can be printed
        text = ascii(error.object[max(0, error.start - 40) : error.end + 40])
        print(
            f"tse-refine: {text} cannot be written in {error.encoding}. Set PYTHONUTF8=1 if that is the locale's "
            "encoding, otherwise rename the file or class whose name it is, and run the command again.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader of the output has closed it, and gets no further message
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a shell reports a program that a closed pipe ended
    except OSError as error:
        if error.errno not in _SYSTEM_ERRORS:
            raise
        print(
            f"tse-refine: {error.filename or 'a file'} cannot be used ({error.strerror}). Check that the path is "
            "right, that you may write there and that there is space, and run the command again.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None


def _use_utf8() -> None:
    """Start this process again in Python's UTF-8 mode (PEP 540) where the locale has another encoding.

    Words, file names, and files that other packages open are then read in UTF-8 as everywhere else.
    """
    if codecs.lookup(locale.getpreferredencoding(False)).name == "utf-8" or sys.flags.utf8_mode:
        return
    words = [sys.executable, "-X", "utf8", *sys.orig_argv[1:]]
    if os.name == "posix":
        os.execv(sys.executable, words)  # the same process, which schedulers and launchers watch
    import subprocess  # takes as long as all other imports here

    raise SystemExit(subprocess.run(words, check=False).returncode)


def _run(command: str, *words: str) -> None:
    if command in COMMANDS:
        with _terminable():
            _function(command)(list(words))
    elif command in TRAINER_COMMANDS:
        _trainer()(command, list(words))
    else:
        known = [*TRAINER_COMMANDS, *COMMANDS]
        raise InputError(f"{command!r} is not a command; {did_you_mean(command, known)}")


class _Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, so that temporary files are removed and processes of the command end with it."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Raise :class:`_Terminated` at SIGTERM within the block; Lightning's commands have handlers of their own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: Any) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _trainer() -> Callable[[str, list[str]], None]:
    name = "tse_refine.cli.trainer"
    if name not in sys.modules:  # nothing that imports make is garbage: to look for it takes a fifth of the start
        gc.disable()
        import_module(name)
        gc.freeze()
        gc.enable()
    runner: Callable[[str, list[str]], None] = sys.modules[name].run_trainer
    return runner


def _function(command: str) -> Callable[[list[str]], None]:
    function: Callable[[list[str]], None] = getattr(import_module(f"tse_refine.cli.{COMMANDS[command]}"), command)
    return function


def _overview() -> str:
    """Return a line on each command."""
    lines = TRAINER_COMMANDS | {name: str(_function(name).__doc__).splitlines()[0] for name in COMMANDS}
    listed = "\n".join(f"  {name:10}{text[0].lower()}{text[1:].rstrip('.')}" for name, text in lines.items())
    return (
        "Target sound extraction with context-aware query refinement.\n\n"
        f"usage: tse-refine COMMAND ...   (tse-refine COMMAND --help explains its options)\n\n{listed}\n\n"
        "A first training: tse-refine fit -c experiment/proposed -c model/small -c data/synthetic -c budget/demo"
    )
