"""What one visitor, a tab of a browser, sees and hears at the moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen import panels
from tse_refine.extraction.listen.hearing import Answer, Hearing
from tse_refine.extraction.listen.picture import data_uri, level_image
from tse_refine.extraction.listen.shelf import Shelf
from tse_refine.extraction.listen.sound import Sound

SOUNDS = "/sounds/"  # where the page's server finds the files of all shelves
CARDS = ("Mixture", "Target", "Raw query", "Refined query")
_DARKEST_DB = -100.0  # of the brightest colour: fainter than what 16 bits can hold


@dataclass(frozen=True, eq=False)
class _Signal:
    waveform: np.ndarray
    chips: list[tuple[str, str]]
    score: str = ""
    fact: str = ""


class Visit:
    """A sound, the query that was last extracted from it, and the files of both.

    Args:
        extractor: does the work.
        sound: that is listened to.
        folder: of all shelves.

    Attributes:
        hearing: what the network makes of the sound.
        answer: to the query that was last extracted; None before that.
        gain_db: by how much all sounds on the page are softer than they are; 0 unless one would be clipped.
    """

    def __init__(self, extractor: Extractor, sound: Sound, folder: Path) -> None:
        self.hearing = Hearing(extractor, sound)
        self.answer: Answer | None = None
        self.gain_db = 0.0
        self._shelf = Shelf(folder)
        self._rate = extractor.sample_rate
        self._top_hz = min(sound.sample_rate, extractor.sample_rate) / 2
        levels = self._levels(sound.waveform)
        self._loudest = max(_DARKEST_DB, float(levels.max()))
        self._picture_of_mixture = data_uri(levels, self._loudest)

    def extract(self, query: Sequence[str], threshold: float) -> None:
        """Extract, from now on to be seen and heard.

        Args:
            query: names of classes.
            threshold: in [0, 1].

        Raises:
            InputError: nothing is asked for.
        """
        self.answer = self.hearing.answer(query, threshold)

    def table(self, query: Sequence[str], threshold: float) -> str:
        """Return what refinement would do to a query; the network does not run."""
        if not self.hearing.probability:
            return panels.note(panels.NO_CLASSIFIER)
        refined = self.hearing.refined_query(query, threshold)
        return panels.table(self.hearing.probability, query, refined, threshold, self.hearing.sound.sources)

    def cards(self) -> list[str]:
        """Write the files, and return mixture, target, raw and refined query as HTML; empty where there is none."""
        sound, signals = self.hearing.sound, self._signals()
        stem = Path(sound.name).stem
        names = {title: f"{stem} - {title.lower()}" for title in signals}
        waveforms = {names[title]: signal.waveform for title, signal in signals.items()}
        addresses, self.gain_db = self._shelf.show(waveforms, sound.sample_rate)
        shown = {
            title: panels.card(
                panels.Card(
                    title=title,
                    chips=signal.chips,
                    score=signal.score,
                    facts=[*filter(None, [signal.fact]), _peak(signal.waveform)],
                    picture=self._picture(signal.waveform),
                    sound=SOUNDS + address,
                    file_name=names[title] + ".wav",
                    seconds=sound.seconds,
                    top_hz=self._top_hz,
                )
            )
            for address, (title, signal) in zip(addresses, signals.items(), strict=True)
        }
        return [shown.get(title, "") for title in CARDS]

    def scale(self) -> str:
        """Return the scale of colours."""
        return panels.scale(self._loudest)

    def remarks(self) -> str:
        """Return what is worth knowing of what is heard."""
        sound = self.hearing.sound
        rate = f"{sound.sample_rate / 1000:g} kHz"
        said = [f"{sound.name}: {sound.seconds:.1f} s, {_channels(len(sound.waveform))}, {rate}."]
        if sound.sample_rate > self._rate:
            said.append(
                f"The network hears up to {self._rate / 2000:g} kHz: nothing above is extracted, nor shown here."
            )
        if not sound.waveform.any():
            said.append("It is digital silence: nothing can be in it.")
        if self.gain_db:
            said.append(
                f"All sounds are played and saved {-self.gain_db:.1f} dB softer than they are, so that none clips."
            )
        return " ".join(said)

    def close(self) -> None:
        """Remove the files."""
        self._shelf.clear()

    def _signals(self) -> dict[str, _Signal]:
        """Return what there is to hear by title."""
        sound, answer = self.hearing.sound, self.answer
        found = {"Mixture": _Signal(sound.waveform, [(name, "") for name in sound.sources])}
        if answer is None:
            return found
        if answer.target is not None:
            there = [(name, "") for name in answer.query if name in sound.sources]
            found["Target"] = _Signal(answer.target, there, fact="" if there else "nothing asked for is there")
        raw_score = answer.score(answer.raw, sound.waveform)
        found["Raw query"] = _Signal(answer.raw, [(name, "") for name in answer.query], raw_score)
        if answer.refined is not None and answer.refined_query is not None:
            marked = [(name, "kept" if name in answer.refined_query else "removed") for name in answer.query]
            fact = f"refined at {answer.threshold:.2f}"
            if not answer.refined_query:
                fact += ": nothing is left"
            elif answer.refined_query == answer.query:
                fact += ": nothing was removed"
            score = answer.score(answer.refined, sound.waveform)
            found["Refined query"] = _Signal(answer.refined, marked, score, fact)
        return found

    def _levels(self, waveform: np.ndarray) -> np.ndarray:
        return level_image(waveform, self.hearing.sound.sample_rate, self._top_hz)

    def _picture(self, waveform: np.ndarray) -> str:
        if waveform is self.hearing.sound.waveform:
            return self._picture_of_mixture
        return data_uri(self._levels(waveform), self._loudest)


def _peak(waveform: np.ndarray) -> str:
    peak = float(np.abs(waveform).max())
    return f"peak {20 * math.log10(peak):.1f} dBFS".replace("-", "−") if peak > 0.0 else "digital silence"


def _channels(number: int) -> str:
    return {1: "mono", 2: "stereo"}.get(number, f"{number} channels")
