"""The formats that extractions are written in."""

from __future__ import annotations

from dataclasses import dataclass

from tse_refine.errors import InputError


@dataclass(frozen=True)
class SoundFormat:
    """A format as soundfile names it, and what it can hold.

    Attributes:
        container: soundfile's ``format``.
        encoding: soundfile's ``subtype``: 32-bit float where the container has it, otherwise the best that it has.
        most_channels: that it holds.
        sample_rates: that it holds, Hz, one by one or in ranges; None for all.
        most_bytes: of samples that it holds; None where there is no limit.
    """

    container: str
    encoding: str
    most_channels: int = 1024
    sample_rates: tuple[int | range, ...] | None = None
    most_bytes: int | None = None

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale are kept."""
        return self.encoding == "FLOAT"

    def holds_rate(self, sample_rate: int) -> bool:
        """Return whether it can be written at a sample rate, in Hz."""
        rates = self.sample_rates
        return rates is None or any(sample_rate in (one if isinstance(one, range) else (one,)) for one in rates)


_FOUR_GIGABYTES = (1 << 32) - (1 << 16)  # the lengths in a header have 32 bits, and count the header too
FORMATS = {
    "wav": SoundFormat("WAV", "FLOAT", most_bytes=_FOUR_GIGABYTES),
    # libFLAC's header has 16 bits for Hz, or for tens of them
    "flac": SoundFormat("FLAC", "PCM_24", most_channels=8, sample_rates=(range(1, 65_536), range(65_540, 655_351, 10))),
    # libvorbis has no mode above 200 kHz, and libsndfile 1.2 crashes instead of saying so
    "ogg": SoundFormat("OGG", "VORBIS", most_channels=255, sample_rates=(range(4_000, 192_001),)),
    "opus": SoundFormat("OGG", "OPUS", most_channels=255, sample_rates=(8_000, 12_000, 16_000, 24_000, 48_000)),
    "mp3": SoundFormat(
        "MP3",
        "MPEG_LAYER_III",
        most_channels=2,
        sample_rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    ),
    "aiff": SoundFormat("AIFF", "FLOAT", most_bytes=_FOUR_GIGABYTES),
    "au": SoundFormat("AU", "FLOAT", most_bytes=_FOUR_GIGABYTES),
    "caf": SoundFormat("CAF", "FLOAT"),
    "w64": SoundFormat("W64", "FLOAT"),
    "rf64": SoundFormat("RF64", "FLOAT"),
}
SUFFIXES = {f".{name}": name for name in FORMATS} | {".aif": "aiff", ".oga": "ogg", ".snd": "au", ".wave": "wav"}


def fitting_format(name: str, sample_rate: int, channels: int, samples: int) -> SoundFormat:
    """Return the format of a name, or say why it cannot hold a recording.

    A WAV file that would be larger than its 4 GB becomes RF64, its successor of the same suffix, which current programs
    read.

    Args:
        name: of :data:`FORMATS`.
        sample_rate: Hz.
        channels: of the recording.
        samples: of each channel.

    Raises:
        InputError: it cannot; the text goes on from the name of a file.

    >>> fitting_format("wav", 48_000, channels=8, samples=48_000 * 3600)
    SoundFormat(container='RF64', encoding='FLOAT', most_channels=1024, sample_rates=None, most_bytes=None)
    """
    found = FORMATS[name]
    if channels > found.most_channels:
        raise InputError(f"has {channels} channels, but {name} holds up to {found.most_channels}; use --format wav.")
    if not found.holds_rate(sample_rate):
        held = ", ".join(map(_in_words, found.sample_rates or ()))
        others = "wav or flac" if FORMATS["flac"].holds_rate(sample_rate) else "wav"
        raise InputError(f"has a sample rate of {sample_rate} Hz, but {name} holds {held}; use --format {others}.")
    if found.most_bytes is not None and 4 * channels * samples > found.most_bytes:
        if name != "wav":
            raise InputError(f"is too long for {name}, which holds 4 GB; use --format wav.")
        return FORMATS["rf64"]
    return found


def _in_words(rates: int | range) -> str:
    if isinstance(rates, int):
        return str(rates)
    return f"up to {rates[-1]}" + (f" in steps of {rates.step}" if rates.step > 1 else "")
