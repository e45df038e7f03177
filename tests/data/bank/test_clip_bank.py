import csv
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import soundfile

from tse_refine.data.bank import decoding
from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora.base import Clip, FileCorpus
from tse_refine.errors import InputError


class Folder(FileCorpus):
    """Every file that a list names; counts what is decoded."""

    def __init__(self, root, names) -> None:
        super().__init__(str(root))
        self.names = names
        self.decoded = 0

    def clips(self):
        return [Clip(name, "x", "train", name) for name in self.names]

    def read(self, clip, start=0, stop=None):
        self.decoded += 1
        return super().read(clip, start, stop)


def tone(frequency: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "sounds"
    root.mkdir()
    soundfile.write(root / "a b ü.wav", tone(440, 44_100), 44_100, subtype="FLOAT")
    stereo = np.stack([tone(300, 48_000), tone(500, 48_000)], axis=1)
    soundfile.write(root / "stereo.flac", stereo, 48_000, subtype="PCM_24")
    return Folder(root, ["a b ü.wav", "stereo.flac"])


@pytest.fixture
def open_bank(tmp_path):
    def run(corpus, rate=8000, skip=False):
        return open_clip_bank(corpus, rate, tmp_path / "cache", skip, "data.foregrounds")

    return run


def test_recordings_become_mono_at_the_models_rate(open_bank, folder):
    bank = open_bank(folder)
    for clip, frequencies in ((0, [440]), (1, [300, 500])):
        signal = bank.samples(clip) * bank.entry(clip).scale
        assert len(signal) == 8000
        time = np.arange(8000) / 8000
        expected = sum(0.3 / len(frequencies) * np.sin(2 * np.pi * f * time) for f in frequencies)
        # the resampler's edges ring; inside, it is within -60 dB
        np.testing.assert_allclose(signal[200:-200], expected[200:-200], atol=1e-3 * 0.3)


def test_sixteen_bits_relative_to_the_peak_are_enough(open_bank, tmp_path):
    faint = (
        1e-4 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
        + tone(1000, 8000).astype(np.float32) * 0.01
    )
    soundfile.write(tmp_path / "faint.wav", faint, 8000, subtype="FLOAT")
    bank = open_bank(Folder(tmp_path, ["faint.wav"]))
    error = bank.samples(0) * bank.entry(0).scale - faint
    assert np.abs(error).max() < 10 ** (-90 / 20) * np.abs(faint).max()


def test_a_second_opening_decodes_nothing_and_reads_the_same(open_bank, folder):
    first = open_bank(folder)
    second = open_bank(folder)
    assert folder.decoded == 2
    assert first.digest == second.digest
    np.testing.assert_array_equal(first.samples(1), second.samples(1))


def test_the_bank_depends_on_the_content_and_not_on_time_or_folder(open_bank, folder, tmp_path):
    bank = open_bank(folder)
    os.utime(folder.root / "a b ü.wav", (1, 1))
    assert open_bank(folder).folder == bank.folder
    shutil.copytree(folder.root, tmp_path / "moved")
    assert open_bank(Folder(tmp_path / "moved", folder.names)).folder == bank.folder
    soundfile.write(folder.root / "a b ü.wav", tone(441, 44_100), 44_100, subtype="FLOAT")
    changed = open_bank(folder)
    assert changed.folder != bank.folder
    assert changed.digest != bank.digest
    assert open_bank(folder, rate=16_000).folder not in (bank.folder, changed.folder)


BAD = ("text.wav", "empty.wav", "none.wav", "silent.wav", "nan.wav", "cut.flac", "slow.wav", "odd.wav")


@pytest.fixture
def bad_folder(folder):
    root = folder.root
    (root / "text.wav").write_text("not audio")
    (root / "empty.wav").write_bytes(b"")
    (root / "cut.flac").write_bytes((root / "stereo.flac").read_bytes()[:60])
    soundfile.write(root / "slow.wav", tone(440, 8000), 8000)
    header = bytearray((root / "slow.wav").read_bytes())
    (root / "slow.wav").write_bytes(header[:24] + (3).to_bytes(4, "little") + header[28:])  # the rate's place
    soundfile.write(root / "odd.wav", tone(440, 44_101), 44_101)
    soundfile.write(root / "none.wav", np.zeros(0), 8000)
    soundfile.write(root / "silent.wav", np.zeros(8000), 8000)
    broken = tone(440, 8000)
    broken[100] = np.nan
    soundfile.write(root / "nan.wav", broken, 8000, subtype="FLOAT")
    folder.names = [*folder.names, *BAD]
    return folder


def test_every_unusable_file_is_named_in_one_error(open_bank, bad_folder):
    for _ in range(2):  # the second time the bank is there, and must not be taken as it is
        with pytest.raises(InputError, match=r"data\.foregrounds: 8 of 10 recordings") as error:
            open_bank(bad_folder)
        text = str(error.value)
        for name in BAD:
            assert name in text
        assert "a b ü.wav" not in text
        assert "--data.skip_unusable true" in text
        assert "sample rate of 3 Hz" in text


def test_missing_files_are_rejected_before_anything_is_decoded(open_bank, folder):
    folder.names = [*folder.names, "missing.wav"]
    with pytest.raises(InputError, match=r"1 of 3 recordings are missing or cannot be opened: missing\.wav"):
        open_bank(folder)
    assert folder.decoded == 0
    folder.archives = lambda: ["something published"]
    with pytest.raises(InputError, match="`tse-refine prepare` with the same options downloads"):
        open_bank(folder)


def test_a_long_list_is_cut(open_bank, folder):
    folder.names = [f"{number}.wav" for number in range(100)]
    with pytest.raises(InputError, match=r"100 of 100 recordings .* and 80 more"):
        open_bank(folder)


def test_a_truncated_wav_is_rejected_though_libsndfile_would_read_it(open_bank, folder):
    path = folder.root / "a b ü.wav"
    path.write_bytes(path.read_bytes()[: 44 + 4 * 22_050])
    assert len(soundfile.read(path)[0]) > 20_000
    with pytest.raises(InputError, match=r"a b ü\.wav: is cut off: its header announces 176,400 bytes"):
        open_bank(folder)
    assert open_bank(folder, skip=True).rejected.keys() == {"a b ü.wav"}


def test_raw_samples_without_a_sample_rate_are_rejected(open_bank, folder):
    (folder.root / "noise.raw").write_bytes(bytes(1000))
    folder.names.append("noise.raw")
    with pytest.raises(InputError, match=r"noise\.raw: cannot be read"):
        open_bank(folder)


def test_unusable_files_are_left_out_and_listed_on_request(open_bank, bad_folder):
    bank = open_bank(bad_folder, skip=True)
    assert len(bank) == 2
    assert "silent.wav" not in bank
    listed = (bank.folder / "rejected.csv").read_text().splitlines()
    assert listed[0] == "recording,reason"
    assert len(listed) == 9
    with pytest.raises(InputError, match="8 of 10 recordings"):  # to have left them out once allows nothing
        open_bank(bad_folder)


def test_any_file_name_can_be_read_back_from_the_list_of_rejected_ones(open_bank, folder):
    names = ['dog "Rex", 2.wav', "umlaut ü.wav", "semi;colon.wav"]
    for name in names:
        (folder.root / name).write_text("not audio")
    folder.names = [*folder.names, *names]
    bank = open_bank(folder, skip=True)
    with open(bank.folder / "rejected.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == names
    assert all("cannot be read" in row["reason"] for row in rows)


def test_an_empty_bank_is_rejected_even_if_unusable_files_are_skipped(open_bank, folder):
    folder.names = ["text.wav", "missing.wav"]
    (folder.root / "text.wav").write_text("not audio")
    with pytest.raises(InputError, match="2 of 2 recordings"):
        open_bank(folder, skip=True)
    folder.names = ["missing.wav"]
    with pytest.raises(InputError, match="1 of 1 recordings are missing"):
        open_bank(folder, skip=True)


def test_sound_too_faint_for_the_loudness_gate_is_silence(open_bank, tmp_path):
    for name, level_db in (("gone.wav", -63.0), ("faint.wav", -55.0)):  # a 997 Hz sine of 0 dB has -3 LUFS
        faint = 10 ** (level_db / 20) * tone(997, 8000) / 0.3
        soundfile.write(tmp_path / name, faint, 8000, subtype="FLOAT")
    bank = open_bank(Folder(tmp_path, ["gone.wav", "faint.wav"]), skip=True)
    assert list(bank.rejected) == ["gone.wav"]
    assert "is silent" in bank.rejected["gone.wav"]


def test_a_bank_has_the_permissions_of_the_folders_beside_it(open_bank, folder, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "beside").mkdir()
    bank = open_bank(folder)
    assert oct(bank.folder.stat().st_mode) == oct((tmp_path / "cache" / "beside").stat().st_mode)


def test_lengths_of_clips_and_hops_match(open_bank, folder):
    bank = open_bank(folder, rate=11_030)
    for clip in range(2):
        assert len(bank.samples(clip)) == bank.entry(clip).length == 11_030
        assert len(bank.weighted_hops(clip)) == len(bank.plain_hops(clip)) == 10
        signal = bank.samples(clip) * bank.entry(clip).scale
        assert np.abs(bank.samples(clip)).max() == 32767
        np.testing.assert_allclose(bank.plain_hops(clip)[1:-1], np.mean(signal**2), rtol=0.02)
    assert [bank.entry(bank.position(name)).name for name in folder.names] == folder.names


def test_frequencies_above_the_new_nyquist_frequency_are_not_aliased(open_bank, tmp_path):
    soundfile.write(tmp_path / "high.wav", tone(1000, 16_000) + tone(6000, 16_000), 16_000, subtype="FLOAT")
    bank = open_bank(Folder(tmp_path, ["high.wav"]), rate=8000)
    spectrum = np.abs(np.fft.rfft(bank.samples(0)[1000:-1000] * np.hanning(6000)))
    folded, kept = spectrum[2000 * 6000 // 8000], spectrum[1000 * 6000 // 8000]
    assert folded < 10 ** (-40 / 20) * kept


def test_workers_receive_the_path_and_not_the_samples(open_bank, folder):
    bank = open_bank(folder)
    sent = pickle.dumps(bank)
    assert len(sent) < 500
    np.testing.assert_array_equal(pickle.loads(sent).samples(0), bank.samples(0))


def test_decoding_in_pieces_equals_decoding_in_one(open_bank, tmp_path, monkeypatch):
    rate = 11_025  # neither a whole number of samples in 100 ms nor a divisor of the bank's rate
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(12.34 * rate))
    for seconds in (12.34, 12.0, 10.0):  # the last piece ends anywhere, with a piece, before its margin
        name = f"{seconds}.wav"
        soundfile.write(tmp_path / name, noise[: round(seconds * rate)], rate, subtype="FLOAT")
        whole = open_bank(Folder(tmp_path, [name]))
        with monkeypatch.context() as context:
            context.setattr(decoding, "LONG_SAMPLES", 3 * rate)
            context.setattr(decoding, "PIECE_SECONDS", 2)
            pieces = decoding.decode(Folder(tmp_path, [name]), Clip(name, "x", "train", name), 8000)
        assert np.abs(pieces.samples.astype(int) - whole.samples(0)).max() <= 1
        # half a sample of a hop of 1102.5 falls to one side or the other
        np.testing.assert_allclose(pieces.hops[0], whole.weighted_hops(0), rtol=5e-3)
        np.testing.assert_allclose(pieces.hops[1], whole.plain_hops(0), rtol=5e-3)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("samples.i16", lambda old: old[:-2], r"samples\.i16 has 31998 bytes instead of 32000"),
        ("hops.f32", lambda old: old + b"1234", r"hops\.f32 has 164 bytes instead of 160"),
        ("bank.json", lambda old: old[:-20], r"bank\.json cannot be read"),
        ("bank.json", lambda old: old.replace(b'"length"', b'"width"'), r"bank\.json has another content"),
        ("bank.json", lambda old: old.replace(b'"sample_rate": 8000', b'"sample_rate": 9000'), "9000 Hz instead of 80"),
        ("bank.json", lambda old: old.replace(b'["stereo.flac"', b'["mono.flac"'), r"lacks 1 recordings \(stereo"),
        ("bank.json", lambda old: old.replace(b'"format": 4', b'"format": 3'), "format 3 instead of 4"),
    ],
)
def test_a_bank_that_differs_from_its_name_is_rejected_with_the_difference(open_bank, folder, file, change, message):
    path = open_bank(folder).folder / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        open_bank(folder)


def changed_at(place, content):
    return lambda old: old[:place] + content + old[place + len(content) :]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("samples.i16", changed_at(1000, b"other"), r"samples\.i16 has another content"),
        ("samples.i16", lambda old: bytes(len(old)), r"samples\.i16 has another content"),
        ("hops.f32", changed_at(4, np.float32(0.5).tobytes()), r"hops\.f32 has another content"),
        ("hops.f32", changed_at(4, np.float32("nan").tobytes()), r"hops\.f32 has energies that no recording has"),
        ("hops.f32", changed_at(4, np.float32("inf").tobytes()), r"hops\.f32 has energies that no recording has"),
        ("hops.f32", changed_at(4, np.float32(-1).tobytes()), r"hops\.f32 has energies that no recording has"),
        ("bank.json", lambda old: old.replace(b'"scale": ', b'"scale": 1'), r"bank\.json has another content"),
    ],
)
def test_a_bank_whose_files_were_changed_is_rejected_by_name(open_bank, folder, file, change, message):
    path = open_bank(folder).folder / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=f"{message}.*Remove that folder; it will be built again"):
        open_bank(folder)


def test_verification_finds_a_change_that_leaves_size_and_time(open_bank, folder):
    bank = open_bank(folder)
    bank.verify()
    path = bank.folder / "samples.i16"
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(changed_at(1000, b"other")(content))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(InputError, match=r"samples\.i16 has another content"):
        open_bank(folder).verify()


def test_a_bank_of_an_earlier_version_is_opened_and_verified_by_its_recordings(open_bank, folder):
    path = open_bank(folder).folder / "bank.json"
    table = json.loads(path.read_text())
    del table["contents"], table["table"]
    path.write_text(json.dumps(table))
    open_bank(folder).verify()
    hops = path.with_name("hops.f32")
    hops.write_bytes(changed_at(4, np.float32(0.5).tobytes())(hops.read_bytes()))
    with pytest.raises(InputError, match=r"samples\.i16 or hops\.f32 has another content"):
        open_bank(folder).verify()


def test_a_bank_is_mapped_and_cannot_be_written_to(open_bank, folder):
    samples = open_bank(folder).samples(0)
    assert not samples.flags.writeable
    assert not samples.flags.owndata
