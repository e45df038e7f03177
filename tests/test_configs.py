"""Every file in configs/ is what it says: it parses, alone or with the files its header names."""

from pathlib import Path

import pytest

from tse_refine.cli.main import main
from tse_refine.cli.trainer import RefinementCLI

CONFIGS = Path("configs")
EXPERIMENTS = sorted(path.name for path in CONFIGS.glob("*.yaml"))
MODELS = sorted(path.name for path in (CONFIGS / "model").glob("*.yaml"))
DATA = sorted(path.name for path in (CONFIGS / "data").glob("*.yaml"))
LOGGERS = sorted(path.name for path in (CONFIGS / "logger").glob("*.yaml"))


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """Run `fit` up to the trainer's start; return trainer, module and data module."""
    taken = {}

    def take(cli, subcommand):
        taken.update(trainer=cli.trainer, module=cli.model, data=cli.datamodule)

    monkeypatch.setattr(RefinementCLI, "_run_subcommand", take)

    def parse(*files: str, words: tuple[str, ...] = ()):
        configs = [word for file in files for word in ("-c", str(CONFIGS / file))]
        main(["fit", *configs, "--trainer.default_root_dir", str(tmp_path), *words])
        return taken

    return parse


@pytest.fixture
def esc50_words(tmp_path):
    """Options that give the ESC-50 configs a folder with a table."""
    names = [
        "airplane",
        "engine",
        "train",
        "vacuum_cleaner",
        "washing_machine",
        "wind",
        "chainsaw",
        "clock_tick",
        "crackling_fire",
    ]
    names += ["crying_baby", "dog", "helicopter", "rain", "rooster", "sea_waves", "sneezing"]
    rows = [
        f"{fold}-{fold}{label:02d}-A-{label}.wav,{fold},{label},{name},False,{fold}{label:02d},A"
        for label, name in enumerate(names)
        for fold in range(1, 6)
    ]
    (tmp_path / "meta").mkdir()
    table = tmp_path / "meta" / "esc50.csv"
    table.write_text("\n".join(["filename,fold,target,category,esc10,src_file,take", *rows]))
    return tuple(f"--data.{role}.init_args.root={tmp_path}" for role in ("foregrounds", "backgrounds"))


def test_configs_are_where_they_belong():
    assert {"proposed.yaml", "baseline1.yaml", "baseline2.yaml", "demo.yaml", "esc10_cpu.yaml"} <= set(EXPERIMENTS)
    assert set(MODELS) == {"paper.yaml", "paper_wide.yaml", "small.yaml"}
    assert set(DATA) == {
        *("embedded.yaml", "esc50.yaml", "fsdkaggle2018.yaml", "fsd50k.yaml", "folders.yaml", "manifest.yaml"),
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("experiment", ["proposed.yaml", "baseline1.yaml", "baseline2.yaml"])
@pytest.mark.parametrize("experiment_first", [True, False])
def test_experiments_stack_on_every_model_in_any_order(parsed, experiment, model, experiment_first):
    files = [experiment, f"model/{model}"]
    built = parsed(*(files if experiment_first else files[::-1]), "data/embedded.yaml")
    is_baseline = experiment.startswith("baseline")
    assert (built["module"].network.classifier is None) == is_baseline
    assert built["data"].queries.inactive_sample_rate == (0.1 if experiment == "baseline2.yaml" else 0.0)
    assert built["module"].loss_weight == 10.0


@pytest.mark.parametrize("experiment", ["proposed.yaml", "baseline1.yaml", "baseline2.yaml"])
@pytest.mark.parametrize("budget_first", [True, False])
def test_a_budget_leaves_the_experiment_what_it_is(parsed, experiment, budget_first):
    files = ["demo.yaml", experiment] if budget_first else [experiment, "demo.yaml"]
    built = parsed(*files, "model/small.yaml", "data/embedded.yaml")
    assert (built["module"].network.classifier is None) == experiment.startswith("baseline")
    assert built["module"].loss_weight == 100.0
    assert built["data"].sample_rate == 8000


@pytest.mark.parametrize("logger", LOGGERS)
def test_loggers(parsed, logger, tmp_path):
    built = parsed("proposed.yaml", "model/small.yaml", "data/embedded.yaml", f"logger/{logger}")
    kinds = [type(one).__name__ for one in built["trainer"].loggers]
    assert kinds == (["RunCSVLogger", "WandbLogger"] if logger == "wandb.yaml" else ["RunCSVLogger"])
    assert Path(built["trainer"].loggers[0].log_dir) == tmp_path


def test_demo(parsed):
    built = parsed("proposed.yaml", "model/small.yaml", "data/embedded.yaml", "demo.yaml")
    assert built["data"].sizes["test"] >= 200
    assert len(built["data"].class_names) >= 12


def test_esc50(parsed, esc50_words):
    built = parsed("proposed.yaml", "model/small.yaml", "data/esc50.yaml", words=esc50_words)
    assert len(built["data"].class_names) == 10


def corpus_words(option, foregrounds, backgrounds):
    """Options that give the corpora of a data config their folders or tables."""
    paths = {"foregrounds": foregrounds, "backgrounds": backgrounds}
    return tuple(f"--data.{role}.init_args.{option}={path}" for role, path in paths.items())


def test_fsdkaggle2018_is_a_fixed_set_of_the_published_size(parsed, fsdkaggle2018_root, tau2019_root):
    words = corpus_words("root", fsdkaggle2018_root, tau2019_root)
    built = parsed("proposed.yaml", "model/paper.yaml", "data/fsdkaggle2018.yaml", words=words)
    assert built["data"].sizes == {"train": 50_000, "val": 5_000, "test": 10_000}
    assert built["data"].sample_rate == 16_000
    assert not built["data"].redraw
    assert built["data"].backgrounds.test_set == "evaluation"


def test_fsd50k(parsed, fsd50k_root, tau2019_root):
    words = corpus_words("root", fsd50k_root, tau2019_root)
    built = parsed("proposed.yaml", "model/small.yaml", "data/fsd50k.yaml", words=words)
    assert len(built["data"].class_names) == 12


def test_folders(parsed, label_folders_root):
    words = corpus_words("root", label_folders_root, label_folders_root)
    built = parsed("proposed.yaml", "model/small.yaml", "data/folders.yaml", words=words)
    assert len(built["data"].class_names) == 6


def test_manifest(parsed, manifest_table):
    words = corpus_words("table", manifest_table, manifest_table)
    built = parsed("proposed.yaml", "model/small.yaml", "data/manifest.yaml", words=words)
    assert "Türklingel" in built["data"].class_names
    assert {clip.label for clip in built["data"].backgrounds.clips()} == {"street"}


def test_esc10_cpu(parsed, esc50_words):
    built = parsed("proposed.yaml", "model/small.yaml", "data/esc50.yaml", "esc10_cpu.yaml", words=esc50_words)
    assert built["data"].foregrounds.split_of_fold == {1: "train", 2: "train", 3: "val", 4: "test"}
