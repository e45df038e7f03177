from urllib.parse import unquote

import numpy as np
import pytest
import soundfile

from tse_refine.extraction.listen.shelf import Shelf

RATE = 22_050


def read(folder, address):
    return soundfile.read(folder / unquote(address), dtype="float32", always_2d=True)


@pytest.mark.parametrize("level", [0.3, 3e-4])
def test_sounds_are_as_loud_as_they_are_also_near_silence(tmp_path, noise, level):
    wave = noise(2, level=level).clip(-1, 1)
    (address,), gain_db = Shelf(tmp_path).show({"in": wave}, RATE)
    read_back, rate = read(tmp_path, address)
    assert (rate, gain_db) == (RATE, 0.0)
    # one step of 16 bits: libsndfile takes full scale for 32767, and rounds
    np.testing.assert_allclose(read_back.T, wave, atol=1.01 / 32768)
    assert soundfile.info(tmp_path / unquote(address)).subtype == "PCM_16"


def test_one_sound_that_would_clip_makes_all_softer_by_as_much(tmp_path, noise):
    soft, loud = noise(level=0.01), noise(level=1.0)
    peak = np.abs(loud).max()
    addresses, gain_db = Shelf(tmp_path).show({"soft": soft, "loud": loud}, RATE)
    assert gain_db == pytest.approx(-20 * np.log10(peak), abs=1e-4)
    for address, wave in zip(addresses, (soft, loud), strict=True):
        np.testing.assert_allclose(read(tmp_path, address)[0].T, wave / peak, atol=1.01 / 32768)


def test_exact_silence_stays_exact(tmp_path):
    (address,), gain_db = Shelf(tmp_path).show({"in": np.zeros((1, 500), np.float32)}, RATE)
    assert not read(tmp_path, address)[0].any()
    assert gain_db == 0.0


def test_a_sound_that_stays_keeps_its_address_and_others_are_removed(tmp_path, noise):
    shelf = Shelf(tmp_path)
    mixture, before, after = noise(), noise(), noise()
    first, _ = shelf.show({"mixture": mixture, "refined": before}, RATE)
    second, _ = shelf.show({"mixture": mixture, "refined": after}, RATE)
    assert first[0] == second[0]
    assert first[1] != second[1]  # a browser would play the old one under the same address
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.wav")}
    assert left == set(map(unquote, second))
    shelf.clear()
    assert not list(tmp_path.iterdir())


def test_two_sounds_that_are_alike_are_two_files(tmp_path, noise):
    wave = noise()
    addresses, _ = Shelf(tmp_path).show({"raw": wave, "refined": wave}, RATE)
    assert len(set(addresses)) == len(list(tmp_path.rglob("*.wav"))) == 2


def test_addresses_cannot_be_guessed_or_lead_elsewhere(tmp_path, noise):
    wave = noise()
    names = ["../../etc/passwd", 'a "quoted" <name>?#', "Türklingel"]
    addresses = [Shelf(tmp_path).show({name: wave}, RATE)[0][0] for name in names]
    assert len({address.split("/")[0] for address in addresses}) == len(names)
    for address in addresses:
        assert (tmp_path / unquote(address)).resolve().is_relative_to(tmp_path.resolve())
        assert not set('"<>?# ') & set(address)
        assert (tmp_path / unquote(address)).is_file()
