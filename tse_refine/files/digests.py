"""Digests of files, each file read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tse_refine.files.atomic import write_text
from tse_refine.files.documents import parse_json, read_text

MISSING = "missing"


class FileDigests:
    """BLAKE2 digests of files' contents, remembered in ``cache_dir/fingerprints.json`` by path, size and time.

    A corpus of many gigabytes need not be read at each start to check that it has not changed. A copy elsewhere, or a
    changed time alone, gives the same digests.

    Args:
        cache_dir: folder of the memory; created when missing.
    """

    def __init__(self, cache_dir: Path) -> None:
        self.memory_path = Path(cache_dir) / "fingerprints.json"

    def __call__(self, paths: Sequence[Path]) -> list[str]:
        """Return one digest per file; ``missing`` for a file that cannot be read."""
        known = self._load()
        keys = [_stat_key(path) for path in paths]
        unknown = {key: path for key, path in zip(keys, paths, strict=True) if key is not None and key not in known}
        with ThreadPoolExecutor() as pool:  # hashlib and file reads release the interpreter lock
            computed = dict(zip(unknown, pool.map(_digest, unknown.values()), strict=True))
        computed = {key: digest for key, digest in computed.items() if digest != MISSING}
        if computed:
            known |= computed
            write_text(self.memory_path, json.dumps(known, indent=0))
        return [MISSING if key is None else known.get(key, MISSING) for key in keys]

    def _load(self) -> dict[str, str]:
        try:
            memory = parse_json(read_text(self.memory_path))
        except (FileNotFoundError, ValueError):
            return {}  # only a memory: lost digests are computed again
        return memory if isinstance(memory, dict) and all(isinstance(text, str) for text in memory.values()) else {}


def _stat_key(path: Path) -> str | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return f"{os.path.abspath(path)}:{stat.st_size}:{stat.st_mtime_ns}"


def _digest(path: Path) -> str:
    try:
        return digest_of(path, hashlib.blake2b(digest_size=16))
    except OSError:
        return MISSING


def digest_of(path: Path, digest: hashlib._Hash | hashlib.blake2b) -> str:
    """Return the hexadecimal digest of a file's content.

    Args:
        path: file.
        digest: new hash object, such as ``hashlib.md5()``.
    """
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
