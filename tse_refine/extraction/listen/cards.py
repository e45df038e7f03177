"""What the page shows of a session, as HTML from the templates beside this file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from tse_refine.analysis.plotting import RANGE_DB
from tse_refine.errors import listed
from tse_refine.evaluation.metrics import ATTENUATION, SNRI
from tse_refine.extraction.events import Event
from tse_refine.extraction.listen.picture import gradient
from tse_refine.extraction.listen.session import Result, Session
from tse_refine.refinement import KEPT_WEIGHT, Refinement, SoftThreshold, parse_refinement

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
        classes: class names, each with its CSS class, ``kept``, ``removed`` or none, and the word for it.
        score: result of :func:`score`.
        remark: what refinement did, or empty.
        lanes: events of the mixture by class, for a time line; None for none.
    """

    title: str
    waveform: np.ndarray
    classes: Sequence[tuple[str, str, str]]
    score: str = ""
    remark: str = ""
    lanes: Mapping[str, Sequence[Event]] | None = None

    @property
    def peak(self) -> str:
        """Level of the peak, for people."""
        peak = float(np.abs(self.waveform).max())
        return f"peak {_number(20 * math.log10(peak), '.1f')} dBFS" if peak > 0.0 else "digital silence"


def render(template: str, **values: object) -> str:
    """Return a template's HTML, in which all values are escaped.

    Args:
        template: name of the file in ``templates/``, without its suffixes.
        values: values of the template's variables.
    """
    return _TEMPLATES.get_template(f"{template}.html.jinja").render(**values)


def message(text: str, kind: Literal["note", "refusal", "reason"] = "note") -> str:
    """Return a message; empty for an empty text."""
    return render("message", text=text, kind=kind, role=_ROLES[kind]) if text else ""


def show(session: Session, query: Sequence[str], threshold: float | str | Refinement) -> View:
    """Write the session's WAV files and return all parts of the page.

    Args:
        session: visitor's session.
        query: class names that are ticked.
        threshold: refinement that is set: a number in [0, 1], a name, or a refinement.
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


def table(session: Session, query: Sequence[str], threshold: float | str | Refinement) -> str:
    """Return the class probabilities, the largest first, and what the refinement does to the query."""
    if not session.probability:
        return message(NO_CLASSIFIER)
    refinement = parse_refinement(threshold, "threshold")
    states = {name: _state(weight) for name, weight in session.weight(query, refinement).items()}
    by_state = {state: [name for name, (own, _) in states.items() if own == state] for state in ("kept", "removed")}
    return render(
        "probabilities",
        probability=sorted(session.probability.items(), key=lambda item: (-item[1], item[0])),
        states=states,
        **by_state,
        refinement=_threshold_text(refinement),
        ends=(refinement.low, refinement.high)
        if isinstance(refinement, SoftThreshold)
        else [refinement.gate_threshold],
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
        return f"SNRi {_number(float(SNRI.of_signals(e, s, x)), '+.1f')} dB"
    return f"attenuation {float(ATTENUATION.of_signals(e, s, x)):.1f} dB"


def _cards(session: Session) -> list[Card]:
    sound, result = session.sound, session.result
    lanes = _lanes(session)
    cards = [Card("Mixture", sound.waveform, [(name, "", "") for name in sound.sources], lanes=lanes)]
    if result is None:
        return cards
    target = sound.target(result.query)
    if target is not None:
        active = [(name, "", "") for name in result.query if name in sound.sources]
        remark = "" if active else "no queried class is in the mixture"
        cards.append(Card("Target", target, active, remark=remark))
    raw_score = score(result.raw, target, sound.waveform)
    classes = [(name, "", "") for name in result.query]
    cards.append(Card("Raw query", result.raw, classes, raw_score, lanes=_lanes(session, result.query)))
    if result.refined is not None:
        marked = [(name, *_state(weight)) for name, weight in result.weight.items()]
        refined_score = score(result.refined, target, sound.waveform)
        kept = [name for name, weight in result.weight.items() if weight]
        refined_lanes = _lanes(session, kept) if kept else None
        cards.append(Card("Refined query", result.refined, marked, refined_score, _effect(result), refined_lanes))
    return cards


def _lanes(session: Session, names: Sequence[str] | None = None) -> dict[str, list[Event]] | None:
    """Return the events of classes, by default of those that have one, as they begin; None without a classifier."""
    if not session.probability:
        return None
    lanes: dict[str, list[Event]] = {name: [] for name in names or ()}
    for event in session.events:
        if names is None or event.name in names:
            lanes.setdefault(event.name, []).append(event)
    return lanes


def _times(events: Sequence[Event]) -> str:
    """Return when a class sounds, in words: the text alternative of a lane."""
    return listed([f"from {event.onset:.1f} to {event.offset:.1f} s" for event in events]) or "not sure in any part"


def _effect(result: Result) -> str:
    text = f"threshold {_threshold_text(result.refinement)}"
    if not any(result.weight.values()):
        return f"{text}: all classes removed"
    return f"{text}: no class removed" if result.refined_query == result.query else text


def _threshold_text(refinement: Refinement) -> str:
    if isinstance(refinement, SoftThreshold):
        return f"{refinement.low:.2f} to {refinement.high:.2f}"
    return f"{refinement.gate_threshold:.2f}"


def _state(weight: float) -> tuple[str, str]:
    """Return the CSS class of a queried class with this weight, and the word for it."""
    word = {0.0: "removed", 1.0: "kept"}.get(weight, f"weight {weight:.2f}")
    return "kept" if weight >= KEPT_WEIGHT else "removed", word


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
_TEMPLATES.filters |= {"seconds": _seconds, "times": _times}
