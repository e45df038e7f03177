import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tse_refine.extraction.listen import panels

PROBABILITY = {"bell": 0.2, "dog": 0.9, "rain": 0.5, "siren": 0.5}
CARD = panels.Card(
    title="Raw query",
    chips=[("dog", "kept"), ("bell", "removed")],
    score="SNRi +3.2 dB",
    facts=["peak −3.0 dBFS"],
    picture="data:image/png;base64,AA==",
    sound="/sounds/a/b.wav",
    file_name="b.wav",
    seconds=90.0,
    top_hz=4000.0,
)


def rows(table: str) -> list[tuple[str, ...]]:
    """Return class of the row, name, and the text of each cell."""
    found = []
    for row in re.findall(r"<tr class=.*?</tr>", table):
        cells = re.sub(r"<[^>]*>", "|", row.replace("✓", "yes"))
        found.append(tuple(cell for cell in cells.split("|") if cell))
    return found


def test_the_table_says_of_each_class_what_becomes_of_it():
    table = panels.table(PROBABILITY, ["dog", "bell"], ["dog"], 0.3, active=[])
    assert rows(table) == [
        ("dog", "yes", "0.90", "kept"),
        ("rain", "–", "0.50", "–"),
        ("siren", "–", "0.50", "–"),
        ("bell", "yes", "0.20", "removed"),
    ]
    assert "--threshold:0.3000" in table
    assert "Asked: 2. Kept: dog. Removed: bell." in table
    assert "In mixture" not in table


def test_of_a_mixture_it_also_says_what_is_there():
    table = panels.table(PROBABILITY, ["dog"], ["dog"], 0.3, active=["bell", "dog"])
    assert [row[2] for row in rows(table)] == ["yes", "–", "–", "yes"]
    assert "In mixture" in table


def test_without_a_query_nothing_is_kept_or_removed():
    table = panels.table(PROBABILITY, [], [], 0.3, active=[])
    assert "Nothing is asked for yet." in table
    assert {row[-1] for row in rows(table)} == {"–"}


def test_a_card_plays_shows_and_saves_its_sound():
    card = panels.card(CARD)
    assert card.count('src="/sounds/a/b.wav"') == 1
    assert 'href="/sounds/a/b.wav" download="b.wav"' in card
    assert 'aria-label="Raw query"' in card
    assert 'alt="Spectrogram, raw query: from 0 to 4 kHz upwards, from 0 to 90.0 s to the right"' in card
    assert "SNRi +3.2 dB" in card
    assert '<li class="removed">bell<span class="listen-unseen"> (removed)</span></li>' in card


def shape(part: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the tags of a part, each with the names of its attributes."""
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, tuple(name for name, _ in attrs)))

    Parser().feed(part)
    return found


@pytest.mark.parametrize("name", ['<script>alert("x")</script>', 'dog" onclick="alert(1)', "R&B 'live' <b>"])
def test_names_are_text_whatever_they_hold(name):
    def parts(name):
        card = replace(CARD, chips=[(name, "kept")], facts=[name], file_name=name, title=name, score=name)
        table = panels.table({name: 0.5}, [name], [name], 0.3, [name])
        return [table, panels.card(card), panels.note(name), panels.refusal(name)]

    for part, harmless in zip(parts(name), parts("dog"), strict=True):
        assert shape(part) == shape(harmless)


def test_the_scale_of_colours_says_its_ends():
    scale = panels.scale(-20.0)
    assert "<span>−90</span>" in scale
    assert "<span>−20 dB</span>" in scale


def test_a_refusal_is_read_out_at_once_and_an_empty_note_is_nothing():
    assert 'role="alert"' in panels.refusal("no")
    assert panels.note("") == ""
