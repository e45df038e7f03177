import collections
import re

import pytest

from tse_refine.data.corpora import TAU2019
from tse_refine.data.corpora.base import check_splits
from tse_refine.errors import InputError

DEVELOPMENT, EVALUATION = (f"TAU-urban-acoustic-scenes-2019-{part}" for part in ("development", "evaluation"))
SCENES = ["airport", "bus", "metro", "park", "public_square", "tram"]


def test_the_evaluation_set_is_the_test_split(tau2019_root):
    corpus = TAU2019(str(tau2019_root))
    clips = corpus.clips()
    first, last = clips[0], clips[-1]
    assert (first.name, first.label, first.recording) == (
        f"{DEVELOPMENT}/audio/airport-barcelona-0-0-a.wav",
        "airport",
        "TAU2019:barcelona-0",
    )
    assert (last.name, last.label, last.split, last.recording) == (
        f"{EVALUATION}/audio/2.wav",
        "unknown",
        "test",
        "TAU2019-evaluation:2",
    )
    assert collections.Counter(clip.split for clip in clips) == {"train": 24, "val": 12, "test": 3}
    for clip in (first, last):
        sound, rate = corpus.read(clip)
        assert (sound.shape, rate) == ((48_000, 2), 48_000)


def test_development_alone_has_every_scene_in_every_split_and_no_place_in_two(tau2019_root):
    clips = TAU2019(str(tau2019_root), test_set="development").clips()
    assert len(clips) == 36
    assert {(clip.label, clip.split) for clip in clips} == {
        (scene, split) for scene in SCENES for split in ("train", "val", "test")
    }
    splits_of_place = collections.defaultdict(set)
    for clip in clips:
        splits_of_place[re.search(r"-(\w+-\d+)-\d+-a\.wav", clip.name)[1]].add(clip.split)
    assert len(splits_of_place) == 18
    assert all(len(splits) == 1 for splits in splits_of_place.values())
    check_splits({"data.backgrounds": clips})


def test_the_validation_split_does_not_depend_on_the_test_set(tau2019_root):
    chosen = [
        {clip.name for clip in TAU2019(str(tau2019_root), test_set=test_set).clips() if clip.split == "val"}
        for test_set in ("evaluation", "development")
    ]
    assert chosen[0] == chosen[1] != set()


def test_development_needs_no_evaluation_set(tau2019_root):
    (tau2019_root / EVALUATION / "evaluation_setup" / "test.csv").unlink()
    assert TAU2019(str(tau2019_root), test_set="development").clips()
    with pytest.raises(InputError, match=r"evaluation_setup/test\.csv does not exist\. TAU2019 root: give the folder"):
        TAU2019(str(tau2019_root)).clips()


def test_too_few_places_are_rejected_by_scene(tau2019_root):
    table = tau2019_root / DEVELOPMENT / "meta.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "bus-london" not in line))
    with pytest.raises(InputError, match="'bus' has 2 source recordings"):
        TAU2019(str(tau2019_root), test_set="development").clips()


def test_archives_without_documents_and_unused_sets(tmp_path):
    used = TAU2019(str(tmp_path), mirror="https://host").archives()
    names = [f"{DEVELOPMENT}.{part}.zip" for part in ("meta", *(f"audio.{n}" for n in range(1, 22)))]
    names += [f"{EVALUATION}.{part}.zip" for part in ("meta", *(f"audio.{n}" for n in range(1, 12)))]
    assert [archive.name for archive in used] == names
    assert all(len(archive.files) == 1 for archive in used)
    assert len({archive.files[0].md5 for archive in used}) == len(names)
    first, last = used[0].files[0], used[-1].files[0]
    assert first.url == f"https://host/2589280/files/{DEVELOPMENT}.meta.zip?download=1"
    assert (first.md5, last.md5) == ("09782f2097e4735687af73c44919329c", "c2ae0b8d9270d964f8c1d8b5298fea72")
    assert last.url == f"https://host/3063822/files/{EVALUATION}.audio.11.zip?download=1"
    assert TAU2019(str(tmp_path), test_set="development", mirror="https://host").archives() == used[:22]
