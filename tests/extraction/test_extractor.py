import dataclasses

import numpy as np
import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Network


@pytest.fixture
def baseline(tiny_network_config, trained) -> Extractor:
    """A network without a classifier."""
    network = Network(3, 4000, dataclasses.replace(tiny_network_config, classifier=None)).eval()
    return Extractor(dataclasses.replace(trained, network=network, recommended_threshold=None))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 1), (999,), (2, 4001), (64, 300)])
@pytest.mark.parametrize("rate", [4000, 44_100])
def test_the_extraction_is_shaped_as_the_recording(extractor, noise, shape, rate):
    waveform = noise(*shape)
    extraction = extractor.extract(waveform, rate, ["dog"])
    assert extraction.waveform.shape == shape
    assert extraction.sample_rate == rate
    assert np.isfinite(extraction.waveform).all()
    assert extraction.waveform.any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_arrays_come_back_as_arrays_of_their_type(extractor, noise, dtype):
    waveform = noise(2, 3000).astype(dtype)
    waveform.setflags(write=False)
    found = extractor.extract(waveform, 8000, "dog").waveform
    assert isinstance(found, np.ndarray)
    assert found.dtype == waveform.dtype
    expected = extractor.extract(waveform.astype(np.float32), 8000, "dog").waveform
    np.testing.assert_allclose(found.astype(np.float32), expected, atol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_tensors_come_back_as_tensors_of_their_type(extractor, noise, dtype):
    waveform = torch.from_numpy(noise(2, 3000)).to(dtype).requires_grad_()
    found = extractor.extract(waveform, 8000, "dog").waveform
    assert isinstance(found, torch.Tensor)
    assert found.dtype == dtype
    assert not found.requires_grad
    expected = extractor.extract(waveform.detach().float().numpy(), 8000, "dog").waveform
    np.testing.assert_allclose(found.float().numpy(), expected, atol=1e-3 if dtype == torch.float16 else 1e-6)


def test_the_recording_is_not_changed(extractor, noise):
    waveform = noise(2, 3000)
    before = waveform.copy()
    extractor.extract(waveform, 4000, "all")
    np.testing.assert_array_equal(waveform, before)


def test_classes_under_the_threshold_are_removed_from_the_query(extractor, noise):
    waveform = noise(3000)
    assert extractor.recommended_threshold == 0.5
    found = extractor.extract(waveform, 4000, ["Siren", "car horn", "dog"])
    assert found.query == ("siren", "car_horn", "dog")
    assert found.refined_query == ("siren", "dog")
    assert found.threshold == 0.5
    assert found.probability == pytest.approx({"dog": 0.9, "car_horn": 0.2, "siren": 0.6}, abs=1e-5)
    assert found.window_share == {"dog": 1.0, "car_horn": 0.0, "siren": 1.0}
    np.testing.assert_array_equal(found.waveform, extractor.extract(waveform, 4000, ["siren", "dog"], 0.0).waveform)
    assert extractor.extract(waveform, 4000, "all", threshold=0.0).refined_query == ("dog", "car_horn", "siren")
    assert extractor.extract(waveform, 4000, "all", threshold=0.7).refined_query == ("dog",)
    assert extractor.probabilities(waveform, 4000) == pytest.approx(dict(found.probability), abs=1e-6)


@pytest.mark.parametrize("refinement", ["window", "file"])
def test_an_empty_refined_query_gives_exact_silence(extractor, noise, refinement):
    found = extractor.extract(noise(2, 5001), 8000, "car_horn", refinement=refinement)
    assert found.refined_query == ()
    assert found.waveform.shape == (2, 5001)
    assert not found.waveform.any()


def test_for_each_window_a_class_is_kept_where_it_is_probable_and_for_the_file_throughout(unchanged):
    waveform = np.full(1000, 0.01, np.float32)
    waveform[440] = 0.8  # in one window of thirteen
    extractor = Extractor(unchanged)
    window = extractor.extract(waveform, 4000, "dog", threshold=0.5)
    whole = extractor.extract(waveform, 4000, "dog", threshold=0.5, refinement="file")
    np.testing.assert_allclose(whole.waveform, waveform, atol=1e-6)
    assert not window.waveform[:300].any()
    assert not window.waveform[600:].any()
    assert window.waveform[440] == pytest.approx(0.8, abs=1e-6)
    assert window.refined_query == whole.refined_query == ("dog",)
    assert window.probability == pytest.approx(dict(whole.probability))
    assert window.window_share["dog"] == whole.window_share["dog"] == pytest.approx(1 / 13)


def test_several_queries_are_answered_as_one_by_one(extractor, noise):
    waveform = noise(2, 5001)
    found = extractor.extract_each(waveform, 44_100, ["dog", ["siren", "dog"], "car_horn"])
    for query, extraction in zip(["dog", ["siren", "dog"], "car_horn"], found, strict=True):
        alone = extractor.extract(waveform, 44_100, query)
        np.testing.assert_allclose(extraction.waveform, alone.waveform, atol=1e-6)
        assert extraction.query == alone.query
        assert extraction.refined_query == alone.refined_query


def test_levels_are_those_of_the_recording(extractor, noise):
    waveform = noise(5000)
    loud = extractor.extract(waveform, 4000, "dog").waveform
    soft = extractor.extract(0.1 * waveform, 4000, "dog").waveform
    np.testing.assert_allclose(10.0 * soft, loud, atol=1e-3 * np.abs(loud).max())


def test_a_network_without_a_classifier_uses_the_query_as_it_is(baseline, noise):
    assert baseline.recommended_threshold is None
    found = baseline.extract(noise(3000), 4000, ["dog", "siren"], threshold=0.9, refinement="file")
    assert found.refined_query == ("dog", "siren")
    assert found.probability == found.window_share == {}
    assert found.threshold is None
    assert found.waveform.any()
    with pytest.raises(InputError, match="no classifier"):
        baseline.probabilities(noise(3000), 4000)


def test_where_nothing_was_recommended_the_threshold_is_a_tenth(trained):
    assert Extractor(dataclasses.replace(trained, recommended_threshold=None)).recommended_threshold == 0.1


def test_a_checkpoint_is_loaded_with_its_windows(checkpoint, extractor, noise):
    loaded = Extractor.load(checkpoint, device="cpu")
    assert loaded.class_names == ("dog", "car_horn", "siren")
    assert loaded.sample_rate == 4000
    assert loaded.recommended_threshold == 0.5
    waveform = noise(7000)
    np.testing.assert_allclose(
        loaded.extract(waveform, 4000, "dog").waveform, extractor.extract(waveform, 4000, "dog").waveform, atol=1e-6
    )


@pytest.mark.parametrize(
    ("waveform", "rate", "options", "said"),
    [
        (np.zeros((2, 0), np.float32), 8000, {}, r"shape \[2, 0\]"),
        (np.zeros((), np.float32), 8000, {}, r"shape \[\]"),
        (np.zeros((2, 2, 9), np.float32), 8000, {}, r"\[channels, samples\] is expected"),
        (np.zeros((9000, 2), np.float32), 8000, {}, "9000 channels.*transpose"),
        (np.zeros(9, np.int16), 8000, {}, "int16.*32768"),
        (torch.zeros(9, dtype=torch.int32), 8000, {}, "int32"),
        ([0.0, 0.1], 8000, {}, "list"),
        (np.array([0.0, np.nan], np.float32), 8000, {}, "not finite"),
        (np.array([0.0, -np.inf]), 8000, {}, "not finite"),
        (np.zeros(9), 1, {}, "1 Hz; 4000 to 384000 Hz"),
        (np.zeros(9), 1_000_000, {}, "1000000 Hz"),
        (np.zeros(9), 44_100.5, {}, r"44100\.5 Hz"),
        (np.zeros(9), 8000, {"threshold": 1.5}, r"threshold is 1\.5"),
        (np.zeros(9), 8000, {"threshold": float("nan")}, "threshold is nan"),
        (np.zeros(9), 8000, {"refinement": "clip"}, "refinement is 'clip'"),
        (np.zeros(9), 8000, {"query": "dgo"}, "did you mean 'dog'"),
        (np.zeros(9), 8000, {"query": []}, "query is empty"),
        (np.zeros(9), 8000, {"query": None}, "query is None"),
        (np.zeros(9), 8000, {"query": [1]}, "query: 1 is no text"),
        (np.zeros(9), 8000, {"threshold": "0.1"}, "threshold is '0.1'; a number from 0 to 1"),
        (np.zeros(9), "8000", {}, "the sample rate is '8000' Hz"),
        (np.full(9, 1e30), 8000, {}, r"as large as 1e\+30"),
        (np.full(9, 1e60), 8000, {}, "not finite"),  # in 32 bits
    ],
)
def test_what_cannot_be_extracted_from_is_refused(extractor, waveform, rate, options, said):
    with pytest.raises(InputError, match=said):
        extractor.extract(waveform, rate, **({"query": "dog"} | options))


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ([], r"queries is empty; ask for something, such as \['dog'\]"),
        ("dog", "queries is 'dog'; a list of queries is expected"),
        (None, "queries is None; a list of queries is expected"),
    ],
)
def test_several_queries_are_a_list_of_one_or_more(extractor, noise, queries, said):
    with pytest.raises(InputError, match=said):
        extractor.extract_each(noise(900), 8000, queries)


def test_numbers_of_other_kinds_come_back_as_plain_ones(extractor, noise):
    found = extractor.extract(noise(900), np.float32(8000.0), "dog", threshold=np.float32(0.25))
    assert (type(found.sample_rate), found.sample_rate) == (int, 8000)
    assert (type(found.threshold), found.threshold) == (float, 0.25)
    assert type(extractor.extract(noise(900), 8000, "dog", threshold=0).threshold) is float


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta", "hpu", "privateuseone"])
def test_a_device_that_there_is_not_is_refused(checkpoint, device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used"):
        Extractor.load(checkpoint, device)


def test_of_what_is_said_of_a_device_the_first_sentence_is_passed_on(checkpoint, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("Could not run it. This could be because of a build. See a page.\nMore.")

    monkeypatch.setattr(torch, "zeros", refuse)
    with pytest.raises(InputError, match=r"cannot be used \(Could not run it\); expected"):
        Extractor.load(checkpoint, "mps")


def test_extractions_are_what_the_whole_package_says(trained: TrainedNetwork):
    import tse_refine

    assert tse_refine.Extractor is Extractor
