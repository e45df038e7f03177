import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tse_refine.analysis.preview import write_preview
from tse_refine.data.corpora import SyntheticBackgrounds, SyntheticSounds
from tse_refine.data.corpora.base import Clip
from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError


def read(path: Path) -> np.ndarray:
    signal, sample_rate = soundfile.read(path, dtype="float32")
    assert sample_rate == 4000
    assert soundfile.info(path).subtype == "FLOAT"
    return signal


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("background_db", [-50.0, -10.0])  # at -10 dB the peak rule scales everything down
def test_background_and_sources_add_up_to_the_mixture_of_the_data_set(tiny_data, tmp_path, background_db):
    tiny_data.mixture = replace(tiny_data.mixture, background_db=background_db)
    write_preview(tiny_data, "test", 3, tmp_path / "preview")
    mixture = read(tmp_path / "preview" / "mixture.wav")
    batch = tiny_data.datasets["test"][0, 3]
    np.testing.assert_array_equal(mixture, batch["mixture"])
    assert (np.abs(mixture).max() > 0.999) == (background_db == -10.0)
    paths = sorted((tmp_path / "preview" / "sources").iterdir())
    assert len(paths) == batch["activity"].sum()
    parts = [read(path) for path in (tmp_path / "preview" / "background.wav", *paths)]
    assert all(np.abs(part).max() > 0.0 for part in parts)
    assert np.abs(np.sum(parts, axis=0) - mixture).max() < 1e-6


def test_the_json_file_holds_the_numbers_of_the_recipe(tiny_data, tmp_path):
    paths = write_preview(tiny_data, "test", 2, tmp_path / "preview")
    recipe = tiny_data.datasets["test"].recipe((0, 2))
    names = tiny_data.class_names
    described = json.loads((tmp_path / "preview" / "recipe.json").read_text(encoding="utf-8"))
    assert (described["split"], described["epoch"], described["index"]) == ("test", 0, 2)
    assert described["data_digest"] == tiny_data.digest
    assert described["sample_rate"] == 4000
    assert described["active_classes"] == [names[event.class_index] for event in recipe.events]
    assert described["training_query"] == [names[class_index] for class_index in recipe.query]
    events = [described["background"], *described["events"]]
    for entry, event in zip(events, (recipe.background, *recipe.events), strict=True):
        for field in ("start", "length", "onset"):
            assert entry[f"{field}_samples"] == getattr(event, field)
            assert entry[f"{field}_seconds"] == pytest.approx(getattr(event, field) / 4000)
        assert (entry["snr_db"], entry["gain"]) == (event.snr_db, event.gain)
    assert described["background"]["clip"].split("/")[1] == "test"
    for entry, event in zip(described["events"], recipe.events, strict=True):
        assert entry["class"] == names[event.class_index]
        assert entry["clip"].startswith(f"{entry['class']}/test/")
        source = read(tmp_path / "preview" / entry["file"])
        sounds = np.flatnonzero(source)
        assert entry["onset_samples"] <= sounds[0]
        assert sounds[-1] < entry["onset_samples"] + entry["length_samples"]
    expected = {"mixture.wav", "background.wav", "recipe.json", "mixture.png"}
    expected |= {entry["file"] for entry in described["events"]}
    assert files(tmp_path / "preview") == expected
    assert {path.relative_to(tmp_path / "preview").as_posix() for path in paths} == expected


def test_the_picture_is_a_png_of_a_readable_size(tiny_data, tmp_path):
    write_preview(tiny_data, "val", 0, tmp_path / "preview")
    header = (tmp_path / "preview" / "mixture.png").read_bytes()
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(header[start : start + 4], "big") for start in (16, 20))
    assert 1000 < width < 3000
    assert 500 < height < 2000
    assert len(header) > 20_000


def test_interferers_are_parts_of_their_own_and_rooms_are_named(tiny_data, tmp_path):
    data = MixtureDataModule(
        tiny_data.foregrounds,
        tiny_data.backgrounds,
        sample_rate=4000,
        mixture=replace(tiny_data.mixture, num_interferers=(2, 2)),
        interferers=SyntheticBackgrounds(2, 2, 2),
        impulse_responses=SyntheticBackgrounds(1, 1, 1),
        num_test=6,
        predict_indices=[],
        cache_dir=str(tiny_data.cache_dir),
    )
    paths = write_preview(data, "test", 0, tmp_path / "preview")
    described = json.loads((tmp_path / "preview" / "recipe.json").read_text(encoding="utf-8"))
    assert len(described["interferers"]) == 2
    (room,) = {entry["impulse_response"] for entry in (*described["events"], *described["interferers"])}
    assert room.split("/")[1:] == ["test", "0"]
    assert "impulse_response" not in described["background"]
    for entry, event in zip(described["interferers"], data.datasets["test"].recipe((0, 0)).interferers, strict=True):
        assert entry["clip"].startswith(f"{entry['label']}/test/")
        assert (entry["onset_samples"], entry["snr_db"]) == (event.onset, event.snr_db)
        assert entry["file"].startswith(f"interferers/{entry['label']}")
    parts = [read(path) for path in paths if path.suffix == ".wav" and path.name != "mixture.wav"]
    assert len(parts) == 1 + len(described["events"]) + 2
    assert np.abs(np.sum(parts, axis=0) - read(tmp_path / "preview" / "mixture.wav")).max() < 1e-6
    write_preview(data, "test", 1, tmp_path / "preview", overwrite=True)


def test_a_mixture_of_background_alone_has_no_sources(tiny_data, tmp_path):
    tiny_data.mixture = replace(tiny_data.mixture, num_events=(0, 3))
    recipes = tiny_data.make_recipes("test")
    index = next(index for index in range(6) if not recipes.draw(0, index).events)
    write_preview(tiny_data, "test", index, tmp_path / "preview")
    folder = tmp_path / "preview"
    assert files(folder) == {"mixture.wav", "background.wav", "recipe.json", "mixture.png"}
    np.testing.assert_array_equal(read(folder / "mixture.wav"), read(folder / "background.wav"))
    assert json.loads((folder / "recipe.json").read_text())["active_classes"] == []


def test_an_epoch_counts_where_training_mixtures_are_redrawn_only(tiny_data, tmp_path):
    def mixture(name: str, split: str, epoch: int) -> np.ndarray:
        write_preview(tiny_data, split, 1, tmp_path / name, epoch)
        return read(tmp_path / name / "mixture.wav")

    redrawn = mixture("redrawn", "train", 4)
    np.testing.assert_array_equal(redrawn, tiny_data.datasets["train"][4, 1]["mixture"])
    assert not np.array_equal(redrawn, mixture("first", "train", 0))
    np.testing.assert_array_equal(mixture("val_4", "val", 4), mixture("val_0", "val", 0))
    tiny_data.redraw = False
    np.testing.assert_array_equal(mixture("fixed", "train", 4), read(tmp_path / "first" / "mixture.wav"))
    assert json.loads((tmp_path / "fixed" / "recipe.json").read_text())["epoch"] == 0


@pytest.mark.parametrize(
    ("split", "index", "epoch", "message"),
    [
        ("dev", 0, 0, "--split is 'dev'; one of train, val, test"),
        ("test", 6, 0, "--index is 6; the mixtures of test run from 0 to 5"),
        ("train", -1, 0, "--index is -1; the mixtures of train run from 0 to 7"),
        ("train", 0, -1, "--epoch is -1"),
    ],
)
def test_a_mixture_that_does_not_exist_is_rejected(tiny_data, tmp_path, split, index, epoch, message):
    with pytest.raises(InputError, match=message):
        write_preview(tiny_data, split, index, tmp_path / "preview", epoch)
    assert not any(tmp_path.iterdir())


def test_an_earlier_preview_is_replaced_with_overwrite_only(tiny_data, tmp_path):
    output = tmp_path / "preview"
    output.mkdir()  # an empty folder is as good as none
    write_preview(tiny_data, "test", 0, output)
    first = files(output)
    with pytest.raises(InputError, match="holds a preview already"):
        write_preview(tiny_data, "test", 1, output)
    assert files(output) == first
    paths = write_preview(tiny_data, "test", 1, output, overwrite=True)
    assert files(output) == {path.relative_to(output).as_posix() for path in paths} != first


def test_a_folder_of_other_files_is_never_replaced(tiny_data, tmp_path):
    (tmp_path / "thesis.txt").write_text("five years")
    with pytest.raises(InputError, match="other files"):
        write_preview(tiny_data, "test", 0, tmp_path, overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        write_preview(tiny_data, "test", 0, tmp_path / "thesis.txt", overwrite=True)
    assert files(tmp_path) == {"thesis.txt"}


def test_an_error_leaves_nothing_half_written(tiny_data, tmp_path, monkeypatch):
    def disk_is_full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    write_preview(tiny_data, "test", 0, tmp_path / "earlier")
    before = files(tmp_path)
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", disk_is_full)  # the last file of all
    for name, overwrite in (("new", False), ("earlier", True)):
        with pytest.raises(OSError, match="no space left"):
            write_preview(tiny_data, "test", 1, tmp_path / name, overwrite=overwrite)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]


class OddlyNamed(SyntheticSounds):
    """Classes whose names are paths that lead elsewhere."""

    def clips(self) -> list[Clip]:
        return [replace(clip, label=f"../../{clip.label}$/") for clip in super().clips()]

    def read(self, clip: Clip, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, int]:
        return super().read(replace(clip, label=clip.name.split("/")[0]), start, stop)


def test_class_names_cannot_lead_out_of_the_folder(tiny_data, tmp_path):
    data = MixtureDataModule(
        OddlyNamed(2, 2, 2),
        tiny_data.backgrounds,
        sample_rate=4000,
        mixture=tiny_data.mixture,
        num_test=6,
        predict_indices=[],
        cache_dir=str(tiny_data.cache_dir),
    )
    output = tmp_path / "deep" / "preview"
    paths = write_preview(data, "test", 0, output)
    assert {path.relative_to(tmp_path).as_posix() for path in paths} == files(tmp_path)
    described = json.loads((output / "recipe.json").read_text(encoding="utf-8"))
    assert {entry["class"] for entry in described["events"]} < set(data.class_names)
    assert all((output / entry["file"]).parent == output / "sources" for entry in described["events"])


def test_without_matplotlib_the_extra_is_named(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"tse-refine\[report\]"):
        write_preview(tiny_data, "test", 0, tmp_path / "preview")
    assert not any(tmp_path.iterdir())


def test_a_folder_that_holds_more_than_a_preview_is_never_replaced(tiny_data, tmp_path):
    write_preview(tiny_data, "test", 0, tmp_path / "preview")
    (tmp_path / "preview" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files than those of a preview"):
        write_preview(tiny_data, "test", 1, tmp_path / "preview", overwrite=True)
    assert (tmp_path / "preview" / "notes.txt").read_text() == "mine"
