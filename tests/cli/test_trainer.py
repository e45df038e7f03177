"""Options of Lightning's commands: the run's folder, its name, plugins, the corpora's root, old configs."""

import sys
from pathlib import Path

import pytest
import yaml

from tse_refine.cli.main import main
from tse_refine.cli.trainer import TrainerCLI
from tse_refine.cli.trainer_options import read_data
from tse_refine.evaluation import run_config

DEMO = ("-c", "model/small", "-c", "data/synthetic", "-c", "budget/demo")


@pytest.fixture
def options(monkeypatch, tmp_path):
    """Return the options that a command would run with, from an empty folder."""
    monkeypatch.chdir(tmp_path)
    settled = []
    monkeypatch.setattr(TrainerCLI, "run", lambda cli: settled.append(cli.config))

    def parse(command: str, *words: str):
        main([command, *words])
        return settled.pop()

    return parse


@pytest.fixture
def label_folders(label_folders_root):
    """A config whose corpora name no folder that exists."""
    config = label_folders_root.parent / "labels.yaml"
    corpus = {"class_path": "tse_refine.data.corpora.LabelFolders", "init_args": {"root": "nowhere"}}
    config.write_text(yaml.safe_dump({"data": {"foregrounds": corpus, "backgrounds": corpus}}))
    return str(config)


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (("-c", "experiment/proposed", *DEMO), "runs/demo"),
        ((*DEMO, "-c", "experiment/proposed"), "runs/demo"),
        (("-c", "experiment/baseline1", *DEMO), "runs/demo_baseline1"),
        ((*DEMO, "-c", "experiment/baseline1"), "runs/demo_baseline1"),
        (("-c", "experiment/baseline2", *DEMO[:4]), "runs/baseline2"),
        (("-c", "experiment/proposed", *DEMO[:4]), "runs/proposed"),
        (("--name", "Mine, wider", *DEMO), "runs/demo_minewider"),
        (DEMO[:4], "runs/default"),
        (("-c", "experiment/proposed", *DEMO, "--trainer.default_root_dir", "here"), "here"),
    ],
)
def test_the_folder_follows_from_experiment_and_budget_in_any_order(options, words, folder):
    config = options("fit", *words)
    assert config.trainer.default_root_dir == folder
    assert config.checkpoint.dirpath == f"{folder}/checkpoints"


def test_a_test_looks_for_the_checkpoint_in_the_same_folder(options, refusal):
    words = ("test", "-c", "experiment/baseline1", *DEMO)
    assert "runs/demo_baseline1/checkpoints/best.ckpt does not exist" in refusal(main, words)


def test_a_run_saves_its_name_its_budget_and_its_plugins(tiny_config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_rules.py").write_text("")
    words = ["--name", "Mine", "--budget", "tiny", "--plugins", "own_rules", "--trainer.limit_train_batches", "1"]
    main(["fit", "-c", str(tiny_config_file), *words])
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (saved["name"], saved["budget"], saved["plugins"]) == ("Mine", "tiny", ["own_rules"])
    assert "root" not in saved["data"]
    sys.modules.pop("own_rules")
    main(["test", "-c", str(tmp_path / "run" / "config.yaml")])
    assert "own_rules" in sys.modules
    assert yaml.safe_load((tmp_path / "run" / "test" / "config.yaml").read_text())["name"] == "Mine"


@pytest.mark.parametrize("way", ["words", "config"])
def test_classes_of_a_plugin_can_be_named_in_options(options, tmp_path, way):
    Path(f"corpora_by_{way}.py").write_text(
        "from tse_refine.data.corpora import SyntheticSounds\n\n\nclass Barks(SyntheticSounds):\n    pass\n"
    )
    words = ["--plugins", f"corpora_by_{way}", "--data.foregrounds", f"corpora_by_{way}.Barks"]
    if way == "config":
        config = {"data": {"foregrounds": {"class_path": f"corpora_by_{way}.Barks"}}, "plugins": [f"corpora_by_{way}"]}
        Path("own.yaml").write_text(yaml.safe_dump(config))
        words = ["-c", "own.yaml"]
    config = options("fit", "-c", "experiment/proposed", *DEMO, *words)
    assert config.data.foregrounds.class_path == f"corpora_by_{way}.Barks"


@pytest.mark.parametrize("words", [("--plugins", "no_such_module"), ("-c", '{"plugins": ["no_such_module"]}')])
def test_a_plugin_that_cannot_be_imported_is_rejected_in_one_paragraph(refusal, words):
    assert "plugins: the module 'no_such_module' cannot be imported" in refusal(main, ("fit", *DEMO, *words))


def test_one_root_serves_both_corpora(label_folders, label_folders_root, options):
    words = ("-c", label_folders, "--data.root", str(label_folders_root))
    for order in (words, words[2:] + words[:2]):
        data = options("fit", "-c", "experiment/proposed", *order).data
        roots = [data[corpus].init_args.root for corpus in ("foregrounds", "backgrounds")]
        assert roots == [str(label_folders_root)] * 2
        assert "root" not in data
    assert len(read_data(list(words)).class_names) == 6


def test_corpora_without_a_root_reject_one(refusal):
    text = refusal(main, ("fit", *DEMO, "--data.root", "somewhere"))
    assert "data.root is somewhere, but tse_refine.data.corpora.SyntheticSounds has no init_args.root" in text


def test_the_data_alone_are_built_from_checked_options(tiny_config_file, refusal):
    words = ["-c", str(tiny_config_file)]
    assert read_data(words, num_test=5).sizes["test"] == 5
    assert "did you mean 'model.loss_weight'" in refusal(read_data, [*words, "--model.los_weight", "3"])
    assert "model.loss_weight" in refusal(read_data, [*words, "--model.loss_weight", "heavy"])


def test_a_config_that_an_earlier_version_saved_still_tests(tiny_config_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_config, "hinted", set())
    main(["fit", "-c", str(tiny_config_file)])
    config = tmp_path / "run" / "config.yaml"
    text = config.read_text().replace("tse_refine.RunCSVLogger", "tse_refine.csv_logger.RunCSVLogger")
    text = text.replace("SyntheticSounds", "EmbeddedSounds").replace("SyntheticBackgrounds", "EmbeddedBackgrounds")
    old = yaml.safe_load(text)
    for added in ("name", "budget", "plugins"):
        del old[added]
    config.write_text(yaml.safe_dump(old))
    capsys.readouterr()
    main(["test", "-c", str(config)])
    hints = [line for line in capsys.readouterr().err.splitlines() if "is now called" in line]
    assert {line.split(" is now called ")[1] for line in hints} == {
        "tse_refine.RunCSVLogger.",
        "tse_refine.data.corpora.SyntheticSounds.",
        "tse_refine.data.corpora.SyntheticBackgrounds.",
    }
    assert len(hints) == 3
    tested = yaml.safe_load((tmp_path / "run" / "test" / "config.yaml").read_text())
    assert tested["data"]["digest"] == old["data"]["digest"]
    assert tested["data"]["foregrounds"]["class_path"] == "tse_refine.data.corpora.SyntheticSounds"
    main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "report")])
    assert (tmp_path / "report" / "summary.txt").exists()


def test_a_progress_bar_of_a_budget_can_be_switched_off(tiny_config_file, tmp_path):
    words = ["fit", "-c", "budget/demo", "-c", str(tiny_config_file), "--trainer.enable_progress_bar=false"]
    main([*words, "--trainer.callbacks+=lightning.pytorch.callbacks.LearningRateMonitor"])
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert [part["class_path"].rsplit(".")[-1] for part in saved["trainer"]["callbacks"]] == ["LearningRateMonitor"]


@pytest.mark.parametrize(("command", "word"), [("fit", "--ckpt_path"), ("predict", "--return_predictions")])
def test_help_explains_every_option(command, word, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code in (0, None)
    text = capsys.readouterr().out
    assert text.startswith(f"usage: tse-refine {command} ")
    for option in (word, "--plugins", "--name", "--data.root", "--model.loss_weight", "--evaluation.threshold"):
        assert f"  {option}" in text
    assert "Folder of the run; by default the one that --budget" in " ".join(text.split())
    assert "0x" not in text  # an address of an object that has no name
