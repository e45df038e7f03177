import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from tse_refine.errors import InputError
from tse_refine.extraction.listen import listener as listener_module
from tse_refine.extraction.listen.listener import Listener
from tse_refine.extraction.listen.mixtures import find_mixtures
from tse_refine.extraction.listen.uploads import Limits

QUERY = ["alarm", "bell", "dog"]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """The folder of what is heard."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    return folder


@pytest.fixture
def listener(extractor, checkpoint, sounds) -> Listener:
    return Listener(extractor, find_mixtures(checkpoint, sounds / "bank"), Limits(), sounds)


def heard(card: str, sounds: Path) -> tuple[np.ndarray, int]:
    """Return what a card plays, ``[channels, samples]``."""
    address = unquote(re.search(r'<audio [^>]*src="/sounds/([^"]*)"', card).group(1))
    wave, rate = soundfile.read(sounds / address, always_2d=True)
    return wave.T, rate


def test_a_recording_is_heard_as_it_is_and_its_file_is_removed(listener, sounds, record):
    path = record("street.wav", channels=2, rate=44_100, level=2e-4)
    original, _ = soundfile.read(path, always_2d=True)
    view = listener.take("me", path, [], 0.5)
    assert not path.exists()
    assert [bool(card) for card in view.cards] == [True, False, False, False]
    wave, rate = heard(view.cards[0], sounds)
    assert rate == 44_100
    np.testing.assert_allclose(wave.T, original, atol=1.01 / 32768)  # near silence stays near silence
    assert "street.wav: 0.1 s, stereo, 44.1 kHz." in view.message
    assert "up to 2 kHz" in view.message
    assert "alarm" in view.table


def test_all_parts_of_a_mixture_are_heard_with_one_gain(listener, extractor, mixture, sounds, monkeypatch):
    monkeypatch.setattr(listener.mixtures, "draw", lambda: mixture)
    louder = 1.5 / np.abs(mixture.waveform).max()
    for signal in (mixture.waveform, *mixture.sources.values()):
        signal *= louder
    listener.draw("me", QUERY, 0.5)
    view = listener.extract("me", QUERY, 0.5)
    raw = extractor.extract(mixture.waveform, 4000, QUERY, threshold=0.0).waveform
    refined = extractor.extract(mixture.waveform, 4000, QUERY, 0.5, refinement="file").waveform
    parts = [mixture.waveform, mixture.target(tuple(QUERY)), raw, refined]
    gain = 1 / max(np.abs(part).max() for part in parts)
    assert gain < 1
    for card, part in zip(view.cards, parts, strict=True):
        np.testing.assert_allclose(heard(card, sounds)[0], gain * part, atol=1.01 / 32768)
    assert f"{-20 * np.log10(gain):.1f} dB softer than they are, so that none clips" in view.message
    assert "SNRi" in view.cards[3]


def test_moving_the_threshold_changes_the_table_without_the_network(listener, record, monkeypatch):
    listener.take("me", record("street.wav"), QUERY, 0.5)
    listener.extract("me", QUERY, 0.5)
    monkeypatch.setattr(listener.extractor, "_network", None)  # whoever uses it fails
    assert "Kept: alarm, bell. Removed: dog." in listener.look("me", QUERY, 0.5)
    assert "Kept: alarm. Removed: bell, dog." in listener.look("me", QUERY, 0.7)
    assert "Kept: alarm, bell, dog. Removed: none." in listener.look("me", QUERY, 0.1)
    same = listener.extract_again("me", QUERY, 0.55)  # keeps the same classes
    assert "refined at 0.55" in same.cards[3]
    nothing = listener.extract_again("me", QUERY, 1.0)
    assert "nothing is left" in nothing.cards[3]
    assert "digital silence" in nothing.cards[3]


def test_another_threshold_is_extracted_only_if_the_query_was(listener, record):
    assert listener.extract_again("me", QUERY, 0.7) is None
    listener.take("me", record("street.wav"), QUERY, 0.5)
    assert listener.extract_again("me", QUERY, 0.7) is None
    listener.extract("me", QUERY, 0.5)
    assert listener.extract_again("me", ["rain"], 0.7) is None
    assert listener.extract_again("me", QUERY, 0.7) is not None


def test_the_mixture_keeps_its_address_when_another_query_is_extracted(listener, record):
    first = listener.take("me", record("street.wav"), QUERY, 0.5).cards[0]
    assert listener.extract("me", QUERY, 0.5).cards[0] == first  # so that it goes on playing
    assert listener.extract("me", ["rain"], 0.7).cards[0] == first


def test_what_cannot_be_read_is_refused_and_leaves_what_was_there(listener, record, tmp_path):
    listener.take("me", record("street.wav"), QUERY, 0.5)
    before = listener.look("me", QUERY, 0.5)
    path = tmp_path / "uploads" / "text.wav"
    path.write_text("no sound")
    view = listener.take("me", path, QUERY, 0.5)
    assert 'role="alert"' in view.message
    assert "text.wav cannot be read as sound" in view.message
    assert (view.table, set(view.cards), view.scale) == (None, {None}, None)
    assert not path.exists()
    assert listener.look("me", QUERY, 0.5) == before


def test_without_a_sound_or_a_query_it_is_said_what_to_do(listener, record):
    assert "There is no sound yet" in listener.extract("me", QUERY, 0.5).message
    assert "Drop or record a sound" in listener.look("me", QUERY, 0.5)
    listener.take("me", record("street.wav"), [], 0.5)
    assert "tick one class or more" in listener.extract("me", [], 0.5).message


def test_recordings_that_are_missing_are_said(listener, monkeypatch):
    def missing() -> None:
        raise InputError("The recordings of <folder> are gone.")

    monkeypatch.setattr(listener.mixtures, "draw", missing)
    assert "The recordings of &lt;folder&gt; are gone." in listener.draw("me", QUERY, 0.5).message


def test_files_are_removed_when_replaced_and_when_the_visitor_leaves(listener, sounds, record):
    for number in range(3):
        listener.take("me", record(f"{number}.wav"), QUERY, 0.5)
        listener.extract("me", QUERY, 0.5)
        names = sorted(path.name for path in sounds.rglob("*.wav"))
        assert names == [f"{number} - {part}.wav" for part in ("mixture", "raw query", "refined query")]
    listener.take("another", record("another.wav"), QUERY, 0.5)
    listener.leave("me")
    assert [path.name for path in sounds.rglob("*.wav")] == ["another - mixture.wav"]
    listener.leave("another")
    listener.leave("nobody")
    assert not list(sounds.iterdir())


def test_who_came_first_is_forgotten_first_when_there_are_too_many(listener, sounds, record, monkeypatch):
    monkeypatch.setattr(listener_module, "_MOST_VISITS", 2)
    for number in range(4):
        listener.take(f"visitor {number}", record(f"{number}.wav"), QUERY, 0.5)
    assert sorted(path.name for path in sounds.rglob("*.wav")) == ["2 - mixture.wav", "3 - mixture.wav"]
    assert "There is no sound yet" in listener.extract("visitor 0", QUERY, 0.5).message
    assert "There is no sound yet" not in listener.extract("visitor 3", QUERY, 0.5).message


def test_a_baseline_extracts_and_says_that_it_cannot_refine(baseline, sounds, record):
    listener = Listener(baseline, None, Limits(), sounds)
    assert "cannot refine" in listener.look("me", QUERY, 0.0)
    assert "cannot refine" in listener.take("me", record("street.wav"), QUERY, 0.0).table
    cards = listener.extract("me", QUERY, 0.0).cards
    assert [bool(card) for card in cards] == [True, False, True, False]


def test_digital_silence_is_named(listener, record):
    view = listener.take("me", record("silence.wav", level=0.0), QUERY, 0.5)
    assert "It is digital silence" in view.message
    assert "Kept: none." in view.table
