"""The targets: modules ``target_NAME`` beside this one.

Each has ``seeds() -> list[bytes]``, small valid files, and ``check(data: bytes) -> None``, which gives one to its
reader: the package's own error is an answer, any other a fault. A module whose format is known also has
``mutate(data, rng) -> bytes``; a slow one says with ``INPUTS`` its share of the inputs of a long run, below 1.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from random import Random
from types import ModuleType

from tests.fuzz.mutating import damaged_bytes
from tse_refine.errors import InputError

NAMES = sorted(path.stem.removeprefix("target_") for path in Path(__file__).parent.glob("target_*.py"))


def target(name: str) -> ModuleType:
    """Return the module of a target."""
    return import_module(f"tests.fuzz.target_{name}")


@lru_cache
def seeds(name: str) -> list[bytes]:
    """Return the valid files of a target, made once."""
    return target(name).seeds()


def damaged(name: str, rng: Random) -> bytes:
    """Return a damaged file for a target."""
    data = rng.choice(seeds(name))
    mutate = getattr(target(name), "mutate", None)
    if mutate is not None and rng.random() < 0.75:
        return mutate(data, rng)
    return damaged_bytes(data, rng)


@lru_cache
def scratch(name: str) -> Path:
    """Return a folder for the files of a target, which goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-")
    _folders.append(folder)
    return Path(folder.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def read_all(*readers: Callable[[], object]) -> None:
    """Call every reader, then raise the first of their errors."""
    errors = []
    for read in readers:
        try:
            read()
        except InputError as error:
            errors.append(error)
    if errors:
        raise errors[0]
