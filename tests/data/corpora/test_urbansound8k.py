import collections

import pytest

from tse_refine.data.corpora import UrbanSound8K
from tse_refine.data.corpora.base import check_splits
from tse_refine.errors import InputError


@pytest.fixture
def table(urbansound8k_root):
    return urbansound8k_root / "metadata" / "UrbanSound8K.csv"


def test_clips_are_split_by_folds_and_slices_of_a_recording_stay_together(urbansound8k_root):
    corpus = UrbanSound8K(str(urbansound8k_root))
    clips = corpus.clips()
    assert len(corpus.classes()) == 10
    assert collections.Counter(clip.split for clip in clips) == {"train": 160, "val": 20, "test": 20}
    assert (clips[0].name, clips[0].label, clips[0].split, clips[0].recording) == (
        "audio/fold1/100100-0-0-0.wav",
        "air_conditioner",
        "train",
        "freesound:100100",
    )
    assert clips[1].recording == clips[0].recording
    assert {clip.split for clip in clips if "/fold9/" in clip.name} == {"val"}
    check_splits({"data.foregrounds": clips})
    assert corpus.missing() == []
    sound, rate = corpus.read(clips[1])
    assert (sound.shape, rate) == ((8000, 2), 8000)


def test_sounds_behind_others_can_be_left_out(urbansound8k_root):
    names = [clip.name for clip in UrbanSound8K(str(urbansound8k_root), foreground_only=True).clips()]
    assert len(names) == 100
    assert all(name.endswith("-0.wav") for name in names)


def test_chosen_classes_and_folds(urbansound8k_root):
    corpus = UrbanSound8K(
        str(urbansound8k_root), classes=["siren", "dog_bark"], foreground_only=True, train_folds=[3], val_folds=[1]
    )
    assert corpus.classes() == ["dog_bark", "siren"]
    assert [clip.split for clip in corpus.clips()] == ["val", "val", "train", "train", "test", "test"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["dog_brak"]}, "UrbanSound8K classes: 'dog_brak' is not in .*did you mean 'dog_bark'"),
        ({"val_folds": [10], "test_folds": [11]}, r"UrbanSound8K test_folds: fold 11 has no clip .*, 9, 10; choose"),
        ({"val_folds": [1]}, "UrbanSound8K val_folds: fold 1 is in train_folds too"),
    ],
)
def test_unknown_classes_and_folds_are_rejected(urbansound8k_root, options, message):
    with pytest.raises(InputError, match=message):
        UrbanSound8K(str(urbansound8k_root), **options).clips()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,10,9,street_music", ",3,10,9,street_music", r"the salience of 101009-9-0-0\.wav is '3'; 1 \(foregr"),
        (",1,10,9,street_music", ",1,ten,9,street_music", r"the fold of 101009-9-0-0\.wav is 'ten'"),
        ("fsID", "id", r"the columns? fsID"),
    ],
)
def test_another_table_is_rejected(urbansound8k_root, table, old, new, message):
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        UrbanSound8K(str(urbansound8k_root)).clips()


def test_a_missing_table_names_the_option(tmp_path):
    with pytest.raises(InputError, match=r"UrbanSound8K\.csv does not exist\. UrbanSound8K root: give the folder"):
        UrbanSound8K(str(tmp_path)).clips()
