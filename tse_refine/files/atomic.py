"""Files and folders that appear whole or not at all, and the paths and names they may have."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tse_refine.errors import InputError, printable

_PART = ".part"
_LONGEST_NAME = 60  # characters; file systems allow 255 bytes


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Name ``path`` in system errors of the block, which name no file, or a temporary one, where a write failed."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or _PART in str(error.filename)):
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, which replaces it when the block ends without an error.

    The folder is created when missing. After an error the temporary file is removed and an older ``path`` is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with named_errors(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``, which replaces it when the block ends without an error.

    After an error the temporary folder is removed and an older ``path`` is untouched.
    """
    path = Path(path).resolve()  # "." has no name to derive the temporary one from
    temporary = _temporary(path)
    try:
        with named_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    # short, so that a name can be as long as the file system allows; with the process, to tell leftovers apart
    return path.with_name(f".{path.name[: _LONGEST_NAME // 2]}.{secrets.token_hex(4)}.{os.getpid()}{_PART}")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders in ``folder`` whose process was killed, not those of a running process."""
    for path in Path(folder).glob(".*.part"):
        match = re.fullmatch(r"\..+\.(\d+)\.part", path.name)
        if match and not _is_running(int(match[1])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 ends the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process; not a process number
        return True
    return True


def check_output(path: Path, kind: Literal["file", "folder"], overwrite: bool = True, option: str = "--output") -> None:
    """Reject an output that cannot be written, before anything is computed.

    Args:
        path: file or folder to write; missing folders above it will be created.
        kind: which of the two.
        overwrite: accept a path that exists.
        option: names the path in messages.

    Raises:
        InputError: the path is of the other kind, exists, or lies in a folder that cannot be created or written.
    """
    name, other = f"{option}: {printable(path)}", "folder" if kind == "file" else "file"
    if path.exists() and path.is_dir() != (kind == "folder"):
        raise InputError(f"{name} is a {other}; name a {kind}.")
    if path.exists() and not overwrite:
        raise InputError(f"{name} exists; name another {kind} or replace it with --overwrite.")
    parent = next(parent for parent in (*path.parents, Path(".")) if os.path.lexists(parent))
    if not parent.is_dir():
        raise InputError(f"{name} cannot be written because {printable(parent)} is not a folder; name another {kind}.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(
            f"{name} cannot be written because you may not write in {printable(parent)}; name another {kind}."
        )


def expand_home(path: str | Path) -> Path:
    """Return a path with the home folder in place of ``~``.

    Raises:
        InputError: there is no such user, or the user id of this process has no name, as in containers, and HOME is
            not set.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(f"{printable(path)}: the home folder that ~ stands for is unknown; write it out.") from None


def normalized_name(name: str) -> str:
    r"""Return a name in the one Unicode form in which names are compared (NFC): some systems write others.

    >>> normalized_name("Tu\u0308r") == "T\u00fcr"
    True
    """
    return unicodedata.normalize("NFC", name)


def file_names(names: Sequence[str]) -> list[str]:
    """Return a distinct file name per class; characters that a file system may reject become ``_``.

    >>> file_names(["dog", "Car/truck", "car|truck", "../up"])
    ['dog', 'Car_truck', 'car_truck_', '___up']
    """
    safe: list[str] = []
    taken: set[str] = set()
    for name in names:
        name = re.sub(r"[^\w ,()&'+-]", "_", name)[:_LONGEST_NAME].strip()
        while not name or name.lower() in taken:  # some file systems ignore case
            name += "_"
        taken.add(name.lower())
        safe.append(name)
    return safe
