import dataclasses

import numpy as np
import pytest
import soundfile

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.file_extraction import extract_file
from tse_refine.extraction.outputs import plan_outputs


def extract(extractor, path, query=("dog",), output="out.wav", **options):
    naming = {name: options.pop(name) for name in ("each", "residual", "file_format") if name in options}
    (plan,) = plan_outputs([path], path.parent / output, query, **naming)
    return extract_file(extractor, plan, query, **options)


@pytest.mark.parametrize(
    ("rate", "channels", "samples"),
    [(4000, 1, 1), (4000, 2, 9001), (8000, 64, 700), (44_100, 2, 100_003), (384_000, 1, 5), (11_127, 3, 30_001)],
)
def test_a_file_is_extracted_as_the_waveform_in_it(extractor, record, tmp_path, rate, channels, samples):
    path = record(rate=rate, channels=channels, samples=samples)
    waveform, _ = soundfile.read(path, dtype="float32", always_2d=True)
    extract(extractor, path, ("dog", "siren"), residual=True)
    estimate, estimate_rate = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    rest, _ = soundfile.read(tmp_path / "out.residual.wav", dtype="float32", always_2d=True)
    assert estimate_rate == rate
    assert estimate.shape == waveform.shape
    expected = extractor.extract(waveform.T, rate, ["dog", "siren"]).waveform
    np.testing.assert_allclose(estimate.T, expected, atol=1e-6)
    np.testing.assert_allclose(estimate + rest, waveform, atol=1e-6)
    assert estimate.any()


def test_each_class_that_is_kept_has_a_file_and_all_files_add_up(extractor, record, tmp_path):
    path = record(rate=8000, channels=2, samples=9001)
    extraction = extract(extractor, path, ("dog", "car_horn", "siren"), each=True, residual=True)
    files = {"dog": "out.dog.wav", "siren": "out.siren.wav"}
    assert {file.name for file in tmp_path.iterdir()} == {"in.wav", "out.residual.wav", *files.values()}
    assert {name: file.name for name, file in extraction.outputs.each.items()} == files
    assert extraction.query == ("dog", "car_horn", "siren")
    assert extraction.weight == {"dog": 1.0, "car_horn": 0.0, "siren": 1.0}
    assert extraction.window_share == extraction.weight
    parts = sum(soundfile.read(file)[0] for file in extraction.outputs.paths())
    np.testing.assert_allclose(parts, soundfile.read(path)[0], atol=1e-6)


def test_a_class_of_small_weight_has_a_file_so_that_all_files_add_up(extractor, record):
    path = record(rate=8000, samples=9001)
    query = ("dog", "car_horn", "siren")
    extraction = extract(extractor, path, query, each=True, residual=True, threshold="soft:0.1-0.8")
    assert extraction.refined_query == ("dog", "siren")
    assert set(extraction.outputs.each) == set(query)
    parts = sum(soundfile.read(file)[0] for file in extraction.outputs.paths())
    np.testing.assert_allclose(parts, soundfile.read(path)[0], atol=1e-6)
    assert soundfile.read(extraction.outputs.each["car_horn"])[0].any()


def test_the_existing_file_of_a_removed_class_is_removed_when_files_are_replaced(extractor, record, tmp_path):
    path = record(samples=3000)
    query = ("dog", "car_horn")
    assert set(extract(extractor, path, query, each=True, threshold=0.0).outputs.each) == set(query)
    (plan,) = plan_outputs([path], tmp_path / "out.wav", query, each=True, residual=True, overwrite=True)
    extraction = extract_file(extractor, plan, query, overwrite=True)
    assert sorted(file.name for file in tmp_path.glob("out.*")) == ["out.dog.wav", "out.residual.wav"]
    parts = sum(soundfile.read(file)[0] for file in extraction.outputs.paths())
    np.testing.assert_allclose(parts, soundfile.read(path)[0], atol=1e-6)


def test_existing_files_are_kept_when_a_recording_fails(extractor, record, tmp_path):
    path = record(samples=3000)
    extract(extractor, path, ("dog", "car_horn"), each=True, threshold=0.0)
    soundfile.write(path, np.full(3000, np.nan, np.float32), 4000, "FLOAT")
    (plan,) = plan_outputs([path], tmp_path / "out.wav", ("dog", "car_horn"), each=True, overwrite=True)
    with pytest.raises(InputError, match="not finite"):
        extract_file(extractor, plan, ("dog", "car_horn"), overwrite=True)
    assert sorted(file.name for file in tmp_path.glob("out.*")) == ["out.car_horn.wav", "out.dog.wav"]


def test_a_class_that_is_kept_late_has_a_file_of_full_length(identity, tmp_path):
    sound = np.full(30_000, 0.01, np.float32)
    sound[20_000:] = 0.8
    soundfile.write(tmp_path / "in.wav", sound, 4000, "FLOAT")
    extraction = extract(Extractor(identity), tmp_path / "in.wav", each=True, threshold=0.5)
    estimate, _ = soundfile.read(extraction.outputs.each["dog"], dtype="float32")
    assert len(estimate) == len(sound)
    assert not estimate[:19_900].any()
    np.testing.assert_allclose(estimate[20_100:], 0.8, atol=1e-6)


def test_a_class_that_is_kept_and_silent_has_a_file(extractor, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.zeros(3000), 4000)
    extraction = extract(extractor, tmp_path / "in.wav", each=True, threshold=0.0)
    assert soundfile.info(extraction.outputs.each["dog"]).frames == 3000


@pytest.mark.parametrize("scope", ["window", "file"])
def test_the_file_of_an_empty_refined_query_is_exact_silence(extractor, record, tmp_path, scope):
    path = record(samples=5000)
    extraction = extract(extractor, path, ("car_horn",), residual=True, scope=scope)
    assert extraction.refined_query == ()
    assert extraction.is_silent
    estimate, _ = soundfile.read(tmp_path / "out.wav")
    assert len(estimate) == 5000
    assert not estimate.any()
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.residual.wav")[0], soundfile.read(path)[0])
    assert extract(extractor, path, ("car_horn",), "none.wav", each=True, scope=scope).outputs.paths() == []


def test_a_class_called_residual_and_the_residual_are_two_files(trained, record, tmp_path):
    renamed = Extractor(dataclasses.replace(trained, class_names=("residual", "car_horn", "siren")))
    path = record(samples=3000)
    extraction = extract(renamed, path, ("residual",), each=True, residual=True)
    assert [file.name for file in extraction.outputs.paths()] == ["out.residual_.wav", "out.residual.wav"]
    parts = sum(soundfile.read(file)[0] for file in extraction.outputs.paths())
    np.testing.assert_allclose(parts, soundfile.read(path)[0], atol=1e-6)


def test_files_that_would_be_clipped_are_scaled(identity, tmp_path):
    soundfile.write(tmp_path / "in.wav", np.full(3000, 2.0, np.float32), 4000, "FLOAT")
    extraction = extract(Extractor(identity), tmp_path / "in.wav", output="out.flac")
    assert extraction.gain_db == pytest.approx(-6.02, abs=0.01)
    np.testing.assert_allclose(soundfile.read(tmp_path / "out.flac")[0], 1.0, atol=1e-6)


@pytest.mark.parametrize("each", [False, True])
def test_files_of_a_recording_are_scaled_alike_and_still_add_up(extractor, noise, tmp_path, each):
    sound = noise(3000, level=20.0)
    soundfile.write(tmp_path / "in.wav", sound, 4000, "FLOAT")
    extraction = extract(extractor, tmp_path / "in.wav", ("dog", "siren"), "out.flac", each=each, residual=True)
    assert len(extraction.outputs.paths()) == (3 if each else 2)
    parts = [soundfile.read(path)[0] for path in extraction.outputs.paths()]
    assert max(np.abs(part).max() for part in parts) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(sum(parts), 10 ** (extraction.gain_db / 20) * sound, atol=1e-5)


def test_progress_is_the_number_of_seconds_read(extractor, record):
    seconds: list[float] = []
    path = record(rate=8000, samples=20_000)
    extract(extractor, path, on_progress=seconds.append)
    assert sum(seconds) == pytest.approx(2.5)
    extract(extractor, path, output="again.wav", scope="file", on_progress=seconds.append)
    assert sum(seconds) == pytest.approx(7.5)  # two passes


def test_a_failure_in_the_middle_leaves_nothing(extractor, tmp_path):
    sound = np.zeros(100_000, np.float32)
    sound[-1] = np.nan
    soundfile.write(tmp_path / "in.wav", sound, 4000, "FLOAT")
    with pytest.raises(InputError, match="not finite"):
        extract(extractor, tmp_path / "in.wav", residual=True, threshold=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_format_that_does_not_support_the_recording_is_rejected(extractor, record):
    path = record(channels=9)
    with pytest.raises(InputError, match=r"in\.wav has 9 channels, but flac supports up to 8"):
        extract(extractor, path, output="out.flac")
