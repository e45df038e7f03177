import json
from dataclasses import replace

import pytest

from tse_refine.data.scaper.jams import Scene, SceneEvent, read_scene, scene_document
from tse_refine.errors import InputError

SCENE = Scene(
    duration=6.0,
    sample_rate=44_100,
    ref_db=-50.0,
    background=SceneEvent("street", "/bg/street/a.wav", 1.5, 0.0, 6.0, 0.0),
    events=(
        SceneEvent("dog", "/fg/dog/1.wav", 0.0, 0.5, 3.0, 15.5),
        SceneEvent("bell", "/fg/bell/2.wav", 0.25, 1.0, 4.0, 20.0),
        SceneEvent("siren", "/fg/siren/3.wav", 0.0, 3.5, 2.5, 25.0),
    ),
    fade_seconds=(0.01, 0.02),
    peak_rule="limit",
)


@pytest.fixture
def document():
    return scene_document(SCENE, (["bell", "dog", "siren"], ["street"]), ("/fg", "/bg"))


@pytest.fixture
def read(tmp_path):
    def run(document, targets=None):
        (tmp_path / "mixture.jams").write_text(document if isinstance(document, str) else json.dumps(document))
        (tmp_path / "gt_events.csv").unlink(missing_ok=True)
        if targets is not None:
            (tmp_path / "gt_events.csv").write_text(targets)
        return read_scene(tmp_path)

    return run


def settings_of(document):
    return document["annotations"][0]["sandbox"]["scaper"]


def value(document, row):
    return document["annotations"][0]["data"][row]["value"]


def test_what_is_written_is_read_back(read, document):
    assert read(document) == SCENE
    assert settings_of(document)["polyphony_max"] == 2  # the dog stops where the siren starts


def test_a_mixture_may_be_background_alone(read):
    alone = replace(SCENE, events=())
    document = scene_document(alone, (["bell", "dog", "siren"], ["street"]), ("/fg", "/bg"))
    assert (settings_of(document)["n_events"], settings_of(document)["polyphony_max"]) == (0, 0)
    assert read(document) == read(document, "label\n") == alone
    with pytest.raises(InputError, match=r"lists dog, but the events .* are nothing"):
        read(document, "label\ndog\n")


def test_interferers_are_foregrounds_to_scaper_and_told_apart_by_their_labels(read):
    clocks = tuple(SceneEvent("clock", f"/fg/clock/{name}.wav", 0.0, 2.0, 1.0, 18.0) for name in (4, 5))
    scene = replace(SCENE, interferers=clocks)
    document = scene_document(scene, (["bell", "clock", "dog", "siren"], ["street"]), ("/fg", "/bg"))
    assert [value(document, row)["role"] for row in range(6)] == ["background"] + ["foreground"] * 5
    assert settings_of(document)["n_events"] == 5
    assert read(document) == scene
    assert read(document, "label\nsiren\ndog\nbell\n").interferers == clocks
    document["annotations"][0]["data"].sort(key=lambda row: row["time"])  # as JAMS sorts them when it saves a file
    assert set(read(document).interferers) == set(clocks)
    document["annotations"][0]["sandbox"]["tse_refine"]["interferers"] = ["clock", 3]
    with pytest.raises(InputError, match=r"interferers is 3; .* is not a mixture as Scaper describes it"):
        read(document)


def test_the_background_need_not_come_first(read, document):
    document["annotations"][0]["data"].reverse()
    scene = read(document)
    assert scene.background == SCENE.background
    assert scene.events == SCENE.events[::-1]


def test_targets_give_the_order_and_may_have_more_columns(read, document):
    scene = read(document, "label\nsiren\ndog\nbell\n")
    assert [event.label for event in scene.events] == ["siren", "dog", "bell"]
    scene = read(document, "onset\toffset\tlabel\n0\t1\tbell\n0\t1\tsiren\n0\t1\tdog\n")
    assert [event.label for event in scene.events] == ["bell", "siren", "dog"]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"fix_clipping": True, "peak_normalization": False}, "limit"),
        ({"fix_clipping": False, "peak_normalization": False}, "none"),
        ({"fix_clipping": True, "peak_normalization": True}, "normalize"),
        ({}, "limit"),  # Scapers before 1.6
    ],
)
def test_the_peak_rule_follows_the_file(read, document, settings, rule):
    found = settings_of(document)
    for key in ("fix_clipping", "peak_normalization"):
        del found[key]
    found |= settings
    assert read(document).peak_rule == rule


def test_older_files_have_only_a_duration(read, document):
    del settings_of(document)["original_duration"]
    assert read(document).duration == 6.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: value(d, 1).update(pitch_shift=2.0), "pitch is shifted"),
        (lambda d: value(d, 2).update(time_stretch=0.9), "time is stretched"),
        (lambda d: value(d, 2).update(label="dog"), "a class occurs twice"),
        (lambda d: value(d, 1).update(role="background"), "several backgrounds"),
        (lambda d: value(d, 0).update(role="foreground"), "is not a mixture as Scaper describes it"),
        (lambda d: settings_of(d).update(reverb=0.2), "reverberation"),
        (lambda d: settings_of(d).update(n_channels=2), "it has 2 channels"),
        (lambda d: d["annotations"][0].update(namespace="chord"), "is not a mixture as Scaper describes it"),
        (lambda d: value(d, 1).pop("snr"), r"snr is missing. It is not a mixture"),
        (lambda d: settings_of(d).update(sr="fast"), "is not a mixture as Scaper describes it"),
    ],
)
def test_scenes_that_cannot_be_rendered_are_rejected_by_file(read, document, change, message):
    change(document)
    with pytest.raises(InputError, match=rf"mixture\.jams: .*{message}"):
        read(document)


def test_invalid_files_are_rejected(read, document, tmp_path):
    with pytest.raises(InputError, match="is not a mixture as Scaper describes it"):
        read(json.dumps(document)[:-30])
    with pytest.raises(InputError, match="is not a mixture as Scaper describes it"):
        read("[]")
    with pytest.raises(InputError, match=r"gt_events\.csv: lists dog, but the events .* are dog, bell, siren"):
        read(document, "label\ndog\n")
    with pytest.raises(InputError, match=r"gt_events\.csv: the columns label are missing; .* tab-separated"):
        read(document, "name\ndog\n")
    (tmp_path / "mixture.jams").unlink()
    with pytest.raises(InputError, match=r"mixture\.jams: cannot be read"):
        read_scene(tmp_path)


def test_unicode_forms_of_a_label_are_one_label(read, document):
    document["annotations"][0]["data"][1]["value"]["label"] = "Tu\u0308r"
    scene = read(document, "label\nsiren\nT\u00fcr\nbell\n")
    assert [event.label for event in scene.events] == ["siren", "T\u00fcr", "bell"]
