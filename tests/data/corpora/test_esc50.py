import pytest

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
        "10",
    )
    assert {clip.split for clip in clips if clip.name.startswith("audio/3-")} == {"test"}


def test_a_fold_that_is_not_listed_is_not_used(root):
    assert {clip.split for clip in corpus(root, test=()).clips()} == {"train", "val"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"categories": ("dgo",)}, "did you mean 'dog'"),
        ({"val": (7,)}, "val_folds: fold 7 has no clip"),
        ({"val": (1,)}, "fold 1 is in train_folds too"),
    ],
)
def test_unknown_categories_and_folds_are_refused(root, options, said):
    with pytest.raises(InputError, match=said):
        corpus(root, **options).clips()


def test_a_missing_or_foreign_table_is_refused_by_name(root):
    with pytest.raises(InputError, match=r"has no meta/esc50\.csv"):
        corpus(root / "nowhere").clips()
    table = root / "meta" / "esc50.csv"
    table.write_text("filename,fold\n")
    with pytest.raises(InputError, match=r"esc50\.csv: the columns category, src_file are missing"):
        corpus(root).clips()
    table.write_text(f"{HEADER}\na.wav,one,0,dog,True,1,A\n")
    with pytest.raises(InputError, match="line 2: fold is 'one'"):
        corpus(root).clips()
