import dataclasses

import numpy as np
import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.model.checkpoint import TrainedNetwork
from tse_refine.model.network import Network
from tse_refine.refinement import Gate, NoRefinement, SoftThreshold, Threshold


@pytest.fixture
def baseline(tiny_network_config, trained) -> Extractor:
    """A network without a classifier."""
    network = Network(3, 4000, dataclasses.replace(tiny_network_config, classifier=None)).eval()
    return Extractor(dataclasses.replace(trained, network=network, recommended_threshold=None))


@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 1), (999,), (2, 4001), (64, 300)])
@pytest.mark.parametrize("rate", [4000, 44_100])
def test_the_estimate_has_the_shape_of_the_recording(extractor, noise, shape, rate):
    waveform = noise(*shape)
    extraction = extractor.extract(waveform, rate, ["dog"])
    assert extraction.waveform.shape == shape
    assert extraction.sample_rate == rate
    assert np.isfinite(extraction.waveform).all()
    assert extraction.waveform.any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_the_estimate_of_an_array_is_an_array_of_its_type(extractor, noise, dtype):
    waveform = noise(2, 3000).astype(dtype)
    waveform.setflags(write=False)
    estimate = extractor.extract(waveform, 8000, "dog").waveform
    assert isinstance(estimate, np.ndarray)
    assert estimate.dtype == waveform.dtype
    expected = extractor.extract(waveform.astype(np.float32), 8000, "dog").waveform
    np.testing.assert_allclose(estimate.astype(np.float32), expected, atol=1e-3 if dtype == "float16" else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_estimate_of_a_tensor_is_a_tensor_of_its_type(extractor, noise, dtype):
    waveform = torch.from_numpy(noise(2, 3000)).to(dtype).requires_grad_()
    estimate = extractor.extract(waveform, 8000, "dog").waveform
    assert isinstance(estimate, torch.Tensor)
    assert estimate.dtype == dtype
    assert not estimate.requires_grad
    expected = extractor.extract(waveform.detach().float().numpy(), 8000, "dog").waveform
    np.testing.assert_allclose(estimate.float().numpy(), expected, atol=1e-3 if dtype == torch.float16 else 1e-6)


def test_an_alias_queries_its_class(trained, noise):
    extractor = Extractor(dataclasses.replace(trained, aliases={"dog": ("Bark",)}))
    extraction = extractor.extract(noise(2000), 4000, ["bark"], threshold="none")
    assert extraction.query == ("dog",)
    assert dict(extractor.aliases) == {"dog": ("Bark",)}


def test_the_recording_is_not_changed(extractor, noise):
    waveform = noise(2, 3000)
    before = waveform.copy()
    extractor.extract(waveform, 4000, "all")
    np.testing.assert_array_equal(waveform, before)


def test_classes_under_the_threshold_are_removed_from_the_query(extractor, noise):
    waveform = noise(3000)
    assert extractor.recommended_threshold == 0.5
    extraction = extractor.extract(waveform, 4000, ["Siren", "car horn", "dog"])
    assert extraction.query == ("siren", "car_horn", "dog")
    assert extraction.refined_query == ("siren", "dog")
    assert extraction.weight == {"siren": 1.0, "car_horn": 0.0, "dog": 1.0}
    assert (extraction.refinement, extraction.threshold) == (Threshold(0.5), 0.5)
    assert extraction.probability == pytest.approx({"dog": 0.9, "car_horn": 0.2, "siren": 0.6}, abs=1e-5)
    assert extraction.window_share == {"dog": 1.0, "car_horn": 0.0, "siren": 1.0}
    kept = extractor.extract(waveform, 4000, ["siren", "dog"], 0.0)
    np.testing.assert_array_equal(extraction.waveform, kept.waveform)
    assert extractor.extract(waveform, 4000, "all", threshold=0.0).refined_query == ("dog", "car_horn", "siren")
    assert extractor.extract(waveform, 4000, "all", threshold=0.7).refined_query == ("dog",)
    assert extractor.probabilities(waveform, 4000) == pytest.approx(dict(extraction.probability), abs=1e-6)
    assert extractor.detect(waveform, 4000).events == extraction.events


@pytest.mark.parametrize("scope", ["window", "file"])
@pytest.mark.parametrize("threshold", [None, "soft:0.3-0.6", "gate"])
def test_an_empty_refined_query_results_in_exact_silence(extractor, noise, scope, threshold):
    extraction = extractor.extract(noise(2, 5001), 8000, "car_horn", threshold, scope)
    assert extraction.refined_query == ()
    assert extraction.is_silent
    assert extraction.waveform.shape == (2, 5001)
    assert not extraction.waveform.any()


@pytest.mark.parametrize("scope", ["window", "file"])
def test_weights_of_a_soft_threshold_reach_the_network(trained, noise, scope):
    signal = noise(1000)  # one window
    extraction = Extractor(trained).extract(signal, 4000, ["dog", "car_horn", "siren"], "soft:0.1-0.8", scope)
    assert extraction.weight == pytest.approx({"dog": 1.0, "car_horn": 1 / 7, "siren": 5 / 7}, abs=1e-5)
    assert extraction.refined_query == ("dog", "siren")
    assert extraction.window_share == {"dog": 1.0, "car_horn": 0.0, "siren": 1.0}
    assert (extraction.refinement, extraction.threshold) == (SoftThreshold(0.1, 0.8), "soft:0.1-0.8")
    with torch.no_grad():
        estimate, _ = trained.network(torch.from_numpy(signal)[None], torch.tensor([[1.0, 1 / 7, 5 / 7]]))
    np.testing.assert_allclose(extraction.waveform, estimate[0].numpy(), atol=1e-6)


def test_a_class_of_small_weight_is_extracted_though_it_is_not_kept(extractor, noise):
    extraction = extractor.extract(noise(3000), 4000, "car_horn", "soft:0.1-0.8")
    assert extraction.refined_query == ()
    assert not extraction.is_silent
    assert extraction.waveform.any()


def test_a_gate_keeps_the_whole_query_or_nothing_at_the_recommended_threshold(extractor, noise):
    waveform = noise(3000)
    extraction = extractor.extract(waveform, 4000, ["car_horn", "dog"], "gate")
    assert extraction.refinement == Gate(0.5)
    assert extraction.refined_query == ("car_horn", "dog")
    assert extraction.window_share == {"dog": 1.0, "car_horn": 1.0, "siren": 1.0}
    raw = extractor.extract(waveform, 4000, ["car_horn", "dog"], "none")
    assert (raw.refinement, raw.threshold) == (NoRefinement(), None)
    np.testing.assert_array_equal(extraction.waveform, raw.waveform)
    gated, alone = extractor.extract_each(waveform, 4000, [["car_horn", "dog"], "car_horn"], Gate(0.3))
    assert (gated.refined_query, alone.refined_query) == (("car_horn", "dog"), ())
    assert not alone.waveform.any()


def test_a_class_is_kept_in_the_windows_where_it_is_probable_or_in_the_whole_file(identity):
    waveform = np.full(1000, 0.01, np.float32)
    waveform[440] = 0.8  # in one window of thirteen
    extractor = Extractor(identity)
    window = extractor.extract(waveform, 4000, "dog", threshold=0.5)
    whole = extractor.extract(waveform, 4000, "dog", threshold=0.5, scope="file")
    np.testing.assert_allclose(whole.waveform, waveform, atol=1e-6)
    assert not window.waveform[:300].any()
    assert not window.waveform[600:].any()
    assert window.waveform[440] == pytest.approx(0.8, abs=1e-6)
    assert window.refined_query == whole.refined_query == ("dog",)
    assert window.probability == pytest.approx(dict(whole.probability))
    assert window.window_share["dog"] == whole.window_share["dog"] == pytest.approx(1 / 13)


def test_several_queries_are_extracted_as_one_by_one(extractor, noise):
    waveform = noise(2, 5001)
    extractions = extractor.extract_each(waveform, 44_100, ["dog", ["siren", "dog"], "car_horn"])
    for query, extraction in zip(["dog", ["siren", "dog"], "car_horn"], extractions, strict=True):
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
    assert baseline.recommended_refinement == NoRefinement()
    for threshold in (None, 0.9, "soft:0.2-0.6"):
        extraction = baseline.extract(noise(3000), 4000, ["dog", "siren"], threshold, scope="file")
        assert extraction.refined_query == ("dog", "siren")
        assert extraction.probability == extraction.window_share == {}
        assert extraction.threshold is None
        assert extraction.waveform.any()
    with pytest.raises(InputError, match="no classifier"):
        baseline.probabilities(noise(3000), 4000)


@pytest.mark.parametrize(
    ("stored", "threshold", "refinement"),
    [
        (None, 0.1, Threshold(0.1)),
        (0.3, 0.3, Threshold(0.3)),
        ("soft:0.2-0.6", "soft:0.2-0.6", SoftThreshold(0.2, 0.6)),
    ],
)
def test_the_recommended_refinement_is_that_of_the_checkpoint_or_a_threshold_of_a_tenth(
    trained, noise, stored, threshold, refinement
):
    extractor = Extractor(dataclasses.replace(trained, recommended_threshold=stored))
    assert (extractor.recommended_threshold, extractor.recommended_refinement) == (threshold, refinement)
    assert extractor.extract(noise(900), 4000, "dog").refinement == refinement
    assert extractor.refinement("gate") == Gate(refinement.gate_threshold)


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
    ("waveform", "rate", "options", "message"),
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
        (np.zeros(9), 8000, {"threshold": 1.5}, r"threshold is 1\.5; a number from 0 to 1"),
        (np.zeros(9), 8000, {"threshold": float("nan")}, "threshold: nan is not a valid refinement"),
        (np.zeros(9), 8000, {"scope": "clip"}, "scope is 'clip'"),
        (np.zeros(9), 8000, {"query": "dgo"}, "did you mean 'dog'"),
        (np.zeros(9), 8000, {"query": []}, "query is empty"),
        (np.zeros(9), 8000, {"query": None}, "query is None"),
        (np.zeros(9), 8000, {"query": [1]}, "query: 1 is not text"),
        (
            np.zeros(9),
            8000,
            {"threshold": "low"},
            "threshold: 'low' is not a valid refinement; expected are .*soft:LOW-HIGH",
        ),
        (np.zeros(9), 8000, {"threshold": "soft:0.6-0.2"}, "from 0.6 to 0.2; two numbers from 0 to 1"),
        (np.zeros(9), 8000, {"threshold": "oracle"}, "'oracle' needs the true activity"),
        (np.zeros(9), 8000, {"threshold": [0.1]}, r"threshold: \[0.1\] is not a valid refinement"),
        (np.zeros(9), "8000", {}, "the sample rate is '8000' Hz"),
        (np.full(9, 1e30), 8000, {}, r"as large as 1e\+30"),
        (np.full(9, 1e60), 8000, {}, "not finite"),  # in 32 bits
    ],
)
def test_arguments_that_cannot_be_used_are_rejected(extractor, waveform, rate, options, message):
    with pytest.raises(InputError, match=message):
        extractor.extract(waveform, rate, **({"query": "dog"} | options))


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([], r"queries is empty; at least one query is expected, such as \['dog'\]"),
        ("dog", "queries is 'dog'; a list of queries is expected"),
        (None, "queries is None; a list of queries is expected"),
    ],
)
def test_several_queries_are_a_list_of_one_or_more(extractor, noise, queries, message):
    with pytest.raises(InputError, match=message):
        extractor.extract_each(noise(900), 8000, queries)


def test_numbers_of_other_types_become_plain_ones(extractor, noise):
    extraction = extractor.extract(noise(900), np.float32(8000.0), "dog", threshold=np.float32(0.25))
    assert (type(extraction.sample_rate), extraction.sample_rate) == (int, 8000)
    assert (type(extraction.threshold), extraction.threshold) == (float, 0.25)
    assert type(extractor.extract(noise(900), 8000, "dog", threshold=0).threshold) is float


@pytest.mark.parametrize("device", ["abacus", "cuda:99", "meta", "hpu", "privateuseone"])
def test_a_device_that_is_not_available_is_rejected(checkpoint, device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used"):
        Extractor.load(checkpoint, device)


def test_the_reason_for_a_rejected_device_is_the_first_sentence_of_the_error(checkpoint, monkeypatch):
    def fail(*_, **__):
        raise NotImplementedError("Could not run it. This could be because of a build. See a page.\nMore.")

    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(InputError, match=r"cannot be used \(Could not run it\); expected"):
        Extractor.load(checkpoint, "mps")


def test_the_extractor_is_a_public_name_of_the_package(trained: TrainedNetwork):
    import tse_refine

    assert tse_refine.Extractor is Extractor


def test_in_bfloat16_the_network_alone_is_rounded(extractor, trained, noise):
    waveform = noise(3000)
    exact = extractor.extract(waveform, 4000, ["dog"], 0.0).waveform
    rounded = Extractor(trained, "bf16-mixed").extract(waveform, 4000, ["dog"], 0.0).waveform
    assert rounded.dtype == exact.dtype
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 0.05


def test_unknown_precisions_are_rejected(trained):
    with pytest.raises(InputError, match="precision is 'bf16'; 32-true or bf16-mixed is expected"):
        Extractor(trained, "bf16")
