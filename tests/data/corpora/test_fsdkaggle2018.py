import collections

import pytest

from tse_refine.data.corpora import FSDKaggle2018, SyntheticBackgrounds
from tse_refine.data.corpora.base import check_splits
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError

LABELS = ["Bark", "Cough", "Flute", "Knock", "Meow", "Telephone"]
META = "FSDKaggle2018.meta"


def splits_of(corpus):
    return {clip.name: clip.split for clip in corpus.clips()}


def test_classes_have_the_words_of_the_ontology(fsdkaggle2018_root, tmp_path):
    corpus = FSDKaggle2018(str(fsdkaggle2018_root))
    data = MixtureDataModule(corpus, SyntheticBackgrounds(1, 1, 1), cache_dir=str(tmp_path))
    assert data.aliases == {"Bark": ("Dog",), "Meow": ("Cat",)}  # of the classes that are here


def test_clips_are_the_published_ones_with_their_freesound_numbers(fsdkaggle2018_root):
    corpus = FSDKaggle2018(str(fsdkaggle2018_root))
    clips = corpus.clips()
    assert corpus.classes() == LABELS
    assert len(clips) == 36
    assert (clips[0].name, clips[0].label, clips[0].recording) == (
        "FSDKaggle2018.audio_train/00044347.wav",
        "Bark",
        "freesound:28739",
    )
    sound, rate = corpus.read(clips[-1])
    assert (sound.shape, rate) == ((44_100, 1), 44_100)


def test_the_test_part_is_the_test_split_and_every_label_is_in_every_split(fsdkaggle2018_root):
    clips = FSDKaggle2018(str(fsdkaggle2018_root)).clips()
    check_splits({"data.foregrounds": clips})
    assert all((clip.split == "test") == clip.name.startswith("FSDKaggle2018.audio_test/") for clip in clips)
    counts = collections.Counter((clip.label, clip.split) for clip in clips)
    assert counts == {
        (label, split): number for label in LABELS for split, number in (("train", 3), ("val", 1), ("test", 2))
    }


def test_options_of_the_split(fsdkaggle2018_root):
    default = splits_of(FSDKaggle2018(str(fsdkaggle2018_root)))
    assert splits_of(FSDKaggle2018(str(fsdkaggle2018_root), split_seed=1)) != default
    halved = splits_of(FSDKaggle2018(str(fsdkaggle2018_root), val_fraction=0.5))
    assert list(halved.values()).count("val") == 12


def test_leaving_out_classes_moves_no_clip(fsdkaggle2018_root):
    corpus = FSDKaggle2018(str(fsdkaggle2018_root), classes=["Meow", "Bark"])
    assert corpus.classes() == ["Bark", "Meow"]
    assert splits_of(corpus).items() < splits_of(FSDKaggle2018(str(fsdkaggle2018_root))).items()
    with pytest.raises(InputError, match="classes: 'Meaow' has no clip here; did you mean 'Meow'"):
        FSDKaggle2018(str(fsdkaggle2018_root), classes=["Meaow"]).clips()


def test_verified_only_leaves_the_test_split_whole(fsdkaggle2018_root):
    splits = list(splits_of(FSDKaggle2018(str(fsdkaggle2018_root), verified_only=True)).values())
    assert {split: splits.count(split) for split in splits} == {"train": 12, "val": 6, "test": 12}


@pytest.fixture
def lists(fsdkaggle2018_root, tmp_path):
    """Lists that test on training clips, so that they cannot be mistaken for the published parts."""
    rows = (fsdkaggle2018_root / META / "train_post_competition.csv").read_text().splitlines()[1:]
    for number, split in enumerate(("train", "val", "test")):
        names = [row.split(",")[:2] for row in rows[6 * number : 6 * number + 6]]
        lines = ["fname,label", *(f"FSDKaggle2018.audio_train/{name},{label}" for name, label in names)]
        (tmp_path / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_published_lists_give_the_splits_and_what_they_leave_out_is_not_used(fsdkaggle2018_root, lists):
    clips = FSDKaggle2018(str(fsdkaggle2018_root), splits=str(lists)).clips()
    assert [clip.split for clip in clips] == ["train"] * 6 + ["val"] * 6 + ["test"] * 6
    assert {clip.name.split("/")[0] for clip in clips} == {"FSDKaggle2018.audio_train"}
    assert clips[0].recording == "freesound:28739"


def test_lists_may_name_clips_without_a_folder(fsdkaggle2018_root, lists):
    with_folder = splits_of(FSDKaggle2018(str(fsdkaggle2018_root), splits=str(lists)))
    for table in lists.glob("*.csv"):
        table.write_text(table.read_text().replace("FSDKaggle2018.audio_train/", ""))
    assert splits_of(FSDKaggle2018(str(fsdkaggle2018_root), splits=str(lists))) == with_folder


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("deadbeef.wav,Bark", r"val\.csv: deadbeef\.wav is not in the tables"),
        ("FSDKaggle2018.audio_train/00044347.wav,Meow", r"00044347\.wav is labelled Meow, but Bark in the tables"),
    ],
)
def test_lists_of_another_corpus_are_rejected(fsdkaggle2018_root, lists, row, message):
    (lists / "val.csv").write_text(f"fname,label\n{row}\n")
    with pytest.raises(InputError, match=message):
        FSDKaggle2018(str(fsdkaggle2018_root), splits=str(lists)).clips()


def test_missing_tables_name_the_option(fsdkaggle2018_root, tmp_path):
    with pytest.raises(InputError, match=r"train_post_competition\.csv does not exist\. FSDKaggle2018 root: give"):
        FSDKaggle2018(str(tmp_path / "nowhere")).clips()
    with pytest.raises(InputError, match=r"nowhere/train\.csv does not exist\. FSDKaggle2018 splits: give"):
        FSDKaggle2018(str(fsdkaggle2018_root), splits=str(tmp_path / "nowhere")).clips()


def test_archives_come_from_the_mirror_with_the_published_checksums(tmp_path):
    archives = FSDKaggle2018(str(tmp_path), mirror="https://host/files").archives()
    assert [archive.name for archive in archives] == [
        f"FSDKaggle2018.{part}.zip" for part in ("audio_train", "audio_test", "meta")
    ]
    (meta,) = archives[2].files
    assert meta.url == "https://host/files/FSDKaggle2018.meta.zip?download=1"
    assert meta.md5 == "f16828ac8be0e5285b9175a12f90d784"
