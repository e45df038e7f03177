import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen import page
from tse_refine.extraction.listen.cards import View
from tse_refine.extraction.listen.page import Actions, build_page, refinement
from tse_refine.extraction.listen.sounds import Limits, find_mixtures
from tse_refine.refinement import SoftThreshold, Threshold

QUERY = ["alarm", "bell", "dog"]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """The folder that is served."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    return folder


@pytest.fixture
def actions(extractor, checkpoint, sounds) -> Actions:
    return Actions(extractor, find_mixtures(checkpoint, sounds / "bank"), Limits(), sounds)


def played(card: str, sounds: Path) -> tuple[np.ndarray, int]:
    """Return what a card plays, ``[channels, samples]``."""
    address = unquote(re.search(r'<audio [^>]*src="/sounds/([^"]*)"', card).group(1))
    wave, rate = soundfile.read(sounds / address, always_2d=True)
    return wave.T, rate


def test_a_recording_is_played_as_it_is_and_its_upload_is_removed(actions, sounds, record):
    path = record("street.wav", channels=2, rate=44_100, level=2e-4)
    original, _ = soundfile.read(path, always_2d=True)
    view = actions.upload("me", str(path), [], 0.5)
    assert not path.exists()
    assert [bool(card) for card in view.cards] == [True, False, False, False]
    wave, rate = played(view.cards[0], sounds)
    assert rate == 44_100
    np.testing.assert_allclose(wave.T, original, atol=1.01 / 32768)  # near silence stays near silence
    assert "street.wav: 0.1 s, stereo, 44.1 kHz." in view.message
    assert "up to 2 kHz" in view.message
    assert "alarm" in view.table


def test_all_signals_of_a_mixture_are_played_with_one_gain(actions, extractor, mixture, sounds, monkeypatch):
    monkeypatch.setattr(actions.mixtures, "draw", lambda: mixture)
    louder = 1.5 / np.abs(mixture.waveform).max()
    for signal in (mixture.waveform, *mixture.sources.values()):
        signal *= louder
    actions.draw("me", QUERY, 0.5)
    view = actions.extract("me", QUERY, 0.5)
    raw = extractor.extract(mixture.waveform, 4000, QUERY, threshold=0.0).waveform
    refined = extractor.extract(mixture.waveform, 4000, QUERY, 0.5, scope="file").waveform
    signals = [mixture.waveform, mixture.target(QUERY), raw, refined]
    gain = 1 / max(np.abs(signal).max() for signal in signals)
    assert gain < 1
    for card, signal in zip(view.cards, signals, strict=True):
        np.testing.assert_allclose(played(card, sounds)[0], gain * signal, atol=1.01 / 32768)
    assert f"{-20 * np.log10(gain):.1f} dB softer than they are, so that none clips" in view.message
    assert "SNRi" in view.cards[3]


def test_the_threshold_changes_the_table_without_the_network(actions, record, monkeypatch):
    actions.upload("me", str(record("street.wav")), QUERY, 0.5)
    actions.extract("me", QUERY, 0.5)
    monkeypatch.setattr(Extractor, "stream", lambda *_: pytest.fail("the network ran"))
    assert "Kept: alarm, bell. Removed: dog." in actions.update_table("me", QUERY, 0.5).table
    assert "Kept: alarm. Removed: bell, dog." in actions.update_table("me", QUERY, 0.7).table
    assert "Kept: alarm, bell, dog. Removed: none." in actions.update_table("me", QUERY, 0.1).table
    same = actions.extract_again("me", QUERY, 0.55)  # keeps the same classes
    assert "threshold 0.55" in same.cards[3]
    nothing = actions.extract_again("me", QUERY, 1.0)
    assert "all classes removed" in nothing.cards[3]
    assert "digital silence" in nothing.cards[3]


def test_the_second_slider_makes_the_threshold_soft(actions, record):
    assert refinement(0.3) == refinement(0.3, 0.2) == Threshold(0.3)
    assert refinement(0.1, 0.7) == SoftThreshold(0.1, 0.7)
    actions.upload("me", str(record("street.wav")), QUERY, 0.5, 0.0)
    assert "weight 0.83" in actions.update_table("me", QUERY, 0.1, 0.7).table
    assert "threshold 0.10 to 0.70" in actions.extract("me", QUERY, 0.1, 0.7).cards[3]


def test_another_threshold_is_extracted_only_if_the_query_was(actions, record):
    assert actions.extract_again("me", QUERY, 0.7) == View()
    actions.upload("me", str(record("street.wav")), QUERY, 0.5)
    assert actions.extract_again("me", QUERY, 0.7) == View()
    actions.extract("me", QUERY, 0.5)
    assert actions.extract_again("me", ["rain"], 0.7) == View()
    assert actions.extract_again("me", QUERY, 0.7).cards[3]


def test_the_mixture_keeps_its_address_when_another_query_is_extracted(actions, record):
    first = actions.upload("me", str(record("street.wav")), QUERY, 0.5).cards[0]
    assert actions.extract("me", QUERY, 0.5).cards[0] == first  # so that it goes on playing
    assert actions.extract("me", ["rain"], 0.7).cards[0] == first


def test_an_invalid_upload_is_rejected_and_leaves_the_page_as_it_was(actions, record):
    actions.upload("me", str(record("street.wav")), QUERY, 0.5)
    before = actions.update_table("me", QUERY, 0.5)
    path = record("text.wav")
    path.write_text("not a sound")
    view = actions.upload("me", str(path), QUERY, 0.5)
    assert 'role="alert"' in view.message
    assert "text.wav cannot be read as sound" in view.message
    assert view == View(view.message)
    assert not path.exists()
    assert actions.update_table("me", QUERY, 0.5) == before


def test_clearing_the_upload_leaves_the_page_as_it_was(actions):
    assert actions.upload("me", None, QUERY, 0.5) == View()


def test_without_a_sound_or_a_query_the_page_explains_what_to_do(actions, record):
    assert "There is no sound yet" in actions.extract("me", QUERY, 0.5).message
    assert "Drop or record a sound" in actions.update_table("me", QUERY, 0.5).table
    actions.upload("me", str(record("street.wav")), [], 0.5)
    assert "tick one class or more" in actions.extract("me", [], 0.5).message


def test_missing_recordings_of_mixtures_are_reported_with_their_paths_to_the_terminal_only(
    actions, monkeypatch, capsys
):
    def missing() -> None:
        raise InputError("The recordings of /a/folder are gone.")

    monkeypatch.setattr(actions.mixtures, "draw", missing)
    view = actions.draw("me", QUERY, 0.5)
    assert "The test mixtures cannot be loaded" in view.message
    assert "/a/folder" not in str(view)
    assert "The recordings of /a/folder are gone." in capsys.readouterr().err


def test_files_are_removed_when_the_sound_is_replaced_and_when_the_visitor_leaves(actions, sounds, record):
    for number in range(3):
        actions.upload("me", str(record(f"{number}.wav")), QUERY, 0.5)
        actions.extract("me", QUERY, 0.5)
        names = sorted(path.name for path in sounds.rglob("*.wav"))
        assert names == [f"{number} - {part}.wav" for part in ("mixture", "raw query", "refined query")]
    actions.upload("another", str(record("another.wav")), QUERY, 0.5)
    actions.close("me")
    assert [path.name for path in sounds.rglob("*.wav")] == ["another - mixture.wav"]
    assert "There is no sound yet" in actions.extract("me", QUERY, 0.5).message
    assert "There is no sound yet" not in actions.extract("another", QUERY, 0.5).message
    actions.close("another")
    actions.close("nobody")
    assert not list(sounds.iterdir())


@pytest.mark.parametrize("begun", ["read_upload", "show"])
def test_nothing_is_left_of_a_visitor_who_leaves_while_the_network_runs(actions, sounds, record, monkeypatch, begun):
    original = getattr(page, begun)

    def meanwhile(*values):
        actions.close("me")
        return original(*values)

    monkeypatch.setattr(page, begun, meanwhile)
    assert "Load it again" in actions.upload("me", str(record("street.wav")), QUERY, 0.5).message
    assert not list(sounds.iterdir())
    assert "There is no sound yet" in actions.extract("me", QUERY, 0.5).message
    monkeypatch.undo()
    assert actions.upload("me", str(record("street.wav")), QUERY, 0.5).cards[0]  # whose tab is open after all


def test_a_baseline_extracts_and_explains_that_it_cannot_refine(baseline, sounds, record):
    actions = Actions(baseline, None, Limits(), sounds)
    assert "cannot refine" in actions.update_table("me", QUERY, 0.0).table
    assert "cannot refine" in actions.upload("me", str(record("street.wav")), QUERY, 0.0).table
    cards = actions.extract("me", QUERY, 0.0).cards
    assert [bool(card) for card in cards] == [True, False, True, False]


@pytest.mark.usefixtures("gradio")
def test_a_class_is_offered_with_its_aliases(trained, sounds, checkpoint):
    extractor = Extractor(replace(trained, aliases={"dog": ("Bark", "Hund")}))
    built = build_page(Actions(extractor, None, Limits(), sounds), checkpoint)
    (query,) = (block for block in built.blocks.values() if block.elem_id == "query")
    names = {name: label for label, name in query.choices}
    assert list(names) == list(trained.class_names)
    assert (names["dog"], names["bell"]) == ("dog (Bark, Hund)", "bell")


def test_digital_silence_is_reported(actions, record):
    view = actions.upload("me", str(record("silence.wav", level=0.0)), QUERY, 0.5)
    assert "It is digital silence" in view.message
    assert "Kept: none." in view.table
