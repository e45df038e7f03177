"""A published corpus is found in the folder that is given, in one below and in the one above."""

import os

import pytest

from tse_refine.data.corpora import (
    ESC50,
    FSD50K,
    GISE51,
    TAU2019,
    DCASE2026Task4,
    FSDKaggle2018,
    UrbanSound8K,
)

DEVELOPMENT = "TAU-urban-acoustic-scenes-2019-development"


@pytest.mark.parametrize(
    ("fixture", "make", "given"),
    [
        ("tau2019_root", TAU2019, DEVELOPMENT),
        ("tau2019_root", TAU2019, "TAU-urban-acoustic-scenes-2019-evaluation"),
        ("fsdkaggle2018_root", FSDKaggle2018, "FSDKaggle2018.audio_train"),
        ("fsd50k_root", lambda root: FSD50K(root, ["Bark"]), "FSD50K.ground_truth"),
        ("esc50_root", lambda root: ESC50(root, ["dog"]), ".."),
        ("urbansound8k_root", UrbanSound8K, ".."),
        ("gise51_root", GISE51, "isolated_events"),
        ("dcase2026_task4_root", lambda root: DCASE2026Task4(root, "noise"), ".."),
        ("dcase2026_task4_root", lambda root: DCASE2026Task4(root, "noise"), "../.."),
        ("dcase2026_task4_root", lambda root: DCASE2026Task4(root, "noise"), "../../.."),
    ],
)
def test_the_published_folder_and_the_one_that_holds_it_are_the_same(fixture, make, given, request):
    root = request.getfixturevalue(fixture)
    corpus, other = make(str(root)), make(os.path.normpath(root / given))
    assert other.root == corpus.root == root
    assert other.clips() == corpus.clips()
    assert other.missing() == []


def test_the_current_folder_has_a_name_too(tau2019_root, monkeypatch):
    monkeypatch.chdir(tau2019_root / DEVELOPMENT)
    assert TAU2019(".").root == tau2019_root


def test_a_folder_without_a_corpus_is_taken_as_it_is(tmp_path):
    for name in ("new", "meta", DEVELOPMENT):
        assert TAU2019(str(tmp_path / name)).root == tmp_path / name
        assert ESC50(str(tmp_path / name), ["dog"]).root == tmp_path / name
