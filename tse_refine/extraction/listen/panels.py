"""The parts of the page that show what was found, as HTML."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tse_refine.analysis.plotting import RANGE_DB
from tse_refine.extraction.listen.picture import gradient

NO_CLASSIFIER = (
    "This checkpoint has no classifier (a baseline): it extracts with the query as it is and cannot refine it."
)
_TRUTH = ' class="listen-truth"'  # which a phone has no room for


@dataclass(frozen=True)
class Card:
    """One sound to see and hear.

    Attributes:
        title: what it is.
        chips: names of classes and how they are marked: ``kept``, ``removed`` or nothing.
        score: how close it is to the target; empty where nobody knows.
        facts: what else is said of it.
        picture: address of the spectrogram.
        sound: address of the WAV file.
        file_name: under which a browser saves it.
        seconds: how long it is.
        top_hz: highest frequency in the spectrogram.
    """

    title: str
    chips: Sequence[tuple[str, str]]
    score: str
    facts: Sequence[str]
    picture: str
    sound: str
    file_name: str
    seconds: float
    top_hz: float


def note(text: str) -> str:
    """Return something to know."""
    return f'<p class="listen-note" role="status">{html.escape(text)}</p>' if text else ""


def refusal(text: str) -> str:
    """Return why something cannot be done; it is read out at once."""
    return f'<p class="listen-note listen-refusal" role="alert">{html.escape(text)}</p>'


def table(
    probability: Mapping[str, float],
    query: Sequence[str],
    refined_query: Collection[str],
    threshold: float,
    active: Collection[str],
) -> str:
    """Return a row for each class, the most probable first: a bar, the threshold as a line, and what refinement does.

    Args:
        probability: of each class, in [0, 1].
        query: the classes asked for.
        refined_query: those that stay.
        threshold: in [0, 1].
        active: the classes of a generated mixture; empty for a recording.
    """
    in_order = sorted(probability, key=lambda name: (-probability[name], name))
    rows = "".join(
        _row(name, probability[name], name in query, name in refined_query, name in active if active else None)
        for name in in_order
    )
    heads = ["Class", "Asked", *(["In mixture"] if active else []), "Probability", "Refined"]
    head = "".join(f'<th{_TRUTH if name == "In mixture" else ""} scope="col">{name}</th>' for name in heads)
    caption = (
        f"Probability of each class; the line is the threshold, {threshold:.2f}. Classes below it leave the query."
    )
    return (
        f'{_summary(query, refined_query)}<div class="listen-scroll" tabindex="0" role="region" '
        f'aria-label="Probabilities"><table class="listen-table" style="--threshold:{threshold:.4f}">'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def card(content: Card) -> str:
    """Return a sound with its spectrogram, a player, and a link to save it."""
    chips = "".join(f'<li class="{mark}">{html.escape(name)}{_spoken(mark)}</li>' for name, mark in content.chips)
    title = html.escape(content.title)
    score = f' <span class="listen-score">{html.escape(content.score)}</span>' if content.score else ""
    return f"""<article class="listen-card"><h2>{title}{score}</h2><ul class="listen-chips">{chips}</ul>
{_spectrogram(content)}
<audio controls controlslist="nodownload noplaybackrate" preload="metadata" src="{content.sound}"
 aria-label="{title}"></audio>
<p class="listen-facts">{" · ".join(map(html.escape, content.facts))}</p>
<a class="listen-save" href="{content.sound}" download="{html.escape(content.file_name)}"
 aria-label="Save {title} as WAV">Save WAV</a></article>"""


def scale(loudest: float) -> str:
    """Return the scale of colours that all spectrograms share.

    Args:
        loudest: level of the brightest colour, dB re a sine of full scale.
    """
    darkest, brightest = (f"{level:.0f}".replace("-", "−") for level in (loudest - RANGE_DB, loudest))
    return (
        f'<div class="listen-scale"><span>{darkest}</span><span class="listen-gradient" '
        f'style="background:{gradient()}"></span><span>{brightest} dB</span>'
        "<span>re a sine of full scale, the same in all spectrograms</span></div>"
    )


def _spectrogram(content: Card) -> str:
    high, middle = (f"{hz / 1000:g}" for hz in (content.top_hz, content.top_hz / 2))
    end = f"{_time(content.seconds)} s"
    alternative = f"Spectrogram, {content.title.lower()}: from 0 to {high} kHz upwards, from 0 to {end} to the right"
    return f"""<div class="listen-axes"><div class="listen-y" aria-hidden="true"><span>{high}</span>
<span>{middle}</span><span>0 kHz</span></div>
<div class="listen-picture"><img alt="{html.escape(alternative)}" src="{content.picture}">
<span class="listen-playhead" aria-hidden="true"></span></div>
<div class="listen-x" aria-hidden="true"><span>0</span><span>{_time(content.seconds / 2)}</span><span>{end}</span></div>
</div>"""


def _row(name: str, probability: float, asked: bool, stays: bool, active: bool | None) -> str:
    state = ("kept" if stays else "removed") if asked else ""
    truth = "" if active is None else f"<td{_TRUTH}>{_tick(active)}</td>"
    bar = (
        '<div class="listen-probability"><span class="listen-track" aria-hidden="true">'
        f'<span style="width:{100 * probability:.1f}%"></span></span><span>{probability:.2f}</span></div>'
    )
    name = html.escape(name)
    return (
        f'<tr class="{state}" data-class="{name}"><th scope="row">{name}</th><td>{_tick(asked)}</td>{truth}'
        f'<td class="listen-wide">{bar}</td><td class="listen-state">{state or "–"}</td></tr>'
    )


def _tick(is_so: bool) -> str:
    mark, word = ("✓", "yes") if is_so else ("–", "no")
    return f'<span class="listen-{word}" role="img" aria-label="{word}">{mark}</span>'


def _summary(query: Sequence[str], refined_query: Collection[str]) -> str:
    if not query:
        text = "Nothing is asked for yet."
    else:
        removed = [name for name in query if name not in refined_query]
        text = f"Asked: {len(query)}. " + _listed("Kept", [name for name in query if name in refined_query])
        text += " " + _listed("Removed", removed)
    return f'<p class="listen-summary" role="status">{html.escape(text)}</p>'


def _listed(word: str, names: Iterable[str]) -> str:
    return f"{word}: {', '.join(names) or 'none'}."


def _spoken(mark: str) -> str:
    return f'<span class="listen-unseen"> ({mark})</span>' if mark else ""


def _time(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 100.0 else f"{seconds:.0f}"
