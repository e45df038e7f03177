"""The sounds of the page: uploaded recordings, test mixtures with known sources, and the WAV files that are served."""

from __future__ import annotations

import hashlib
import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from urllib.parse import quote

import numpy as np
import soundfile
import torch

from tse_refine.analysis.tested_run import TestedRun
from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.data.dataset import MixtureDataset
from tse_refine.data.recipes import MixtureConfig
from tse_refine.errors import InputError, printable
from tse_refine.evaluation.run_config import data_of_run
from tse_refine.extraction.recordings import Recording
from tse_refine.files.atomic import file_names
from tse_refine.model.checkpoint import read_checkpoint
from tse_refine.model.weights import SUFFIX

SOUNDS_PATH = "/sounds/"  # where the server serves the files of all sessions
MOST_SAMPLES = 100_000_000  # of all channels, 400 MB: a small FLAC file of silence can hold any number of samples
CLOSED = "This sound was closed, as it is when too many other tabs are open. Load it again."
_SYNTHETIC_RECORDINGS = 4  # per class, which take a few seconds


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording or a test mixture.

    Attributes:
        name: name on the page and first part of the names of downloads.
        waveform: ``[channels, samples]``, float32.
        sample_rate: Hz.
        sources: source of each active class of a test mixture, ``[channels, samples]``; empty for a recording.
    """

    name: str
    waveform: np.ndarray
    sample_rate: int
    sources: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.waveform.shape[-1] / self.sample_rate

    def target(self, query: Sequence[str]) -> np.ndarray | None:
        """Return the sum of the queried sources, silence if none is in the mixture; None for a recording."""
        if not self.sources:
            return None
        return sum((self.sources[name] for name in query if name in self.sources), np.zeros_like(self.waveform))


@dataclass(frozen=True)
class Limits:
    """Largest uploads.

    Attributes:
        megabytes: largest file, MB of 1024² bytes as Gradio counts them.
        minutes: longest recording.
    """

    megabytes: float = 50.0
    minutes: float = 10.0

    def __post_init__(self) -> None:
        for name in ("megabytes", "minutes"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise InputError(f"--max-{name} is {getattr(self, name):g}; a number above 0 is expected.")

    def __str__(self) -> str:
        return f"up to {self.megabytes:g} MB and {self.minutes:g} minutes"

    @property
    def num_bytes(self) -> int:
        """Size of the largest file."""
        return int(1024**2 * self.megabytes)


def read_upload(path: Path, limits: Limits) -> Sound:
    """Read a sound file as float32, at its own level, sample rate and number of channels.

    Args:
        path: sound file; errors contain its name without its folder.
        limits: largest size and duration.

    Raises:
        InputError: the file exceeds the limits, is not a sound file, is damaged or empty, or has samples that are not
            finite or an unsupported sample rate.
    """
    try:
        recording = Recording.open(path)
        size = path.stat().st_size
        if size > limits.num_bytes:
            raise InputError(f"{path} has {size / 1024**2:.1f} MB; this page accepts {limits}.")
        if recording.seconds > 60.0 * limits.minutes:
            length = f"{recording.seconds // 60:.0f} min {recording.seconds % 60:.0f} s"
            raise InputError(f"{path} is {length} long; this page accepts {limits}. Cut a part out.")
        num_samples = recording.channels * recording.samples
        if num_samples > MOST_SAMPLES:
            raise InputError(
                f"{path} has {num_samples / 1e6:.0f} million samples; this page accepts up to "
                f"{MOST_SAMPLES / 1e6:.0f} million. Cut a part out, or use fewer channels or a lower sample rate."
            )
        waveform = torch.cat(list(recording.blocks()), dim=-1).numpy()
    except InputError as error:
        raise InputError(str(error).replace(printable(path), printable(path.name))) from error
    return Sound(path.name, waveform, recording.sample_rate)


class Mixtures:
    """Test mixtures, drawn at random from a test split.

    Args:
        data: data module; its recordings are decoded when the first mixture is drawn.
        origin: first part of the mixtures' names.
    """

    def __init__(self, data: MixtureDataModule, origin: str) -> None:
        self.data = data
        self.origin = origin

    @cached_property
    def _split(self) -> MixtureDataset:
        return self.data.open_split("test")

    def draw(self) -> Sound:
        """Return a random mixture of the split.

        Raises:
            InputError: the recordings are missing or cannot be used.
        """
        return self.render(secrets.randbelow(len(self._split)))

    def render(self, index: int) -> Sound:
        """Return the mixture at an index of the split."""
        batch = self._split.__getitems__([(0, index)])
        labels = [label for label in batch["source_classes"][0].tolist() if label >= 0]
        sources = {
            self.data.class_names[label]: source[None].numpy()
            for label, source in zip(labels, batch["sources"][0], strict=False)  # rows of silence follow
        }
        return Sound(f"{self.origin} {index}", batch["mixture"].numpy(), self.data.sample_rate, sources)


def find_mixtures(checkpoint: Path, folder: Path) -> Mixtures:
    """Find the test mixtures of a checkpoint's run, or make synthetic ones if the checkpoint has their classes.

    Args:
        checkpoint: checkpoint file, such as ``RUN/checkpoints/best.ckpt``.
        folder: folder for the bank of synthetic recordings.

    Raises:
        InputError: neither is possible; the text gives the reason.
    """
    about = read_checkpoint(checkpoint).about
    class_names, rate = list(about.class_names), about.sample_rate
    try:
        if checkpoint.suffix == SUFFIX:
            raise InputError("a file of weights alone does not tell which recordings its network was trained on.")
        data = data_of_run(TestedRun(checkpoint.resolve().parent.parent).config)
        if (data.class_names, data.sample_rate) != (class_names, rate):
            raise InputError("the data in its config.yaml have other classes, or another sample rate.")
        return Mixtures(data, "test mixture")
    except InputError as error:
        if class_names != SyntheticSounds().classes():
            raise InputError(f"No test mixtures: {error}") from error
    return Mixtures(_synthetic_data(rate, about.duration_seconds, folder), "synthetic mixture")


def _synthetic_data(rate: int, seconds: float, folder: Path) -> MixtureDataModule:
    shortest, longest = (seconds / MixtureConfig.duration_seconds * limit for limit in MixtureConfig.event_seconds)
    return MixtureDataModule(
        SyntheticSounds(1, 1, _SYNTHETIC_RECORDINGS),  # a split without recordings is rejected
        SyntheticBackgrounds(1, 1, _SYNTHETIC_RECORDINGS),
        sample_rate=rate,
        mixture=MixtureConfig(duration_seconds=seconds, event_seconds=(shortest, longest)),
        num_test=1000,
        cache_dir=str(folder),
    )


class SoundFiles:
    """The WAV files of one session: 16 bits, at the sound's own sample rate and level.

    Args:
        folder: served folder of all sessions. The session's own folder in it has a random name, because whoever has an
            address can listen.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._folder = folder / secrets.token_urlsafe(16)
        self._lock = Lock()  # a visitor may leave while something is extracted
        self._is_closed = False

    def write(self, signals: Mapping[str, np.ndarray], rate: int) -> tuple[list[str], float]:
        """Replace the files, with one gain for all, which is 1 unless a signal would be clipped.

        A file that does not change keeps its address, so that a browser goes on playing it.

        Args:
            signals: ``[channels, samples]`` by the name under which a browser saves the file, without suffix.
            rate: Hz.

        Returns:
            The files' addresses on the server, and the gain in dB.

        Raises:
            InputError: the files have been removed.
        """
        with self._lock:
            if self._is_closed:
                raise InputError(CLOSED)
            return self._write(signals, rate)

    def _write(self, signals: Mapping[str, np.ndarray], rate: int) -> tuple[list[str], float]:
        peak = max((float(np.abs(signal).max(initial=0.0)) for signal in signals.values()), default=0.0)
        gain = np.float32(1.0 / max(1.0, peak))
        paths = []
        for name, signal in zip(file_names(list(signals)), signals.values(), strict=True):
            scaled = np.ascontiguousarray(gain * signal)
            digest = hashlib.blake2b(scaled.data, digest_size=12).hexdigest()
            path = self._folder / digest / f"{name}.wav"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, scaled.T, rate, subtype="PCM_16")
            paths.append(path)
        for path in set(self._folder.glob("*/*")) - set(paths):
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        addresses = [SOUNDS_PATH + quote(path.relative_to(self._root).as_posix()) for path in paths]
        return addresses, 20.0 * math.log10(gain)

    def clear(self) -> None:
        """Remove all files, for good."""
        with self._lock:
            self._is_closed = True
            shutil.rmtree(self._folder, ignore_errors=True)
