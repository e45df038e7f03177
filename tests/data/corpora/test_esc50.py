import numpy as np
import pytest
import soundfile

from tse_refine.data.corpora import ESC50
from tse_refine.errors import InputError

HEADER = "filename,fold,target,category,esc10,src_file,take"


@pytest.fixture
def root(tmp_path):
    """A table without any audio beside it."""
    rows = [
        f"{fold}-{fold}{number}-A-0.ogg,{fold},0,{category},True,{fold}{number},A"
        for fold in (1, 2, 3)
        for number, category in enumerate(("dog", "rain", "sea_waves"))
    ]
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return tmp_path


def corpus(root, categories=("rain", "dog"), train=(1,), val=(2,), test=(3,)) -> ESC50:
    return ESC50(str(root), list(categories), list(train), list(val), list(test))


def test_classes_and_clips_come_from_the_table_alone(root):
    esc = corpus(root)
    assert esc.classes() == ["dog", "rain"]
    clips = esc.clips()
    assert len(clips) == 6
    assert (clips[0].name, clips[0].label, clips[0].split, clips[0].recording) == (
        "audio/1-10-A-0.ogg",
        "dog",
        "train",
        "freesound:10",
    )
    assert {clip.split for clip in clips if clip.name.startswith("audio/3-")} == {"test"}


def test_a_fold_that_is_not_listed_is_not_used(root):
    assert {clip.split for clip in corpus(root, test=()).clips()} == {"train", "val"}


def test_audio_files_may_have_any_format_such_as_ogg(root):
    (root / "audio").mkdir()
    sound = 0.3 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(root / "audio" / "1-10-A-0.ogg", sound, 44_100)
    clip = corpus(root).clips()[0]
    read, rate = corpus(root).read(clip)
    assert (read.shape, read.dtype, rate) == ((44_100, 1), np.float32, 44_100)
    np.testing.assert_allclose(read[:, 0], sound, atol=0.03)  # Vorbis loses a little
    with pytest.raises((OSError, soundfile.LibsndfileError)):
        corpus(root).read(corpus(root).clips()[1])


def test_all_folds_of_the_published_split_are_used_by_default(root):
    table = root / "meta" / "esc50.csv"
    rows = [f"{fold}.wav,{fold},0,dog,True,{fold},A" for fold in (1, 2, 3, 4, 5)]
    table.write_text("\n".join([HEADER, *rows]) + "\n")
    splits = {clip.recording: clip.split for clip in ESC50(str(root), ["dog"]).clips()}
    assert splits == {
        f"freesound:{number}": split for number, split in zip("12345", ("train",) * 3 + ("val", "test"), strict=True)
    }


@pytest.mark.parametrize("cut", ["1-99-A-0.ogg", "1-99-A-0.ogg,1,0"])
def test_an_incomplete_last_line_is_rejected_by_its_number(root, cut):
    table = root / "meta" / "esc50.csv"
    table.write_text(table.read_text() + cut)
    with pytest.raises(InputError, match=r"esc50\.csv, line 11"):
        corpus(root).clips()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": ("dgo",)}, "did you mean 'dog'"),
        ({"categories": ("Sea_Wave",)}, "did you mean 'sea_waves'"),
        ({"val": (7,)}, r"val_folds: fold 7 has no clip .* which has the folds 1, 2, 3"),
        ({"val": (1,)}, "fold 1 is in train_folds too"),
    ],
)
def test_unknown_categories_and_folds_are_rejected(root, options, message):
    with pytest.raises(InputError, match=message):
        corpus(root, **options).clips()


def test_a_missing_or_foreign_table_is_rejected_by_name(root):
    with pytest.raises(InputError, match=r"meta/esc50\.csv does not exist\. ESC50 root: give the folder"):
        corpus(root / "nowhere").clips()
    table = root / "meta" / "esc50.csv"
    table.write_text("filename,fold\n")
    with pytest.raises(InputError, match=r"esc50\.csv: the columns category, src_file are missing"):
        corpus(root).clips()
    table.write_text(f"{HEADER}\na.wav,one,0,dog,True,1,A\n")
    with pytest.raises(InputError, match=r"the fold of a\.wav is 'one'"):
        corpus(root).clips()
