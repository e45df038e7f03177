"""Files that come in through the page: checked, and read as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from tse_refine.errors import InputError
from tse_refine.extraction.listen.sound import Sound
from tse_refine.extraction.recordings import Recording
from tse_refine.files.atomic import printable

_MOST_SAMPLES = 100_000_000  # of all channels, 400 MB: a small FLAC file of silence can hold any number of them


@dataclass(frozen=True)
class Limits:
    """How much the page takes.

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
    def most_bytes(self) -> int:
        """The largest file."""
        return int(1024**2 * self.megabytes)


def read_upload(path: Path, limits: Limits) -> Sound:
    """Read a sound file as float32, at its own level, rate and number of channels.

    Args:
        path: the file; errors call it by its name alone.
        limits: what is taken.

    Raises:
        InputError: it is larger or longer than the limits, no sound, damaged, empty, or has samples that are not finite
            or a rate that no recording has.
    """
    try:
        recording = Recording.open(path)
        size = path.stat().st_size
        if size > limits.most_bytes:
            raise InputError(f"{path} has {size / 1024**2:.1f} MB; this page takes {limits}.")
        seconds = recording.samples / recording.sample_rate
        if seconds > 60.0 * limits.minutes:
            length = f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
            raise InputError(f"{path} is {length} long; this page takes {limits}. Cut a part out.")
        if recording.channels * recording.samples > _MOST_SAMPLES:
            raise InputError(
                f"{path} has {recording.channels * recording.samples / 1e6:.0f} million samples; this page takes "
                f"{_MOST_SAMPLES / 1e6:.0f} million. Cut a part out, or use fewer channels or a lower sample rate."
            )
        waveform = torch.cat(list(recording.blocks()), dim=-1).numpy()
    except InputError as error:
        raise InputError(str(error).replace(printable(path), printable(path.name))) from error
    return Sound(path.name, waveform, recording.sample_rate)
