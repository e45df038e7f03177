"""The WAV files that the page plays and hands out: 16 bits, at the sound's own level and rate."""

from __future__ import annotations

import hashlib
import math
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile

from tse_refine.files.atomic import file_names


class Shelf:
    """A folder with the sounds that one visitor can hear at the moment; others are removed.

    Args:
        folder: of all shelves; the name of this one's cannot be guessed, since who knows it can listen.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / secrets.token_urlsafe(16)

    def show(self, signals: Mapping[str, np.ndarray], rate: int) -> tuple[list[str], float]:
        """Write sounds, all with one gain, which is 1 unless one of them would be clipped.

        A sound that is there already keeps its address, so that a browser goes on playing it.

        Args:
            signals: ``[channels, samples]`` by the name of the file that a browser saves, without its suffix.
            rate: Hz.

        Returns:
            Their addresses below the folder of all shelves, and the gain, dB.
        """
        peak = max((float(np.abs(signal).max(initial=0.0)) for signal in signals.values()), default=0.0)
        gain = np.float32(1.0 / max(1.0, peak))
        paths = []
        for name, signal in zip(file_names(list(signals)), signals.values(), strict=True):
            scaled = np.ascontiguousarray(gain * signal)
            digest = hashlib.blake2b(scaled, digest_size=12).hexdigest()
            path = self._own / digest / f"{name}.wav"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, scaled.T, rate, subtype="PCM_16")
            paths.append(path)
        self._keep(paths)
        return [quote(path.relative_to(self._folder).as_posix()) for path in paths], 20.0 * math.log10(gain)

    def clear(self) -> None:
        """Remove all sounds."""
        shutil.rmtree(self._own, ignore_errors=True)

    def _keep(self, paths: list[Path]) -> None:
        for found in list(self._own.glob("*/*")):
            if found not in paths:
                found.unlink()
                if not any(found.parent.iterdir()):
                    found.parent.rmdir()
