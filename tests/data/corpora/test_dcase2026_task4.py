import collections

import numpy as np
import pytest

from tse_refine.data.bank.builder import open_clip_bank
from tse_refine.data.corpora import DCASE2026Task4
from tse_refine.data.corpora.base import check_splits
from tse_refine.errors import InputError


def test_events_of_the_published_validation_set_are_the_test_split(dcase2026_task4_root):
    corpus = DCASE2026Task4(str(dcase2026_task4_root), "sound_event")
    clips = corpus.clips()
    assert len(corpus.classes()) == 6
    names = [clip.name for clip in clips if clip.label == "Dishes"]
    assert names == [
        *(f"sound_event/train/Dishes/{name}" for name in ("50117.wav", "a/1.wav", "a/take 2/2_ch2.wav", "b/1.wav")),
        "sound_event/valid/Dishes/a/1.wav",
    ]
    assert {clip.split for clip in clips if "/valid/" in clip.name} == {"test"}
    assert {(clip.label, clip.split) for clip in clips} == {
        (label, split) for label in corpus.classes() for split in ("train", "val", "test")
    }
    assert corpus.missing() == []


def test_recordings_of_one_folder_stay_together(dcase2026_task4_root):
    root = str(dcase2026_task4_root)
    for seed in range(5):
        clips = DCASE2026Task4(root, "sound_event", split_seed=seed, val_fraction=0.3).clips()
        check_splits({"data.foregrounds": clips})
        for label in ("Dishes", "Speech"):
            parts = [clip for clip in clips if clip.name.startswith(f"sound_event/train/{label}/a/")]
            assert len({(clip.recording, clip.split) for clip in parts}) == 1
            assert parts[0].recording == f"DCASE2026Task4:sound_event/train/{label}/a"
    assert DCASE2026Task4(root, "sound_event", split_seed=0).clips() != clips


def test_noises_are_backgrounds_in_one_channel(dcase2026_task4_root, tmp_path):
    corpus = DCASE2026Task4(str(dcase2026_task4_root), "noise")
    clips = corpus.clips()
    assert {clip.label for clip in clips} == {"noise"}
    assert collections.Counter(clip.split for clip in clips) == {"train": 2, "val": 1, "test": 1}
    assert [clip.name for clip in clips if clip.split == "test"] == ["noise/valid/foa_4_BG.wav"]
    sound, rate = corpus.read(clips[0])
    assert (sound.shape, rate) == ((32_000, 4), 32_000)
    bank = open_clip_bank(corpus, rate, tmp_path / "bank", False, "data.backgrounds")
    position = bank.position(clips[0].name)
    mono = bank.samples(position) * bank.entry(position).scale
    np.testing.assert_allclose(mono, sound.mean(axis=1), atol=1e-4)


def test_classes_can_be_chosen_of_events_only(dcase2026_task4_root):
    root = str(dcase2026_task4_root)
    assert DCASE2026Task4(root, "sound_event", ["Speech", "Dishes"]).classes() == ["Dishes", "Speech"]
    with pytest.raises(InputError, match=r"DCASE2026Task4 classes: 'Speach' is not in .*did you mean 'Speech'"):
        DCASE2026Task4(root, "sound_event", ["Speach"]).clips()
    with pytest.raises(InputError, match="DCASE2026Task4 classes: noises have none"):
        DCASE2026Task4(root, "noise", ["Speech"])


def test_missing_folders_name_the_option_and_the_record(dcase2026_task4_root, tmp_path):
    for part in ("sound_event", "noise"):
        with pytest.raises(InputError, match=rf"DCASE2026Task4 root: .*{part}/train cannot be read .*zenodo"):
            DCASE2026Task4(str(tmp_path / "nowhere"), part).clips()
    (dcase2026_task4_root / "noise" / "valid" / "foa_4_BG.wav").unlink()
    with pytest.raises(InputError, match=r"noise/valid has no audio file\. Give the folder data/dev_set"):
        DCASE2026Task4(str(dcase2026_task4_root), "noise").clips()
