import collections

import pytest

from tse_refine.data.corpora import FSD50K, GISE51
from tse_refine.data.corpora.base import check_splits
from tse_refine.errors import InputError


def test_isolated_events_in_the_published_splits(gise51_root):
    corpus = GISE51(str(gise51_root))
    clips = corpus.clips()
    assert len(corpus.classes()) == 6
    assert collections.Counter(clip.split for clip in clips) == {"train": 12, "val": 6, "test": 6}
    assert (clips[0].name, clips[0].label, clips[0].split, clips[0].recording) == (
        "isolated_events/train/Applause/64761.wav",
        "Applause",
        "train",
        "freesound:64761",
    )
    assert {clip.split for clip in clips if "/eval/" in clip.name} == {"test"}
    assert corpus.missing() == []
    sound, rate = corpus.read(clips[-1])
    assert (sound.shape, rate) == ((22_050, 1), 22_050)


def test_a_recording_of_fsd50k_is_the_same_one_here(gise51_root, fsd50k_root):
    """FSD50K's clips are the source, in splits of their own: who uses both must be told."""
    events, clips = GISE51(str(gise51_root)), FSD50K(str(fsd50k_root), ["Bark"])
    with pytest.raises(InputError, match=r"2 source recordings .*: freesound:64762 \(train and val\), freesound:64763"):
        check_splits({"data.foregrounds": events.clips(), "data.backgrounds": clips.clips()})


def test_several_files_of_a_recording_share_it_and_other_names_stand_for_themselves(gise51_root, write_sound):
    folder = gise51_root / "isolated_events" / "train" / "Dog"
    for name in ("17.wav", "17_2.wav", "17b.wav", "bark.wav"):
        write_sound(folder / name)
    recordings = {clip.name.rsplit("/", 1)[1]: clip.recording for clip in GISE51(str(gise51_root)).clips()}
    assert recordings["17.wav"] == recordings["17_2.wav"] == "freesound:17"
    assert recordings["17b.wav"] == f"file:{folder / '17b.wav'}"
    assert recordings["bark.wav"] == f"file:{folder / 'bark.wav'}"


def test_classes_can_be_chosen(gise51_root):
    assert GISE51(str(gise51_root), ["Gong", "Dog"]).classes() == ["Dog", "Gong"]
    with pytest.raises(
        InputError, match=r"GISE51 classes: 'Gnog' is not in .*isolated_events/train; did you mean 'Gong'"
    ):
        GISE51(str(gise51_root), ["Gnog"]).clips()


def test_a_missing_folder_names_the_option_and_the_archive(gise51_root, tmp_path):
    with pytest.raises(
        InputError, match=r"GISE51 root: .*isolated_events/train cannot be read .*isolated_events\.tar\.gz"
    ):
        GISE51(str(tmp_path / "nowhere")).clips()
    (gise51_root / "isolated_events" / "eval").rename(gise51_root / "isolated_events" / "test")
    with pytest.raises(InputError, match=r"isolated_events/eval cannot be read"):
        GISE51(str(gise51_root)).clips()
