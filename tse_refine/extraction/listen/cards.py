"""What the page shows of a session, as HTML from the templates beside this file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from tse_refine.analysis.spectrogram import RANGE_DB
from tse_refine.evaluation.metrics import attenuation_db, snri_db
from tse_refine.extraction.listen.picture import gradient
from tse_refine.extraction.listen.session import Result, Session

TITLES = ("Mixture", "Target", "Raw query", "Refined query")
NO_CLASSIFIER = (
    "This checkpoint has no classifier (a baseline): it extracts with the query as it is and cannot refine it."
)
_ROLES = {"note": "status", "refusal": "alert", "reason": "note"}  # an alert is read out at once


@dataclass(frozen=True)
class View:
    """The changed parts of the page, as HTML; None where a part is unchanged.

    Attributes:
        message: remarks on the sound, or an error message.
        table: class probabilities.
        cards: one per title, empty where there is no such signal.
        scale: colour scale of the spectrograms.
    """

    message: str | None = None
    table: str | None = None
    cards: Sequence[str | None] = (None,) * len(TITLES)
    scale: str | None = None


@dataclass(frozen=True, eq=False)
class Card:
    """A signal with its spectrogram, a player and a link to save it.

    Attributes:
        title: one of :data:`TITLES`.
        waveform: ``[channels, samples]``.
        classes: class names, each marked ``kept``, ``removed`` or not at all.
        score: result of :func:`score`.
        remark: what refinement did, or empty.
    """

    title: str
    waveform: np.ndarray
    classes: Sequence[tuple[str, str]]
    score: str = ""
    remark: str = ""

    @property
    def peak(self) -> str:
        """Level of the peak, for people."""
        peak = float(np.abs(self.waveform).max())
        return f"peak {_number(20 * math.log10(peak), '.1f')} dBFS" if peak > 0.0 else "digital silence"


def render(template: str, **values: object) -> str:
    """Return a template's HTML, in which all values are escaped.

    Args:
        template: name of the file in ``templates/``, without its suffixes.
        **values: values of the template's variables.
    """
    return _TEMPLATES.get_template(f"{template}.html.jinja").render(**values)


def message(text: str, kind: Literal["note", "refusal", "reason"] = "note") -> str:
    """Return a message; empty for an empty text."""
    return render("message", text=text, kind=kind, role=_ROLES[kind]) if text else ""


def show(session: Session, query: Sequence[str], threshold: float) -> View:
    """Write the session's WAV files and return all parts of the page.

    Args:
        session: visitor's session.
        query: class names that are ticked.
        threshold: decision threshold in [0, 1] that is set.
    """
    cards = _cards(session)
    stem, rate = Path(session.sound.name).stem, session.sound.sample_rate
    names = [f"{stem} - {card.title.lower()}" for card in cards]
    waveforms = {name: card.waveform for name, card in zip(names, cards, strict=True)}
    addresses, gain_db = session.files.write(waveforms, rate)
    rendered = {
        card.title: render(
            "card",
            card=card,
            image=session.spectrograms.image(card.waveform),
            address=address,
            file_name=f"{name}.wav",
            seconds=session.sound.seconds,
            top_khz=session.spectrograms.top_hz / 1000,
        )
        for card, name, address in zip(cards, names, addresses, strict=True)
    }
    return View(
        message(_remarks(session, gain_db)),
        table(session, query, threshold),
        [rendered.get(title, "") for title in TITLES],
        scale(session.spectrograms.brightest_db),
    )


def table(session: Session, query: Sequence[str], threshold: float) -> str:
    """Return the class probabilities, the largest first, and what :meth:`Session.refined_query` does to the query."""
    if not session.probability:
        return message(NO_CLASSIFIER)
    kept = session.refined_query(query, threshold)
    return render(
        "probabilities",
        probability=sorted(session.probability.items(), key=lambda item: (-item[1], item[0])),
        kept=kept,
        removed=[name for name in query if name not in kept],
        threshold=threshold,
        active=session.sound.sources,
    )


def scale(brightest_db: float) -> str:
    """Return the colour scale of all spectrograms, whose brightest colour has this level in dB re full-scale sine."""
    ends = [_number(level, ".0f") for level in (brightest_db - RANGE_DB, brightest_db)]
    return render("scale", ends=ends, gradient=gradient())


def score(estimate: np.ndarray, target: np.ndarray | None, mixture: np.ndarray) -> str:
    """Return the SNRi of an estimate, its attenuation where the target is silent; empty without a target.

    Args:
        estimate: ``[channels, samples]``.
        target: same shape; None for a recording.
        mixture: same shape.
    """
    if target is None:
        return ""
    x, s, e = (torch.from_numpy(signal).reshape(1, -1) for signal in (mixture, target, estimate))
    if target.any():
        return f"SNRi {_number(float(snri_db(e, s, x)), '+.1f')} dB"
    energy = [signal.double().square().sum() for signal in (x, e)]
    return f"attenuation {float(attenuation_db(*energy)):.1f} dB"


def _cards(session: Session) -> list[Card]:
    sound, result = session.sound, session.result
    cards = [Card("Mixture", sound.waveform, [(name, "") for name in sound.sources])]
    if result is None:
        return cards
    target = sound.target(result.query)
    if target is not None:
        active = [(name, "") for name in result.query if name in sound.sources]
        remark = "" if active else "no queried class is in the mixture"
        cards.append(Card("Target", target, active, remark=remark))
    raw_score = score(result.raw, target, sound.waveform)
    cards.append(Card("Raw query", result.raw, [(name, "") for name in result.query], raw_score))
    if result.refined is not None and result.refined_query is not None:
        marked = [(name, "kept" if name in result.refined_query else "removed") for name in result.query]
        refined_score = score(result.refined, target, sound.waveform)
        cards.append(Card("Refined query", result.refined, marked, refined_score, _effect(result)))
    return cards


def _effect(result: Result) -> str:
    text = f"threshold {result.threshold:.2f}"
    if not result.refined_query:
        return f"{text}: all classes removed"
    return f"{text}: no class removed" if result.refined_query == result.query else text


def _remarks(session: Session, gain_db: float) -> str:
    sound, limit = session.sound, session.network_rate
    num_channels = len(sound.waveform)
    channels = {1: "mono", 2: "stereo"}.get(num_channels, f"{num_channels} channels")
    remarks = [f"{sound.name}: {sound.seconds:.1f} s, {channels}, {sound.sample_rate / 1000:g} kHz."]
    if sound.sample_rate > limit:
        remarks.append(
            f"The network processes frequencies up to {limit / 2000:g} kHz: nothing above is extracted or shown."
        )
    if not sound.waveform.any():
        remarks.append("It is digital silence: no class can be in it.")
    if gain_db:
        remarks.append(f"All sounds are played and saved {-gain_db:.1f} dB softer than they are, so that none clips.")
    return " ".join(remarks)


def _number(value: float, form: str) -> str:
    return f"{value:{form}}".replace("-", "−")


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 100.0 else f"{value:.0f}"


_TEMPLATES = Environment(
    loader=PackageLoader("tse_refine.extraction.listen", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["seconds"] = _seconds
