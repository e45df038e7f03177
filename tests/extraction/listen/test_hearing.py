import numpy as np
import pytest

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen import hearing as hearing_module
from tse_refine.extraction.listen.hearing import Hearing

QUERY = ("dog", "alarm", "bell")


@pytest.fixture
def runs(monkeypatch) -> list:
    """The queries that the network was run for."""
    asked = []
    original = Extractor.extract_each

    def counted(self, waveform, sample_rate, queries, threshold):
        asked.extend(queries)
        return original(self, waveform, sample_rate, queries, threshold)

    monkeypatch.setattr(Extractor, "extract_each", counted)
    return asked


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.7, 1.0])
def test_what_is_heard_is_what_extraction_gives_when_it_decides_for_the_whole_file(extractor, recording, threshold):
    answer = Hearing(extractor, recording).answer(QUERY, threshold)
    expected = extractor.extract(recording.waveform, recording.sample_rate, QUERY, threshold, refinement="file")
    assert answer.refined_query == expected.refined_query
    np.testing.assert_array_equal(answer.refined, expected.waveform)
    raw = extractor.extract(recording.waveform, recording.sample_rate, QUERY, threshold=0.0)
    np.testing.assert_array_equal(answer.raw, raw.waveform)


def test_a_higher_threshold_never_adds_a_class_and_needs_no_network(extractor, recording, runs):
    hearing = Hearing(extractor, recording)
    refined = [hearing.refined_query(QUERY, threshold) for threshold in (0.0, 0.15, 0.3, 0.7, 1.0)]
    assert refined == [QUERY, QUERY, ("alarm", "bell"), ("alarm",), ()]
    assert not runs


def test_nothing_is_extracted_twice(extractor, recording, runs):
    hearing = Hearing(extractor, recording)
    hearing.answer(QUERY, 0.5)
    assert runs == [QUERY, ("alarm", "bell")]
    hearing.answer(QUERY, 0.55)  # keeps the same classes
    hearing.answer(QUERY, 0.0)  # all, as in the raw query
    hearing.answer(QUERY, 1.0)  # none: silence, which needs no network
    hearing.answer(("alarm", "bell"), 0.3)  # what was a refined query before
    assert runs == [QUERY, ("alarm", "bell")]
    hearing.answer(QUERY, 0.7)
    assert runs[2:] == [("alarm",)]


def test_what_is_kept_of_extractions_is_bounded(extractor, recording, runs, monkeypatch):
    monkeypatch.setattr(hearing_module, "_MOST_BYTES", 3 * recording.waveform.nbytes)
    hearing = Hearing(extractor, recording)
    for name in QUERY:
        hearing.answer([name], 0.0)
    hearing.answer(["bell"], 0.0)  # the last one is still there
    assert runs == [(name,) for name in QUERY]
    hearing.answer(["dog"], 0.0)  # the first one made room
    assert runs[3:] == [("dog",)]


def test_the_two_that_are_heard_are_kept_in_any_case(extractor, recording, runs, monkeypatch):
    monkeypatch.setattr(hearing_module, "_MOST_BYTES", 0)
    hearing = Hearing(extractor, recording)
    for _ in range(2):
        hearing.answer(QUERY, 0.5)
    assert runs == [QUERY, ("alarm", "bell")]


def test_a_refined_query_without_classes_is_exact_silence(extractor, mixture):
    answer = Hearing(extractor, mixture).answer(["dog", "rain"], 0.5)
    assert answer.refined_query == ()
    assert not answer.refined.any()
    assert answer.raw.any()


def test_scores_are_those_of_the_metrics(extractor, mixture):
    answer = Hearing(extractor, mixture).answer(["dog", "bell"], 0.5)
    np.testing.assert_array_equal(answer.target, mixture.sources["dog"])  # a bell is not there

    def snr(estimate):
        return 10 * np.log10((answer.target**2).sum() / ((answer.target - estimate) ** 2).sum())

    improvement = snr(answer.raw) - snr(mixture.waveform)
    assert answer.score(answer.raw, mixture.waveform) == f"SNRi {improvement:+.1f} dB".replace("-", "−")
    assert answer.score(answer.target, mixture.waveform).startswith("SNRi +1")  # perfect: the measure ends at 120 dB


def test_where_nothing_asked_for_is_there_the_score_is_how_much_is_left(extractor, mixture):
    answer = Hearing(extractor, mixture).answer(["bell"], 0.9)
    assert not answer.target.any()
    assert answer.score(0.1 * mixture.waveform, mixture.waveform) == "attenuation 20.0 dB"
    assert answer.score(answer.refined, mixture.waveform) == "attenuation 120.0 dB"


def test_a_recording_has_no_target_and_no_score(extractor, recording):
    answer = Hearing(extractor, recording).answer(QUERY, 0.5)
    assert answer.target is None
    assert answer.score(answer.raw, recording.waveform) == ""


def test_a_baseline_extracts_with_the_query_as_it_is(baseline, recording):
    hearing = Hearing(baseline, recording)
    assert hearing.probability == {}
    assert hearing.refined_query(QUERY, 0.9) == QUERY
    answer = hearing.answer(QUERY, 0.9)
    assert answer.raw.any()
    assert answer.refined is None
    assert answer.refined_query is None


def test_an_empty_query_is_refused(extractor, recording):
    with pytest.raises(InputError, match="tick one class or more"):
        Hearing(extractor, recording).answer([], 0.5)
