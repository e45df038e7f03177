import collections
import os
import shutil

import pytest

from tse_refine.data.corpora import Manifest
from tse_refine.errors import InputError

HEADER = "path,label,role,split,source"
CLASSES = ["Türklingel", "Wasser läuft", "bell", "dog bark", "glass", "siren"]


def clips_of(table, *rows, role="foreground"):
    table.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return Manifest(str(table), role).clips()


def test_each_role_has_its_rows(manifest_table):
    foregrounds, backgrounds = (Manifest(str(manifest_table), role) for role in ("foreground", "background"))
    assert foregrounds.classes() == sorted(CLASSES)
    assert backgrounds.classes() == ["street"]
    assert collections.Counter(clip.split for clip in foregrounds.clips()) == {"train": 12, "val": 6, "test": 6}
    assert collections.Counter(clip.split for clip in backgrounds.clips()) == {"train": 2, "val": 1, "test": 1}


def test_interferers_may_be_in_the_table(tmp_path):
    rows = ["a.wav,rain,foreground,train,", "b.wav,clock,interferer,train,"]
    assert [clip.label for clip in clips_of(tmp_path / "table.csv", *rows, role="interferer")] == ["clock"]


def test_names_with_spaces_and_letters_of_any_alphabet_are_read(manifest_table):
    corpus = Manifest(str(manifest_table), "foreground")
    clip = next(clip for clip in corpus.clips() if clip.label == "Türklingel")
    assert clip.name == "train clips/Türklingel – 0.wav"
    sound, rate = corpus.read(clip)
    assert (sound.shape, rate) == ((44_100, 1), 44_100)


def test_a_clip_without_a_source_is_its_own_recording(tmp_path):
    clips = clips_of(tmp_path / "table.csv", "a.wav,x,foreground,train,tape 3", "b.wav,x,foreground,val,")
    assert [clip.recording for clip in clips] == ["tape 3", f"file:{(tmp_path / 'b.wav').resolve()}"]


def test_paths_may_be_absolute(manifest_table, tmp_path):
    elsewhere = tmp_path / "elsewhere.wav"
    shutil.copy(manifest_table.parent / "val clips" / "bell – 1.wav", elsewhere)
    (clip,) = clips_of(manifest_table, f"{elsewhere},bell,foreground,val,")
    assert clip.name == str(elsewhere)
    assert len(Manifest(str(manifest_table), "foreground").read(clip)[0]) == 44_100


def test_one_recording_may_have_both_roles(tmp_path):
    rows = ["a.wav,rain,foreground,train,", "a.wav,weather,background,train,"]
    assert [clip.label for clip in clips_of(tmp_path / "table.csv", *rows)] == ["rain"]
    assert [clip.label for clip in clips_of(tmp_path / "table.csv", *rows, role="background")] == ["weather"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.wav,dog|cat,foreground,train,", r"a\.wav has the label 'dog\|cat', which looks like several labels"),
        ("a.wav,dog;cat,foreground,train,", "looks like several labels"),
        ('a.wav,"dog,cat",foreground,train,', "looks like several labels"),
        ("a.wav,dog,event,train,", r"a\.wav has the role 'event'; foreground, background or interferer is expected"),
        ("a.wav,dog,foreground,dev,", r"a\.wav has the split 'dev'; train, val or test is expected"),
        ("b.wav,cat,foreground,train,", r"b\.wav has two foreground rows, labelled 'dog' and 'cat'"),
        ("./b.wav,dog,foreground,val,", r"b\.wav has two foreground rows, labelled 'dog' and 'dog'"),
        ("a.wav,,foreground,train,", "line 3: label is empty"),
        ("my dog, 1.wav,dog,foreground,train,", "line 3: has 6 cells, the header 5"),
    ],
)
def test_rows_that_cannot_be_used_are_rejected(tmp_path, row, message):
    with pytest.raises(InputError, match=rf"table\.csv.*{message}"):
        clips_of(tmp_path / "table.csv", "b.wav,dog,foreground,train,", row)


def test_a_role_without_rows_and_a_missing_table_are_rejected(tmp_path):
    with pytest.raises(InputError, match="no row has the role background"):
        clips_of(tmp_path / "table.csv", "b.wav,dog,foreground,train,", role="background")
    with pytest.raises(InputError, match=r"nowhere\.csv does not exist\. Manifest table: give a CSV file"):
        Manifest(str(tmp_path / "nowhere.csv"), "foreground").clips()


def test_a_file_is_one_recording_however_its_path_is_written(tmp_path):
    table = tmp_path / "manifest.csv"
    rows = ["path,label,role,split,source", "a.wav,dog,foreground,train,", "./a.wav,street,background,test,"]
    rows.append(f"{tmp_path}/b.wav,dog,foreground,test,")
    table.write_text("\n".join(rows) + "\n")
    foregrounds, backgrounds = (Manifest(str(table), role).clips() for role in ("foreground", "background"))
    assert foregrounds[0].recording == backgrounds[0].recording
    assert foregrounds[1].recording == f"file:{(tmp_path / 'b.wav').resolve()}"
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "manifest.csv"
    other.write_text("\n".join(rows[:2]) + "\n")
    assert Manifest(str(other), "foreground").clips()[0].recording != foregrounds[0].recording


def test_no_file_of_a_table_is_looked_up_and_links_are_followed(tmp_path, monkeypatch):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "real.wav").touch()
    (tmp_path / "sounds" / "link.wav").symlink_to(tmp_path / "sounds" / "real.wav")
    (tmp_path / "linked").symlink_to(tmp_path / "sounds", target_is_directory=True)
    rows = [f"sounds/{number}.wav,dog,foreground,train," for number in range(1000)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label,role,split,source", *rows]) + "\n")
    looked_up = []
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **options: looked_up.append(path) or real(path, **options))
    assert len(Manifest(str(table), "foreground").clips()) == 1000
    assert len(looked_up) == 1  # the folder
    corpus = Manifest(str(table), "foreground")
    same = ("sounds/real.wav", "sounds/link.wav", "linked/real.wav", "./sounds/../linked/link.wav")
    assert len(set(corpus.file_recordings(same))) == 1
    assert corpus.file_recordings(["sounds/real.wav"]) == [f"file:{real(tmp_path / 'sounds' / 'real.wav')}"]


def test_unicode_forms_of_a_label_are_one_label(tmp_path):
    rows = ["a.wav,T\u00fcr,foreground,train,", "b.wav,Tu\u0308r,foreground,test,"]
    assert {clip.label for clip in clips_of(tmp_path / "table.csv", *rows)} == {"T\u00fcr"}
