import numpy as np
import pytest

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.listen import session as session_module
from tse_refine.extraction.listen.session import Session, Sessions
from tse_refine.refinement import SoftThreshold

QUERY = ("dog", "alarm", "bell")


@pytest.fixture
def session(extractor, recording, tmp_path) -> Session:
    return Session(extractor, recording, tmp_path)


@pytest.fixture
def queries(monkeypatch) -> list:
    """The queries for which the network has run."""
    queries = []
    original = Extractor.extract_each

    def counted(self, waveform, sample_rate, new, *options):
        queries.extend(new)
        return original(self, waveform, sample_rate, new, *options)

    monkeypatch.setattr(Extractor, "extract_each", counted)
    return queries


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.7, 1.0])
def test_estimates_are_those_of_extraction_that_decides_once_per_file(session, extractor, recording, threshold):
    result = session.extract(QUERY, threshold)
    expected = extractor.extract(recording.waveform, recording.sample_rate, QUERY, threshold, scope="file")
    assert result.refined_query == expected.refined_query
    np.testing.assert_array_equal(result.refined, expected.waveform)
    raw = extractor.extract(recording.waveform, recording.sample_rate, QUERY, threshold=0.0)
    np.testing.assert_array_equal(result.raw, raw.waveform)
    assert session.result is result


def test_events_are_those_of_extraction(session, extractor, recording):
    extraction = extractor.extract(recording.waveform, recording.sample_rate, QUERY)
    assert session.events == extraction.events
    assert [event.name for event in session.events] == ["alarm", "bell"]  # from start to end


def test_a_soft_threshold_weighs_classes_and_its_estimate_is_used_again(session, extractor, recording, queries):
    soft = SoftThreshold(0.1, 0.7)
    weights = session.weight(QUERY, soft)
    assert weights == pytest.approx({"dog": 1 / 6, "alarm": 1.0, "bell": 5 / 6}, abs=1e-6)
    result = session.extract(QUERY, "soft:0.1-0.7")
    expected = extractor.extract(recording.waveform, recording.sample_rate, QUERY, soft, scope="file")
    np.testing.assert_array_equal(result.refined, expected.waveform)
    assert result.refined_query == expected.refined_query == ("alarm", "bell")
    queries.clear()
    assert session.extract(QUERY, soft).refined is result.refined
    assert not queries


def test_a_higher_threshold_never_adds_a_class_and_does_not_run_the_network(session, queries):
    kept = [
        tuple(name for name, weight in session.weight(QUERY, threshold).items() if weight)
        for threshold in (0.0, 0.15, 0.3, 0.7, 1.0)
    ]
    assert kept == [QUERY, QUERY, ("alarm", "bell"), ("alarm",), ()]
    assert not queries


def test_no_query_is_extracted_twice(session, queries):
    session.extract(QUERY, 0.5)
    assert queries == [QUERY, ("alarm", "bell")]
    session.extract(QUERY, 0.55)  # keeps the same classes
    session.extract(QUERY, 0.0)  # keeps all, as in the raw query
    session.extract(QUERY, 1.0)  # keeps none: silence, for which the network does not run
    session.extract(("alarm", "bell"), 0.3)  # was a refined query before
    assert queries == [QUERY, ("alarm", "bell")]
    session.extract(QUERY, 0.7)
    assert queries[2:] == [("alarm",)]


def test_the_memory_for_estimates_is_bounded(session, recording, queries, monkeypatch):
    monkeypatch.setattr(session_module, "MOST_ESTIMATE_BYTES", 3 * recording.waveform.nbytes)
    for name in QUERY:
        session.extract([name], 0.0)
    session.extract(["bell"], 0.0)  # the last one is still kept
    assert queries == [(name,) for name in QUERY]
    session.extract(["dog"], 0.0)  # the first one was removed
    assert queries[3:] == [("dog",)]


def test_the_estimates_on_the_page_are_kept_in_any_case(session, queries, monkeypatch):
    monkeypatch.setattr(session_module, "MOST_ESTIMATE_BYTES", 0)
    for _ in range(2):
        session.extract(QUERY, 0.5)
    assert queries == [QUERY, ("alarm", "bell")]


def test_the_estimate_for_an_empty_refined_query_is_exact_silence(extractor, mixture, tmp_path):
    result = Session(extractor, mixture, tmp_path).extract(["dog", "rain"], 0.5)
    assert result.refined_query == ()
    assert not result.refined.any()
    assert result.raw.any()


def test_a_baseline_extracts_with_the_query_as_it_is(baseline, recording, tmp_path):
    session = Session(baseline, recording, tmp_path)
    assert session.probability == {}
    assert session.weight(QUERY, 0.9) == dict.fromkeys(QUERY, 1.0)
    result = session.extract(QUERY, 0.9)
    assert result.raw.any()
    assert result.refined is None
    assert result.refined_query == QUERY


def test_an_empty_query_is_rejected(session):
    with pytest.raises(InputError, match="tick one class or more"):
        session.extract([], 0.5)


def test_spectrograms_end_where_the_network_or_the_sound_does(session, extractor, mixture, tmp_path):
    assert session.spectrograms.top_hz == 2000  # of the network; the recording has 4 kHz
    assert Session(extractor, mixture, tmp_path).spectrograms.top_hz == 2000


def write_file(session: Session) -> None:
    session.files.write({session.sound.name: session.sound.waveform}, session.sound.sample_rate)


def test_the_oldest_sessions_are_closed_when_there_are_too_many(extractor, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(session_module, "MOST_SESSIONS", 2)
    sessions = Sessions(extractor, tmp_path)
    opened = [sessions.open(f"visitor {number}", lambda: recording) for number in range(2)]
    for session in opened:
        write_file(session)
    last = sessions.open("visitor 2", lambda: recording)
    assert [sessions.get(f"visitor {number}") for number in range(3)] == [None, opened[1], last]
    assert len(list(tmp_path.rglob("*.wav"))) == 1


def test_a_new_session_replaces_the_visitor_s_earlier_one_and_its_files(extractor, recording, mixture, tmp_path):
    sessions = Sessions(extractor, tmp_path)
    write_file(sessions.open("visitor", lambda: recording))
    session = sessions.open("visitor", lambda: mixture)
    assert sessions.get("visitor") is session
    assert not list(tmp_path.iterdir())
    write_file(session)
    sessions.close("visitor")
    sessions.close("nobody")
    assert sessions.get("visitor") is None
    assert not list(tmp_path.iterdir())
