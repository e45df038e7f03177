import collections

import pytest

from tse_refine.data.corpora import FSD50K
from tse_refine.errors import InputError


def write_tables(root, dev, evaluation=()):
    """Tables of rows of labels; the first clip of dev is number 1, all are to train on."""
    (root / "FSD50K.ground_truth").mkdir()
    lines = ["fname,labels,mids,split", *(f'{n},"{labels}",/m/0,train' for n, labels in enumerate(dev, start=1))]
    (root / "FSD50K.ground_truth" / "dev.csv").write_text("\n".join(lines))
    lines = ["fname,labels,mids", *(f'{n},"{labels}",/m/0' for n, labels in enumerate(evaluation, start=101))]
    (root / "FSD50K.ground_truth" / "eval.csv").write_text("\n".join(lines))
    return root


def used(root, *classes):
    return {clip.recording.removeprefix("freesound:"): clip.label for clip in FSD50K(str(root), list(classes)).clips()}


def test_clips_of_one_sound_in_the_published_splits(fsd50k_root):
    corpus = FSD50K(str(fsd50k_root), ["Siren", "Bark"])
    clips = corpus.clips()
    assert corpus.classes() == ["Bark", "Siren"]
    assert collections.Counter((clip.label, clip.split) for clip in clips) == {
        (label, split): number
        for label in ("Bark", "Siren")
        for split, number in (("train", 2), ("val", 1), ("test", 1))
    }
    assert (clips[0].name, clips[0].recording) == ("FSD50K.dev_audio/64760.wav", "freesound:64760")
    assert clips[-1].name.startswith("FSD50K.eval_audio/")
    sound, rate = corpus.read(clips[-1])
    assert (sound.shape, rate) == ((44_100, 1), 44_100)


def test_aliases_are_the_parts_of_a_name_and_parents_that_mean_one_class(fsd50k_root, tmp_path):
    aliases = FSD50K(str(fsd50k_root), ["Bark", "Cough", "Doorbell", "Knock"]).aliases()
    assert aliases == {"Bark": ["Dog"], "Cough": ["Respiratory_sounds"], "Doorbell": [], "Knock": []}
    root = write_tables(tmp_path, ["Burping_and_eructation,Noise", "Noise", "Burping"])
    assert FSD50K(str(root), ["Burping_and_eructation"]).aliases() == {
        "Burping_and_eructation": ["Burping", "eructation", "Noise"]
    }
    assert FSD50K(str(root), ["Burping_and_eructation", "Burping"]).aliases() == {
        "Burping_and_eructation": ["eructation", "Noise"],
        "Burping": [],
    }


def test_a_parent_of_one_class_that_is_a_distant_ancestor_of_another_names_neither(tmp_path):
    root = write_tables(tmp_path, ["Flush,Home", "Bell,Door,Home", "Door,Home", "Home"])
    assert FSD50K(str(root), ["Flush", "Bell"]).aliases() == {"Flush": [], "Bell": ["Door"]}


def test_a_clip_with_two_leaves_is_not_used(tmp_path):
    root = write_tables(tmp_path, ["Bark,Dog", "Dog", "Bark,Dog,Wind", "Wind"])
    assert used(root, "Bark") == {"1": "Bark"}


def test_a_chosen_class_includes_the_clips_of_its_descendants(tmp_path):
    root = write_tables(tmp_path, ["Bark,Dog", "Growling,Dog", "Dog", "Wind"])
    assert used(root, "Dog", "Wind") == {"1": "Dog", "2": "Dog", "3": "Dog", "4": "Wind"}


def test_a_label_is_an_ancestor_only_if_all_clips_of_both_tables_agree(tmp_path):
    """In dev every Rain is Water; the Rain without Water in eval makes them two sounds of one clip."""
    root = write_tables(tmp_path, ["Rain,Water", "Water"], ["Rain"])
    assert used(root, "Rain") == {"101": "Rain"}


def test_labels_that_always_occur_together_are_two_sounds(tmp_path):
    root = write_tables(tmp_path, ["Bark,Meow", "Meow,Bark", "Wind"])
    assert used(root, "Wind") == {"3": "Wind"}
    with pytest.raises(InputError, match="no clip has 'Bark' without another sound"):
        used(root, "Bark")


def test_a_repeated_label_counts_once(tmp_path):
    root = write_tables(tmp_path, ["Bark,Dog,Growling,Dog", "Bark,Dog", "Growling,Dog", "Dog"])
    assert used(root, "Bark") == {"2": "Bark"}


def test_grandparents_are_ancestors_too(tmp_path):
    root = write_tables(tmp_path, ["Bark,Dog,Animal", "Dog,Animal", "Animal"])
    assert used(root, "Bark") == {"1": "Bark"}
    with pytest.raises(InputError, match="'Animal' is an ancestor of 'Bark'"):
        used(root, "Bark", "Animal")


def test_unknown_classes_are_rejected(fsd50k_root):
    with pytest.raises(InputError, match=r"classes: 'Barking' is not in .*did you mean 'Bark'"):
        used(fsd50k_root, "Barking")


def test_missing_tables_name_the_option(tmp_path):
    with pytest.raises(InputError, match=r"dev\.csv does not exist\. FSD50K root: give the folder"):
        used(tmp_path, "Bark")


def test_audio_archives_are_volumes_in_order(tmp_path):
    truth, dev, evaluation = FSD50K(str(tmp_path), ["Bark"], mirror="https://host").archives()
    assert [file.name for file in truth.files] == ["FSD50K.ground_truth.zip"]
    assert [file.name for file in dev.files] == [
        f"FSD50K.dev_audio.{end}" for end in ("z01", "z02", "z03", "z04", "z05", "zip")
    ]
    assert [file.name for file in evaluation.files] == ["FSD50K.eval_audio.z01", "FSD50K.eval_audio.zip"]
    assert truth.files[0].url == "https://host/FSD50K.ground_truth.zip?download=1"
    assert dev.files[-1].md5 == "c480d119b8f7a7e32fdb58f3ea4d6c5a"
