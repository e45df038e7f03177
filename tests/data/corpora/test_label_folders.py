import collections
import os
import sys

import pytest

from tse_refine.data.audio.folders import described
from tse_refine.data.corpora import LabelFolders
from tse_refine.errors import InputError

LABELS = sorted(["bell", "dog bark", "glass", "siren", "Türklingel", "口笛"])


def touch(root, *names):
    """Files whose content does not matter."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_every_audio_file_below_a_label_is_a_clip_and_a_recording_of_its_own(label_folders_root):
    corpus = LabelFolders(str(label_folders_root))
    clips = corpus.clips()
    assert corpus.classes() == LABELS
    files = ("more/four.wav", "one take.wav", "three.OGG", "zwei – hören.flac")
    assert [clip.name for clip in clips] == [f"{label}/{file}" for label in LABELS for file in files]
    assert len({clip.recording for clip in clips}) == len(clips)
    for clip in clips[:4]:
        sound, rate = corpus.read(clip)
        assert (sound.shape, rate) == ((44_100, 1), 44_100)


def test_splits_are_drawn_within_each_label(label_folders_root):
    clips = LabelFolders(str(label_folders_root)).clips()
    assert collections.Counter((clip.label, clip.split) for clip in clips) == {
        (label, split): number for label in LABELS for split, number in (("train", 2), ("val", 1), ("test", 1))
    }
    assert LabelFolders(str(label_folders_root), split_seed=1).clips() != clips
    halved = LabelFolders(str(label_folders_root), val_fraction=0.5, test_fraction=0.25).clips()
    assert collections.Counter(clip.split for clip in halved) == {"val": 12, "test": 6, "train": 6}


def test_hidden_and_other_files_are_ignored(label_folders_root):
    clips = LabelFolders(str(label_folders_root)).clips()
    touch(label_folders_root, "readme.wav", "bell/notes.txt", "bell/._one take.wav", "bell/.old/a.wav", ".cache/b.wav")
    touch(label_folders_root, "bell/samples.raw")
    assert LabelFolders(str(label_folders_root)).clips() == clips


def test_what_is_not_used_is_counted_and_named(label_folders_root, tmp_path):
    corpus = LabelFolders(str(label_folders_root))
    assert corpus.unlisted() == []
    touch(label_folders_root, "bell/a.m4a", "bell/more/b.M4A", "siren/notes.txt", "bell/.hidden.m4a", "siren/old.snd")
    touch(tmp_path / "elsewhere", "c.wav")
    (label_folders_root / "siren" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    text = described(corpus.unlisted())
    assert text.startswith("4 other files are not used: 2 .m4a (")
    assert "bell/a.m4a" in text
    assert "1 .txt (" in text
    assert "1 linked folders (" in text
    assert "siren/old.snd" in [clip.name for clip in corpus.clips()]
    touch(label_folders_root, "glass 2/a.m4a")
    with pytest.raises(InputError, match=r"glass 2 has no audio file; .* 1 other file is not used: 1 \.m4a"):
        corpus.clips()


def test_unicode_forms_of_a_label_are_one_label(tmp_path):
    composed, decomposed = "T\u00fcr", "Tu\u0308r"
    for label in (composed, decomposed, "bell"):
        touch(tmp_path, *(f"{label}/{len(label)}{number}.wav" for number in range(3)))
    corpus = LabelFolders(str(tmp_path))
    assert corpus.classes() == [composed, "bell"] or corpus.classes() == ["bell", composed]
    assert sum(clip.label == composed for clip in corpus.clips()) == (6 if os.path.exists(tmp_path / decomposed) else 3)
    assert LabelFolders(str(tmp_path), labels=[decomposed]).classes() == [composed]
    assert all(corpus.path(clip).exists() for clip in corpus.clips())


def test_three_folders_named_like_the_splits_are_the_splits(tmp_path):
    touch(tmp_path, *(f"{split}/{label}/a.wav" for split in ("train", "val", "test") for label in ("dog", "rain")))
    clips = LabelFolders(str(tmp_path)).clips()
    assert [(clip.name, clip.label, clip.split) for clip in clips] == [
        (f"{split}/{label}/a.wav", label, split) for split in ("train", "val", "test") for label in ("dog", "rain")
    ]


def test_train_may_be_a_label_among_others(tmp_path):
    touch(tmp_path, *(f"{label}/{number}.wav" for label in ("train", "tram") for number in range(3)))
    assert LabelFolders(str(tmp_path)).classes() == ["train", "tram"]


def test_two_of_the_three_split_folders_are_rejected(tmp_path):
    touch(tmp_path, "train/dog/a.wav", "test/dog/a.wav")
    with pytest.raises(InputError, match="has the folders test and train only"):
        LabelFolders(str(tmp_path)).clips()


def test_labels_can_be_chosen(label_folders_root):
    corpus = LabelFolders(str(label_folders_root), labels=["siren", "口笛"])
    assert corpus.classes() == ["siren", "口笛"]
    with pytest.raises(InputError, match=r"labels: 'syren' is not in .*; did you mean 'siren'"):
        LabelFolders(str(label_folders_root), labels=["syren"]).clips()


def test_unusable_folders_are_rejected_by_name(tmp_path):
    with pytest.raises(InputError, match=r"root: .*nowhere cannot be read \(No such file or directory\)"):
        LabelFolders(str(tmp_path / "nowhere")).clips()
    with pytest.raises(InputError, match="has no folder in it"):
        LabelFolders(str(tmp_path)).clips()
    touch(tmp_path, "dog/a.wav", "dog/b.wav", "dog/c.wav", "cat/a.mp5")
    with pytest.raises(InputError, match=r"cat has no audio file; .*\.wav"):
        LabelFolders(str(tmp_path)).clips()
    touch(tmp_path, "cat/a.wav", "cat/b.wav")
    with pytest.raises(InputError, match="'cat' has 2 source recordings of its own"):
        LabelFolders(str(tmp_path)).clips()
    touch(tmp_path, "a|b/a.wav")
    with pytest.raises(InputError, match=r"a\|b: a label may not contain '\|'"):
        LabelFolders(str(tmp_path)).clips()


def test_an_unreadable_folder_is_rejected(label_folders_root, monkeypatch):
    """A folder that may not be listed; permissions do not stop every user that runs tests."""
    scan = os.scandir

    def refuse(place):
        if os.path.basename(place) == "more":
            raise PermissionError(13, "Permission denied", place)
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"more cannot be read \(Permission denied\)"):
        LabelFolders(str(label_folders_root)).clips()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not have such names")
def test_a_file_name_that_is_not_unicode_is_rejected(label_folders_root):
    (label_folders_root / "bell" / os.fsdecode(b"T\xfcr.wav")).touch()
    with pytest.raises(InputError, match=r"T\\udcfcr\.wav' is not valid UTF-8"):
        LabelFolders(str(label_folders_root)).clips()


def test_other_folders_beside_those_of_splits_are_rejected(tmp_path, write_sound):
    for split in ("train", "val", "test", "extra"):
        write_sound(tmp_path / split / "dog" / "1.wav")
    with pytest.raises(InputError, match="which are the splits, and beside them extra"):
        LabelFolders(str(tmp_path)).clips()
