from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch
import yaml

from tse_refine.errors import InputError
from tse_refine.extraction.listen import sounds
from tse_refine.extraction.listen.sounds import SOUNDS_PATH, Limits, SoundFiles, find_mixtures, read_upload
from tse_refine.model.checkpoint import CHECKPOINT_KEY


@pytest.mark.parametrize(("rate", "channels", "subtype"), [(44_100, 2, "PCM_16"), (8000, 1, "FLOAT")])
def test_an_upload_is_read_at_its_own_level_rate_and_number_of_channels(noise, tmp_path, rate, channels, subtype):
    wave = noise(channels, 3000, level=1e-3 if subtype == "PCM_16" else 2.0)
    soundfile.write(tmp_path / "in.wav", wave.T, rate, subtype)
    sound = read_upload(tmp_path / "in.wav", Limits())
    assert (sound.name, sound.sample_rate, sound.sources) == ("in.wav", rate, {})
    np.testing.assert_allclose(sound.waveform, wave, atol=1 / 32768 if subtype == "PCM_16" else 0.0)


def write_text(path):
    path.write_text("not a sound")


def write_not_finite(path):
    soundfile.write(path, np.array([0.1, np.nan, 0.1], np.float32), 8000, "FLOAT")


def write_without_samples(path):
    soundfile.write(path, np.zeros(0, np.float32), 8000)


def write_low_rate(path):
    soundfile.write(path, np.zeros(100, np.float32), 1000)


def write_long(path):
    soundfile.write(path, np.zeros(8000 * 4, np.float32), 8000)


def write_large(path):
    soundfile.write(path, np.zeros(1_000_000, np.float32), 384_000, "PCM_16")


def write_nothing(path):
    pass


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (write_text, "cannot be read as sound"),
        (write_not_finite, "not finite"),
        (write_without_samples, "has no samples"),
        (write_low_rate, "the sample rate is 1000 Hz"),
        (write_long, "is 0 min 4 s long; this page accepts up to 1 MB and 0.05 minutes"),
        (write_large, "has 1.9 MB; this page accepts up to 1 MB"),
        (write_nothing, "cannot be read"),
    ],
)
def test_invalid_uploads_are_rejected_by_name_without_their_folder(tmp_path, write, reason):
    path = tmp_path / "street.wav"
    write(path)
    with pytest.raises(InputError, match=reason) as rejection:
        read_upload(path, Limits(megabytes=1, minutes=0.05))
    assert str(rejection.value).startswith("street.wav")
    assert str(tmp_path) not in str(rejection.value)


def test_a_small_file_that_would_fill_the_memory_is_rejected_before_it_is_read(record, monkeypatch):
    monkeypatch.setattr(sounds, "MOST_SAMPLES", 20_000)
    monkeypatch.setattr(sounds.Recording, "blocks", lambda self: pytest.fail("the file was read"))
    with pytest.raises(InputError, match="fewer channels"):
        read_upload(record("wide.wav", channels=4), Limits())


@pytest.mark.parametrize("limits", [(0.0, 10.0), (50.0, -1.0), (float("nan"), 10.0), (float("inf"), 10.0)])
def test_limits_that_are_not_positive_numbers_are_rejected(limits):
    with pytest.raises(InputError, match=r"--max-(megabytes|minutes) is .*; a number above 0 is expected"):
        Limits(*limits)


def test_the_target_of_a_query_is_the_sum_of_its_sources(mixture):
    np.testing.assert_array_equal(mixture.target(("alarm", "bell", "dog")), sum(mixture.sources.values()))
    assert not mixture.target(("bell",)).any()


def test_a_recording_has_no_target(recording):
    assert recording.target(("alarm",)) is None


def change(checkpoint, **values):
    content = torch.load(checkpoint, weights_only=True)
    content[CHECKPOINT_KEY] |= values
    torch.save(content, checkpoint)


def test_mixtures_are_those_of_the_run_s_test_split(checkpoint, tiny_data, tmp_path):
    mixtures = find_mixtures(checkpoint, tmp_path / "bank")
    mixtures.draw()
    sound = mixtures.render(3)
    batch = tiny_data.datasets["test"][(0, 3)]
    assert (sound.name, sound.sample_rate) == ("test mixture 3", 4000)
    np.testing.assert_array_equal(sound.waveform[0], batch["mixture"].numpy())
    active = {tiny_data.class_names[label] for label in batch["activity"].nonzero()[:, 0]}
    assert set(sound.sources) == active
    background = sound.waveform - sum(sound.sources.values())
    assert 0.0 < (background**2).mean() < 0.2 * (sound.waveform**2).mean()
    assert not (tmp_path / "bank").exists()


def test_mixtures_are_drawn_at_random(checkpoint, tmp_path):
    mixtures = find_mixtures(checkpoint, tmp_path)
    drawn = {mixtures.draw().name for _ in range(40)}
    assert 2 <= len(drawn) <= 6  # of six; 40 draws of a single one have a probability of 6 ** -39


def test_a_checkpoint_without_its_run_gets_synthetic_mixtures_of_the_same_classes(checkpoint, tmp_path):
    alone = tmp_path / "elsewhere" / "best.ckpt"
    alone.parent.mkdir()
    checkpoint.rename(alone)
    sound = find_mixtures(alone, tmp_path / "bank").draw()
    assert sound.name.startswith("synthetic mixture")
    assert (sound.seconds, sound.sample_rate) == (1.0, 4000)
    assert len(sound.sources) >= 3
    assert (tmp_path / "bank").exists()


def test_without_any_data_for_mixtures_the_reason_is_reported(checkpoint, run_folder, tmp_path):
    change(checkpoint, class_names=[f"class {number}" for number in range(12)])
    with pytest.raises(InputError, match=r"No test mixtures: the data in its config\.yaml have other classes"):
        find_mixtures(checkpoint, tmp_path)
    (run_folder / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"No test mixtures: .*config\.yaml does not exist"):
        find_mixtures(checkpoint, tmp_path)


def test_weights_alone_have_no_test_mixtures(fixed_probabilities, tmp_path):
    fixed_probabilities({"dog": 0.5, "siren": 0.5}, 4000, 1.0).save(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="No test mixtures: a file of weights alone does not tell which recordings"):
        find_mixtures(tmp_path / "model.safetensors", tmp_path / "bank")


def test_a_missing_corpus_is_reported_as_a_reason(checkpoint, run_folder, tmp_path):
    change(checkpoint, class_names=[f"class {number}" for number in range(12)])
    config = yaml.safe_load((run_folder / "config.yaml").read_text())
    gone = {"class_path": "tse_refine.data.corpora.LabelFolders", "init_args": {"root": str(tmp_path / "gone")}}
    config["data"]["foregrounds"] = gone
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=r"No test mixtures: .*gone"):
        find_mixtures(checkpoint, tmp_path)


FILE_RATE = 22_050


def file_at(folder: Path, address: str) -> Path:
    """Return the file that is served at an address."""
    assert address.startswith(SOUNDS_PATH)
    return folder / unquote(address.removeprefix(SOUNDS_PATH))


@pytest.mark.parametrize("level", [0.3, 3e-4])
def test_files_keep_the_level_also_near_silence(tmp_path, noise, level):
    wave = noise(2, level=level).clip(-1, 1)
    (address,), gain_db = SoundFiles(tmp_path).write({"in": wave}, FILE_RATE)
    path = file_at(tmp_path, address)
    written, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert (rate, gain_db) == (FILE_RATE, 0.0)
    # one step of 16 bits: libsndfile scales by 32767, and rounds
    np.testing.assert_allclose(written.T, wave, atol=1.01 / 32768)
    assert soundfile.info(path).subtype == "PCM_16"


def test_a_signal_that_would_clip_reduces_the_gain_of_all(tmp_path, noise):
    soft, loud = noise(level=0.01), noise(level=1.0)
    peak = np.abs(loud).max()
    addresses, gain_db = SoundFiles(tmp_path).write({"soft": soft, "loud": loud}, FILE_RATE)
    assert gain_db == pytest.approx(-20 * np.log10(peak), abs=1e-4)
    for address, wave in zip(addresses, (soft, loud), strict=True):
        written, _ = soundfile.read(file_at(tmp_path, address), always_2d=True)
        np.testing.assert_allclose(written.T, wave / peak, atol=1.01 / 32768)


def test_exact_silence_stays_exact(tmp_path):
    (address,), gain_db = SoundFiles(tmp_path).write({"in": np.zeros((1, 500), np.float32)}, FILE_RATE)
    assert not soundfile.read(file_at(tmp_path, address))[0].any()
    assert gain_db == 0.0


def test_an_unchanged_signal_keeps_its_address_and_other_files_are_removed(tmp_path, noise):
    files = SoundFiles(tmp_path)
    mixture, before, after = noise(), noise(), noise()
    first, _ = files.write({"mixture": mixture, "refined": before}, FILE_RATE)
    second, _ = files.write({"mixture": mixture, "refined": after}, FILE_RATE)
    assert first[0] == second[0]
    assert first[1] != second[1]  # a browser would play the old one from the same address
    assert set(tmp_path.rglob("*.wav")) == {file_at(tmp_path, address) for address in second}
    files.clear()
    assert not list(tmp_path.iterdir())


def test_two_equal_signals_are_two_files(tmp_path, noise):
    wave = noise()
    addresses, _ = SoundFiles(tmp_path).write({"raw": wave, "refined": wave}, FILE_RATE)
    assert len(set(addresses)) == len(list(tmp_path.rglob("*.wav"))) == 2


def test_addresses_cannot_be_guessed_or_lead_elsewhere(tmp_path, noise):
    wave = noise()
    names = ["../../etc/passwd", 'a "quoted" <name>?#', "Türklingel"]
    addresses = [SoundFiles(tmp_path).write({name: wave}, FILE_RATE)[0][0] for name in names]
    assert len({address.removeprefix(SOUNDS_PATH).split("/")[0] for address in addresses}) == len(names)
    for address in addresses:
        assert file_at(tmp_path, address).resolve().is_relative_to(tmp_path.resolve())
        assert not set('"<>?# ') & set(address)
        assert file_at(tmp_path, address).is_file()
