"""The exceptions that end a command without a traceback, and hints for misspelt names."""

import difflib
import signal
from collections.abc import Sequence
from pathlib import Path

# signals that stop a training; Windows has no SIGUSR1
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))

_LONGEST_TEXT = 6000  # characters of a message, whatever names a file has


class InputError(ValueError):
    """A file, option or table that cannot be used as it is.

    Its text is one paragraph for the user: the file or option, what was found, what was expected and what to do. The
    command line prints the text without a traceback and exits with status 2.

    Args:
        text: the paragraph; what a file or a name in it would make a terminal do is written out.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST_TEXT:
            text = f"{text[: _LONGEST_TEXT // 2]} ... {text[-_LONGEST_TEXT // 2 :]}"
        super().__init__("\n".join(map(printable, text.split("\n"))))


class MissingFileError(InputError):
    """A file that is missing, and that perhaps can be downloaded.

    Args:
        text: paragraph for the user.
        path: missing file.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.path = path


class StoppedError(SystemExit):
    """Ends a command that a signal has stopped, with the exit status of a shell: 128 and the signal's number.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def printable(text: object) -> str:
    r"""Return a path or another text as one line, whatever characters it has.

    >>> printable("two\nlines.wav"), printable("\udcff.wav")
    ('two\\nlines.wav', '\\udcff.wav')
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))


def did_you_mean(word: str, known: list[str], few: bool = False) -> str:
    """Return a hint that names the valid words nearest to an unknown one.

    Args:
        word: unknown word.
        known: valid words.
        few: return nothing, instead of all valid words, when none is near.

    >>> did_you_mean("dgo", ["cat", "dog"])
    "did you mean 'dog'?"
    >>> did_you_mean("xylophone", ["cat", "dog"])
    'known are: cat, dog'
    """
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=2)
    if near:
        return "did you mean " + " or ".join(repr(by_lower[name]) for name in near) + "?"
    return "" if few else "known are: " + ", ".join(known)


def listed(texts: Sequence[str], separator: str = ", ", most: int = 20) -> str:
    """Join texts, but not more than ``most`` of them.

    >>> listed(["a", "b", "c"], most=2)
    'a, b, and 1 more'
    """
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return separator.join([*texts[:most], *more])
