"""Every corpus in its published layout, in miniature: ``prepare``, ``preview`` and an epoch of ``fit``."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tse_refine.cli.main import main

FSD50K = Path(__file__).parent.parent / "configs" / "data" / "fsd50k.yaml"
CORPORA = "tse_refine.data.corpora."


def corpus(name: str, **options: object) -> dict:
    return {"class_path": CORPORA + name, "init_args": {key: str(value) for key, value in options.items()}}


@pytest.fixture
def config_file(tmp_path, tiny_config_file):
    """The tiny config with other corpora."""

    def write(foregrounds: dict, backgrounds: dict, **data: object) -> str:
        config = yaml.safe_load(tiny_config_file.read_text())
        config["data"] |= {"foregrounds": foregrounds, "backgrounds": backgrounds, "cache_dir": str(tmp_path / "bank")}
        config["data"]["mixture"]["num_events"] = [3, 4]
        config["data"] |= data
        config["evaluation"] = {"conditions": [[1, 0], [1, 2]], "validation_conditions": [[1, 0], [1, 2]]}
        path = tmp_path / "corpus.yaml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def fsdkaggle(fsdkaggle2018_root, tau2019_root):
    return corpus("FSDKaggle2018", root=fsdkaggle2018_root), corpus("TAU2019", root=tau2019_root)


@pytest.fixture
def fsd50k(fsd50k_root, tau2019_root):
    foregrounds = corpus("FSD50K", root=fsd50k_root)
    published = yaml.safe_load(FSD50K.read_text())["data"]["foregrounds"]["init_args"]
    foregrounds["init_args"]["classes"] = published["classes"]
    return foregrounds, corpus("TAU2019", root=tau2019_root, test_set="development")


@pytest.fixture
def manifest(manifest_table):
    return tuple(corpus("Manifest", table=manifest_table, role=role) for role in ("foreground", "background"))


@pytest.fixture
def folders(label_folders_root, tmp_path):
    shutil.copytree(label_folders_root / "glass", tmp_path / "streets" / "street")
    return corpus("LabelFolders", root=label_folders_root), corpus("LabelFolders", root=tmp_path / "streets")


@pytest.fixture
def esc50(esc50_root):
    foregrounds, backgrounds = (corpus("ESC50", root=esc50_root) for _ in range(2))
    foregrounds["init_args"]["categories"] = ["dog", "rain", "sea_waves", "rooster", "sneezing", "helicopter"]
    backgrounds["init_args"]["categories"] = ["wind"]
    return foregrounds, backgrounds


@pytest.fixture
def urbansound8k(urbansound8k_root, tau2019_root):
    return corpus("UrbanSound8K", root=urbansound8k_root), corpus("TAU2019", root=tau2019_root)


@pytest.fixture
def gise51(gise51_root, tau2019_root):
    return corpus("GISE51", root=gise51_root), corpus("TAU2019", root=tau2019_root)


@pytest.fixture
def dcase2026_task4(dcase2026_task4_root):
    return tuple(corpus("DCASE2026Task4", root=dcase2026_task4_root, part=part) for part in ("sound_event", "noise"))


@pytest.mark.parametrize(
    "layout", ["fsdkaggle", "fsd50k", "esc50", "urbansound8k", "gise51", "dcase2026_task4", "manifest", "folders"]
)
def test_a_published_layout_goes_through_prepare_preview_and_fit(layout, config_file, tmp_path, capsys, request):
    config = config_file(*request.getfixturevalue(layout))
    main(["prepare", "-c", config])
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["role", "split", "clips", "hours", "classes", "rejected"]
    rows = [line.split() for line in table[1:7]]
    assert [row[:2] for row in rows] == [
        [r, s] for r in ("foregrounds", "backgrounds") for s in ("train", "val", "test")
    ]
    assert all(int(row[2]) > 0 and int(row[5]) == 0 for row in rows)
    num_classes = {int(row[4]) for row in rows[:3]}
    assert len(num_classes) == 1
    assert min(num_classes) >= 6

    main(["preview", "-c", config, "--split", "test", "--index", "1", "--output", str(tmp_path / "one")])
    mixture, rate = soundfile.read(tmp_path / "one" / "mixture.wav")
    parts = [soundfile.read(path)[0] for path in (tmp_path / "one" / "sources").iterdir()]
    parts.append(soundfile.read(tmp_path / "one" / "background.wav")[0])
    assert rate == 4000
    np.testing.assert_allclose(sum(parts), mixture, atol=1e-6)
    recipe = json.loads((tmp_path / "one" / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["split"] == "test"
    assert recipe["index"] == 1

    main(["fit", "-c", config])
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def test_missing_recordings_are_reported_with_the_command_that_downloads_them(config_file, fsdkaggle, tmp_path, capsys):
    config = config_file(*fsdkaggle)
    audio = next(path for path in tmp_path.rglob("FSDKaggle2018.audio_train"))
    lost = sorted(audio.iterdir())[0]
    lost.unlink()
    for command in (["fit"], ["preview", "--output", str(tmp_path / "one")]):
        with pytest.raises(SystemExit) as stop:
            main([command[0], "-c", config, *command[1:]])
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert "1 of" in message
        assert lost.name in message
        assert "`tse-refine prepare`" in message
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_unlisted_files_are_reported_and_not_used(config_file, fsdkaggle, tmp_path, capsys):
    config = config_file(*fsdkaggle)
    audio = next(path for path in tmp_path.rglob("FSDKaggle2018.audio_test"))
    soundfile.write(audio / "00extra0.wav", np.zeros(100), 44_100)
    main(["prepare", "-c", config])
    assert "foregrounds: 1 other file is not used: 1 .wav (FSDKaggle2018.audio_test/00extra0.wav)" in (
        capsys.readouterr().out
    )


def test_rejected_recordings_are_counted_and_listed(config_file, manifest, manifest_table, capsys):
    (manifest_table.parent / "train clips" / "glass – 3.wav").write_text("not audio")
    main(["prepare", "-c", config_file(*manifest, skip_unusable=True)])
    out = capsys.readouterr().out
    row = next(line.split() for line in out.splitlines() if line.startswith("foregrounds  train"))
    assert row[5] == "1"
    assert "rejected.csv" in out


def test_recipes_are_written_read_back_and_mixed_alike(config_file, fsdkaggle, manifest, tmp_path, capsys):
    mixture = {"duration_seconds": 1.0, "event_seconds": [0.5, 0.8], "num_events": [0, 4]}
    mixture["num_interferers"] = [1, 2]
    config_file = partial(config_file, mixture=mixture, interferers=manifest[0])
    config = config_file(*fsdkaggle)
    for split in ("train", "val", "test"):
        main(["recipes", "-c", config, "--split", split, "--output", str(tmp_path / "scenes")])
    assert len(list((tmp_path / "scenes" / "jams" / "test").iterdir())) == 6
    targets = sorted((tmp_path / "scenes" / "jams" / "test").rglob("gt_events.csv"))
    is_alone = [path.read_text() == "label\n" for path in targets]  # background alone
    for index in (is_alone.index(True), is_alone.index(False)):
        for data in ({}, {"recipes": str(tmp_path / "scenes")}):
            out = tmp_path / f"{'read' if data else 'drawn'}{index}"
            words = ["--split", "test", "--index", str(index), "--output", str(out)]
            main(["preview", "-c", config_file(*fsdkaggle, **data), *words])
        drawn, read = (soundfile.read(tmp_path / f"{name}{index}" / "mixture.wav")[0] for name in ("drawn", "read"))
        np.testing.assert_allclose(read, drawn, atol=1e-5)
        assert is_alone[index] == (not any((out / "sources").iterdir()))
        assert any((out / "interferers").iterdir())
    main(["fit", "-c", config_file(*fsdkaggle, recipes=str(tmp_path / "scenes"))])
    with pytest.raises(SystemExit):
        main(["fit", "-c", config_file(*fsdkaggle, recipes=str(tmp_path / "scenes"), num_val=7), "--overwrite"])
    assert "data.num_val is 7, but" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["recipes", "-c", config, "--split", "test", "--output", str(tmp_path / "scenes")])
    assert "scenes/jams/test exists. Remove it or give another folder." in capsys.readouterr().err

    # questions in another order are other data, and a link of an earlier export is not kept
    read = config_file(*fsdkaggle, recipes=str(tmp_path / "scenes"))
    targets = tmp_path / "scenes" / "jams" / "test" / "00000000" / "gt_events.csv"
    digests = []
    for order in (1, -1):
        head, *labels = targets.read_text().split()
        targets.write_text("\n".join([head, *labels[::order]]) + "\n")
        main(["prepare", "-c", read])
        digests.append(capsys.readouterr().out.splitlines()[-1])
    assert digests[0] != digests[1]
    link = next((tmp_path / "scenes" / "foregrounds" / "test").rglob("*.wav"))
    recording = link.resolve()
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere.wav")
    shutil.rmtree(tmp_path / "scenes" / "jams" / "test")
    main(["recipes", "-c", config_file(*fsdkaggle), "--split", "test", "--output", str(tmp_path / "scenes")])
    assert link.resolve() == recording


def test_a_label_that_is_a_path_is_rejected(config_file, manifest, manifest_table, tmp_path, capsys):
    manifest_table.write_text(manifest_table.read_text(encoding="utf-8").replace(",glass,", ",../../glass,"))
    with pytest.raises(SystemExit):
        main(["recipes", "-c", config_file(*manifest), "--output", str(tmp_path / "a" / "b" / "scenes")])
    assert "cannot be the name of a folder" in capsys.readouterr().err
    assert not (tmp_path / "a" / "b" / "glass").exists()


def test_a_folder_that_cannot_be_written_is_reported(config_file, manifest, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for options, message in (
        (["--output", str(tmp_path / "file" / "x")], "file is not a folder"),
        (["--output", str(tmp_path / "x"), "--data.cache_dir", str(tmp_path / "file" / "c")], "Not a directory"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["preview", "-c", config_file(*manifest), *options])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
