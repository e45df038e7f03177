from itertools import combinations

import numpy as np
import pytest

from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.corpora.base import check_splits


def test_there_are_a_dozen_classes_and_several_backgrounds_in_every_split():
    sounds, backgrounds = SyntheticSounds(2, 2, 2), SyntheticBackgrounds(1, 1, 1)
    assert len(sounds.classes()) >= 12
    assert len(backgrounds.classes()) >= 2
    for split in ("train", "val", "test"):
        assert {clip.label for clip in sounds.clips() if clip.split == split} == set(sounds.classes())
        assert {clip.label for clip in backgrounds.clips() if clip.split == split} == set(backgrounds.classes())


def test_every_sound_is_finite_audible_3_to_6_seconds_long_and_the_same_again():
    for corpus in (SyntheticSounds(1, 1, 1), SyntheticBackgrounds(1, 1, 1)):
        for clip in corpus.clips():
            sound, rate = corpus.read(clip)
            assert rate == 16_000
            assert 3.0 <= len(sound) / rate <= 6.0
            assert np.isfinite(sound).all()
            assert np.abs(sound).max() == np.float32(0.5)
            np.testing.assert_array_equal(sound, corpus.read(clip)[0])


@pytest.mark.parametrize("corpus", [SyntheticSounds(2, 1, 1), SyntheticBackgrounds(2, 1, 1)])
def test_instances_of_a_kind_differ_also_across_splits(corpus):
    for label in corpus.classes():
        sounds = [corpus.read(clip)[0] for clip in corpus.clips() if clip.label == label]
        for one, other in combinations(sounds, 2):
            length = min(len(one), len(other))
            correlation = np.corrcoef(one[:length, 0], other[:length, 0])[0, 1]
            assert abs(correlation) < 0.9


def test_more_instances_leave_the_first_ones_as_they_are():
    few, many = SyntheticSounds(1, 1, 1), SyntheticSounds(3, 2, 1)
    kept = {clip.name: clip for clip in many.clips()}
    for clip in few.clips():
        assert kept[clip.name] == clip
        np.testing.assert_array_equal(few.read(clip)[0], many.read(kept[clip.name])[0])


def test_no_recording_is_in_two_splits():
    for corpus in (SyntheticSounds(3, 2, 2), SyntheticBackgrounds(3, 2, 2)):
        clips = corpus.clips()
        check_splits({"data.foregrounds": clips})
        assert len({clip.recording for clip in clips}) == len(clips)


def test_fingerprints_tell_clips_apart_and_stay(tmp_path):
    corpus = SyntheticSounds(2, 1, 1)
    clips = corpus.clips()
    found = corpus.fingerprints(clips, tmp_path)
    assert len(set(found)) == len(clips)
    assert SyntheticSounds(9, 9, 9).fingerprints(clips, tmp_path) == found
