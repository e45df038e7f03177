import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from tse_refine.extraction.events import Event
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen.cards import message, render, scale, score, show, table
from tse_refine.extraction.listen.session import Session

QUERY = ["alarm", "dog"]


@pytest.fixture
def session(extractor, recording, tmp_path) -> Session:
    """A session with a recording: alarm 0.9, bell 0.6, dog 0.2, all other classes 0.05."""
    return Session(extractor, recording, tmp_path)


@pytest.fixture
def mixed(extractor, mixture, tmp_path) -> Session:
    """A session with a mixture of an alarm and a dog."""
    return Session(extractor, mixture, tmp_path)


def rows(html: str) -> list[tuple[str, ...]]:
    """Return the texts of each row's cells."""
    found = []
    for row in re.findall(r"<tr class=.*?</tr>", html, re.DOTALL):
        cells = re.sub(r"<[^>]*>", "|", row.replace("✓", "yes"))
        found.append(tuple(cell.strip() for cell in cells.split("|") if cell.strip()))
    return found


def words(html: str) -> str:
    """Return the text with single spaces."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_the_table_shows_probability_and_decision_per_class(session):
    html = table(session, QUERY, 0.3)
    assert rows(html)[:4] == [
        ("alarm", "yes", "0.90", "kept"),
        ("bell", "–", "0.60", "–"),
        ("dog", "yes", "0.20", "removed"),
        ("applause", "–", "0.05", "–"),
    ]
    names = [row[0] for row in rows(html)[3:]]
    assert names == sorted(names)  # of equal probability
    assert "--threshold:0.3000" in html
    assert "Queried: 2. Kept: alarm. Removed: dog." in words(html)
    assert "In mixture" not in html


def test_the_table_and_the_card_of_a_soft_threshold_show_weights(session):
    query = ["alarm", "bell", "dog", "rain"]
    html = table(session, query, "soft:0.1-0.7")
    states = {row[0]: row[-1] for row in rows(html)}
    assert [states[name] for name in query] == ["kept", "weight 0.83", "weight 0.17", "removed"]
    assert "--threshold:0.1000;--full:0.7000" in html
    assert "Queried: 4. Kept: alarm, bell. Removed: dog, rain." in words(html)
    session.extract(query, "soft:0.1-0.7")
    card = words(show(session, query, "soft:0.1-0.7").cards[3])
    assert "bell · weight 0.83 dog · weight 0.17" in card
    assert "threshold 0.10 to 0.70" in card


def test_the_table_of_a_mixture_shows_its_active_classes(mixed):
    html = table(mixed, QUERY, 0.3)
    assert [row[2] for row in rows(html)[:4]] == ["yes", "–", "yes", "–"]
    assert "In mixture" in html


def test_without_a_query_no_class_is_kept_or_removed(session):
    html = table(session, [], 0.3)
    assert "The query is empty." in html
    assert {row[-1] for row in rows(html)} == {"–"}


def test_a_baseline_has_no_table(baseline, recording, tmp_path):
    assert "cannot refine" in table(Session(baseline, recording, tmp_path), QUERY, 0.0)


def test_a_card_plays_shows_and_saves_its_signal(mixed):
    mixed.extract(QUERY, 0.3)
    card = show(mixed, QUERY, 0.3).cards[3]
    (address,) = re.findall(r'<audio [^>]*src="(/sounds/[^"]*)"', card)
    assert f'href="{address}" download="test mixture 7 - refined query.wav"' in card
    assert (
        '<img alt="Spectrogram, refined query: from 0 to 2 kHz upwards, from 0 to 1.5 s to the right" src="data:'
        in card
    )
    assert card.count('aria-label="Refined query"') == 1
    assert '<li class="removed">dog<span class="listen-unseen"> (removed)</span></li>' in card
    assert '<li class="kept">alarm<span class="listen-unseen"> (kept)</span></li>' in card
    assert "SNRi" in card
    assert re.search(r"threshold 0.30 · peak −\d+\.\d dBFS", card)


@pytest.mark.parametrize(
    ("threshold", "remark"), [(0.1, "no class removed"), (0.3, ""), (0.95, "all classes removed · digital silence")]
)
def test_the_refined_card_reports_what_refinement_did(session, threshold, remark):
    session.extract(QUERY, threshold)
    text = words(show(session, QUERY, threshold).cards[3])
    assert (f"threshold {threshold:.2f}: {remark}" if remark else f"threshold {threshold:.2f} · peak") in text


def spans(html: str) -> dict[str, list[tuple[float, float]]]:
    """Return the start and width of each event on a card's time line, in % of the spectrogram, by class."""
    lanes = re.findall(r'<li><span class="listen-name">(.*?)</span>(.*?)</li>', html, re.DOTALL)
    place = r'style="left:([\d.]+)%;width:([\d.]+)%"'
    return {name: [(float(a), float(b)) for a, b in re.findall(place, lane)] for name, lane in lanes}


def test_the_time_lines_are_those_of_the_extraction_s_events(session, monkeypatch):
    found = (Event(0.3, 0.6, "dog", 0.9), Event(0.6, 1.2, "bell", 0.8), Event(0.9, 1.5, "dog", 0.7))
    monkeypatch.setattr(session, "events", found)  # of 1.5 s
    session.extract(["alarm", "dog"], 0.3)  # removes the dog
    mixture, _, raw, refined = show(session, ["alarm", "dog"], 0.3).cards
    assert spans(mixture) == {"dog": [(20.0, 20.0), (60.0, 40.0)], "bell": [(40.0, 40.0)]}
    assert spans(raw) == {"alarm": [], "dog": [(20.0, 20.0), (60.0, 40.0)]}
    assert spans(refined) == {"alarm": []}
    assert "dog from 0.3 to 0.6 s, from 0.9 to 1.5 s bell from 0.6 to 1.2 s" in words(mixture)
    assert "alarm not sure in any part" in words(raw)


def test_without_events_the_card_says_so_and_without_a_classifier_there_is_no_time_line(
    session, baseline, recording, tmp_path, monkeypatch
):
    monkeypatch.setattr(session, "events", ())
    assert "No class is sure in any part." in show(session, [], 0.3).cards[0]
    assert "sure" not in show(Session(baseline, recording, tmp_path), [], 0.0).cards[0]


def test_a_target_without_a_queried_class_is_reported(mixed):
    mixed.extract(["rain"], 0.0)
    assert "no queried class is in the mixture" in show(mixed, ["rain"], 0.0).cards[1]


def tags(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the tags, each with the names of its attributes."""
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append((tag, tuple(name for name, _ in attrs)))

    Parser().feed(html)
    return found


@pytest.mark.parametrize("name", ['<script>alert("x")</script>', 'dog" onclick="alert(1)', "R&B 'live' <b>"])
def test_names_are_text_whatever_they_contain(trained, mixture, tmp_path, name):
    def parts(name):
        classes = tuple(name if known == "dog" else known for known in trained.class_names)
        sound = replace(mixture, name=name, sources={name: mixture.sources["dog"]})
        session = Session(Extractor(replace(trained, class_names=classes)), sound, tmp_path)
        session.extract([name], 0.1)
        view = show(session, [name], 0.1)
        others = [message(name), message(name, "refusal"), render("heading", title=name, facts=[name])]
        return [view.message, view.table, *view.cards, view.scale, *others]

    for html, harmless in zip(parts(name), parts("zebra"), strict=True):
        assert sorted(tags(html)) == sorted(tags(harmless))  # the table sorts classes by name


def test_the_scale_shows_the_levels_of_its_ends():
    html = scale(-20.0)
    assert "<span>−90</span>" in html
    assert "<span>−20 dB</span>" in html


def test_a_refusal_is_read_out_at_once_and_an_empty_message_is_nothing():
    assert 'role="alert"' in message("no", "refusal")
    assert 'role="status"' in message("yes")
    assert message("") == ""


def test_scores_are_those_of_the_metrics(mixed, mixture):
    query = ("dog", "bell")
    raw, target = mixed.extract(query, 0.5).raw, mixture.target(query)
    np.testing.assert_array_equal(target, mixture.sources["dog"])  # there is no bell

    def snr(estimate):
        return 10 * np.log10((target**2).sum() / ((target - estimate) ** 2).sum())

    improvement = snr(raw) - snr(mixture.waveform)
    assert score(raw, target, mixture.waveform) == f"SNRi {improvement:+.1f} dB".replace("-", "−")
    assert score(target, target, mixture.waveform).startswith("SNRi +1")  # perfect: the measure ends at 120 dB


def test_where_no_queried_class_is_in_the_mixture_the_score_is_the_attenuation(mixture):
    silence = np.zeros_like(mixture.waveform)
    assert score(0.1 * mixture.waveform, silence, mixture.waveform) == "attenuation 20.0 dB"
    assert score(silence, silence, mixture.waveform) == "attenuation 120.0 dB"


def test_without_a_target_there_is_no_score(recording):
    assert score(recording.waveform, None, recording.waveform) == ""
