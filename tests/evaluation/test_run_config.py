import sys
from importlib import import_module

import pytest

from tse_refine.data.datamodule import MixtureDataModule
from tse_refine.errors import InputError
from tse_refine.evaluation import run_config
from tse_refine.evaluation.run_config import build_corpora, build_data, data_of_run, import_plugin, update_config


@pytest.fixture
def data_options(cache_dir):
    """The data part of a configuration that an earlier version saved."""
    corpora = "tse_refine.data.corpora."
    instances = {"train_instances": 1, "val_instances": 1, "test_instances": 1}
    return {
        "foregrounds": {"class_path": f"{corpora}EmbeddedSounds", "init_args": instances},
        "backgrounds": {"class_path": f"{corpora}EmbeddedBackgrounds", "init_args": instances},
        "sample_rate": 4000,
        "mixture": {"duration_seconds": 1.0, "event_seconds": [0.5, 0.8]},
        "num_test": 4,
        "cache_dir": str(cache_dir),
        "predict_indices": [7],
        "digest": "0123456789abcdef",
        "download": True,
    }


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A module in the current folder, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    (tmp_path / "own_corpora.py").write_text("from tse_refine.data.corpora import SyntheticSounds as OwnSounds\n")
    yield "own_corpora"
    sys.modules.pop("own_corpora", None)


def test_renamed_classes_are_updated_at_any_depth_with_one_hint_each(monkeypatch, capsys):
    monkeypatch.setattr(run_config, "hinted", set())
    logger = {"class_path": "tse_refine.csv_logger.RunCSVLogger", "init_args": {"save_dir": None}}
    sounds = {"class_path": "tse_refine.data.corpora.EmbeddedSounds"}
    config = {"trainer": {"logger": [logger, logger]}, "data": {"foregrounds": sounds, "sample_rate": 8000}}
    updated = update_config(config)
    assert [one["class_path"] for one in updated["trainer"]["logger"]] == ["tse_refine.RunCSVLogger"] * 2
    assert updated["data"] == {
        "foregrounds": {"class_path": "tse_refine.data.corpora.SyntheticSounds"},
        "sample_rate": 8000,
    }
    assert config["trainer"]["logger"][0] is logger  # what was given is left as it is
    assert logger["class_path"] == "tse_refine.csv_logger.RunCSVLogger"
    update_config(config)
    hints = capsys.readouterr().err.splitlines()
    assert len(hints) == 2
    assert hints[0].endswith("tse_refine.csv_logger.RunCSVLogger is now called tse_refine.RunCSVLogger.")
    assert hints[1].endswith("corpora.EmbeddedSounds is now called tse_refine.data.corpora.SyntheticSounds.")


def test_every_renamed_class_exists():
    for new in run_config.RENAMED_CLASSES.values():
        module, name = new.rsplit(".", 1)
        assert getattr(import_module(module), name)


def test_the_data_of_an_old_run_are_built_again(data_options):
    data = data_of_run({"data": data_options})
    assert isinstance(data, MixtureDataModule)
    assert len(data.class_names) == 12
    assert data.sizes["test"] == 4
    assert data.expected_digest is None  # whoever rebuilds compares results instead
    assert data.predict_indices == [0, 1, 2, 3]
    assert data_options["predict_indices"] == [7]


def test_changes_replace_options(data_options):
    data = build_data({"data": data_options}, predict_indices=[1], num_test=2, download=False)
    assert (data.sizes["test"], data.predict_indices, data.expected_digest) == (2, [1], "0123456789abcdef")


def test_corpora_are_those_that_a_configuration_has(data_options):
    assert [type(corpus).__name__ for corpus in build_corpora({"data": data_options})] == [
        "SyntheticSounds",
        "SyntheticBackgrounds",
    ]
    others = {"backgrounds": None, "interferers": data_options["backgrounds"]}
    corpora = build_corpora({"data": data_options | others})
    assert [type(corpus).__name__ for corpus in corpora] == ["SyntheticSounds", "SyntheticBackgrounds"]
    assert len(build_corpora({"data": data_options | {"backgrounds": None}})) == 1


def test_options_that_do_not_exist_are_rejected(data_options):
    with pytest.raises(InputError, match=r"data options of the configuration cannot be used: .*num_tset"):
        data_of_run({"data": data_options | {"num_tset": 3}})


def test_a_plugin_in_the_current_folder_is_imported_first(plugin, data_options):
    options = data_options | {"foregrounds": {"class_path": "own_corpora.OwnSounds"}}
    assert len(data_of_run({"data": options, "plugins": [plugin]}).class_names) == 12
    assert plugin in sys.modules


@pytest.mark.parametrize("name", ["no_such_module", "os.no_such_module", "", "broken_plugin"])
def test_a_plugin_that_cannot_be_imported_is_rejected(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_plugin.py").write_text("import no_such_module")
    with pytest.raises(InputError, match=rf"^plugins: the module '{name}' cannot be imported \("):
        import_plugin(name)
