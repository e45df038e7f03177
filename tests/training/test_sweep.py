import csv
import sys
from pathlib import Path

import pytest
import yaml

from tests.fixtures.commands import Runner
from tse_refine.cli.main import main
from tse_refine.cli.trainer import TrainerCLI
from tse_refine.cli.trainer_options import command_parser
from tse_refine.errors import InputError
from tse_refine.training.sweep import read_sweep, run_sweep

SWEEPS = sorted(Path("configs/sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=[path.stem for path in SWEEPS])
def test_every_command_of_every_sweep_parses_and_one_runs_a_batch(path, tiny_config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    sweep = read_sweep(path)
    settings = list(sweep.settings())
    assert len({str(one) for one in settings}) == len(settings) > 3
    settings = [settings[0], settings[len(settings) // 2], settings[-1]]
    trains = sweep.command[1] == "fit"
    if not trains:  # it tests a checkpoint of the demo's: give it one
        main(["fit", "-c", str(tiny_config_file)])
    tiny = ["-c", str(tiny_config_file), f"--trainer.default_root_dir={tmp_path / 'one'}"]
    tiny += ["--trainer.callbacks", "null"]
    ran = []
    run = TrainerCLI.run

    def parse_only(cli):
        ran.append(cli.config)
        if len(ran) == 1:
            cli.trainer.limit_train_batches = cli.trainer.limit_val_batches = cli.trainer.limit_test_batches = 1
            run(cli)

    monkeypatch.setattr(TrainerCLI, "run", parse_only)
    for one in settings:
        words = sweep.words(one)[1:]
        if not trains:
            given = {"runs/demo/config.yaml": str(tmp_path / "run" / "config.yaml")}
            words = [given.get(word, word) for word in words if not word.startswith("--ckpt_path")]
            words += ["--ckpt_path", str(tmp_path / "run" / "checkpoints" / "best.ckpt")]
        main([*words, *tiny, *(["--overwrite"] if trains else [])])
    for one, config in zip(settings, ran, strict=True):  # the values arrived
        for name, value in one.items():
            assert config.get(name) == pytest.approx(value)
    split = "checkpoints" if trains else "test"
    assert (tmp_path / "one" / split).exists()


@pytest.fixture
def sweep_file(tmp_path):
    def write(**changes):
        given = {
            "command": ["tse-refine", "fit", f"--trainer.default_root_dir={tmp_path / 'sweep'}", "${args}"],
            "method": "grid",
            "metric": {"name": "val/snri_db/1a3i/refined", "goal": "maximize"},
            "parameters": {"model.loss_weight": {"values": [1, 10]}, "seed_everything": {"values": [0, 1]}},
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(given | changes))
        return path

    return write


class Runs(Runner):
    """Commands that leave a checkpoint, as a training does."""

    def __call__(self, words):
        super().__call__(words)
        folder = Path(next(w for w in words if w.startswith("--trainer.default_root_dir=")).split("=", 1)[1])
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / "last.ckpt").touch()
        weight = float(folder.name.split("loss_weight=")[1].split(",")[0])
        (folder / "metrics.csv").write_text(f"epoch,val/snri_db/1a3i/refined\n0,{weight}\n1,\n2,{weight / 2}\n")


def test_a_sweep_runs_each_setting_once_and_writes_the_best_epoch(sweep_file):
    runs = Runs()
    table = run_sweep(sweep_file(), run=runs)
    assert [words[1] for words in runs.commands] == ["fit", "test"] * 4
    assert "--model.loss_weight=10" in runs.commands[4]
    assert "--seed_everything=0" in runs.commands[4]
    assert "--overwrite" in runs.commands[4]
    with open(table) as file:
        rows = list(csv.DictReader(file))
    assert [(row["model.loss_weight"], row["seed_everything"]) for row in rows] == [
        ("1", "0"),
        ("1", "1"),
        ("10", "0"),
        ("10", "1"),
    ]
    assert [float(row["val/snri_db/1a3i/refined"]) for row in rows] == [1.0, 1.0, 10.0, 10.0]
    assert len({row["run"] for row in rows}) == 4


def test_an_interrupted_sweep_is_resumed(sweep_file):
    with pytest.raises(InputError, match="the run failed"):
        run_sweep(sweep_file(), run=Runs(fails_at=3))  # the second run's test
    rest = Runs()
    run_sweep(sweep_file(), run=rest)
    assert [words[1] for words in rest.commands] == ["fit", "test"] * 3
    assert any(word.startswith("--ckpt_path=") for word in rest.commands[0])  # its training resumes
    again = Runs()
    run_sweep(sweep_file(), run=again)
    assert again.commands == []


def test_a_random_search_draws_within_bounds_and_the_same_again(sweep_file):
    parameters = {
        "model.loss_weight": {"distribution": "log_uniform_values", "min": 1.0, "max": 1000.0},
        "evaluation.threshold": {"min": 0.1, "max": 0.5},
        "seed_everything": {"min": 0, "max": 3},
        "data.batch_size": {"value": 8},
    }
    sweep = read_sweep(sweep_file(method="random", run_cap=200, parameters=parameters))
    drawn = list(sweep.settings())
    assert drawn == list(sweep.settings())
    assert drawn != list(sweep.settings(seed=1))
    weights = sorted(one["model.loss_weight"] for one in drawn)
    assert 1.0 <= weights[0] < weights[-1] <= 1000.0
    assert 15.0 < weights[100] < 65.0  # the median of a log-uniform draw is near 32
    assert all(0.1 <= one["evaluation.threshold"] <= 0.5 for one in drawn)
    assert {one["seed_everything"] for one in drawn} == {0, 1, 2, 3}
    assert {one["data.batch_size"] for one in drawn} == {8}


@pytest.mark.parametrize(
    ("command", "program", "words"),
    [
        (["${env}", "${program}", "fit", "${args}"], "tse-refine", ["tse-refine", "fit", "--a.b=1", "--c=x"]),
        (
            ["${env}", "${interpreter}", "-m", "tse_refine", "fit", "${args}"],
            None,
            [sys.executable, "-m", "tse_refine", "fit", "--a.b=1", "--c=x"],
        ),
        (
            ["${interpreter}", "${program}", "${args_no_hyphens}"],
            "own.py",
            [sys.executable, "own.py", "a.b=1", "c=x"],
        ),
    ],
)
def test_macros_stand_for_what_the_agent_of_wandb_puts_there(sweep_file, tmp_path, command, program, words):
    command = [*command, f"--trainer.default_root_dir={tmp_path}"]
    parameters = {"a.b": {"value": 1}, "c": {"value": "x"}}
    sweep = read_sweep(sweep_file(command=command, parameters=parameters, program=program))
    assert sweep.words(next(sweep.settings())) == words


def test_a_training_by_another_program_is_tested_by_it_too(sweep_file, tmp_path):
    command = [
        "${interpreter}",
        "-m",
        "tse_refine",
        "fit",
        f"--trainer.default_root_dir={tmp_path / 'sweep'}",
        "${args}",
    ]
    runs = Runs()
    run_sweep(sweep_file(command=command, parameters={"model.loss_weight": {"value": 1}}), run=runs)
    assert [words[:4] for words in runs.commands] == [
        [sys.executable, "-m", "tse_refine", name] for name in ("fit", "test")
    ]


def test_values_reach_the_command_as_it_reads_them(sweep_file):
    values = {
        "model.network.classifier": None,
        "evaluation.thresholds": ["none", 0.3, "soft:0.2-0.6"],
        "model.network.sinusoidal_filters": True,
        "model.learning_rate": 1e-05,
        "trainer.logger": False,
        "name": "Mine: a # b",
    }
    sweep = read_sweep(sweep_file(parameters={name: {"value": value} for name, value in values.items()}))
    (settings,) = sweep.settings()
    config = command_parser("fit").parse_args(
        ["-c", "data/synthetic", *(word for word in sweep.words(settings) if word.startswith("--"))]
    )
    assert {name: config[name] for name in values} == values


ALIKE = [None, "None", "none", "a/b", "a:b", "a_b", "A_b", [1, 2], ["1, 2"], "ä", "ö", {"a": None}, "x" * 400]


def test_settings_that_differ_have_folders_that_differ_also_without_case(sweep_file):
    class Empty(Runner):
        def __call__(self, words):
            super().__call__(words)
            folder = Path(next(w for w in words if w.startswith("--trainer.default_root_dir=")).split("=", 1)[1])
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            (folder / "metrics.csv").write_text("epoch\n0\n")

    runs = Empty()
    long = {f"data.option_{number}": {"value": number} for number in range(60)}
    with open(run_sweep(sweep_file(parameters={"model.option": {"values": ALIKE}, **long}), run=runs)) as table:
        rows = list(csv.DictReader(table))
    names = [Path(row["run"]).name for row in rows]
    assert len({name.lower() for name in names}) == len(ALIKE) == len(runs.commands) / 2
    assert max(len(name.encode()) for name in names) <= 200
    assert all(name.startswith("option_0=0,") for name in names)
    assert [row["model.option"] for row in rows][:3] == ["null", "None", "none"]


def test_settings_drawn_twice_are_one_run(sweep_file):
    runs = Runs()
    parameters = {"model.loss_weight": {"values": [1, 10]}}
    with open(run_sweep(sweep_file(method="random", run_cap=9, parameters=parameters), run=runs)) as table:
        rows = list(csv.DictReader(table))
    assert {row["model.loss_weight"] for row in rows} == {"1", "10"}
    assert len(rows) == 2
    assert [words[1] for words in runs.commands] == ["fit", "test"] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayes"}, "bayes needs W&B's server"),
        ({"method": "random"}, "needs run_cap"),
        ({"command": ["tse-refine", "fit", "--trainer.default_root_dir=x"]}, r"lacks \$\{args\}"),
        ({"command": ["tse-refine", "fit", "${args}"]}, "lacks --trainer.default_root_dir=FOLDER"),
        ({"command": ["${json}", "fit", "--trainer.default_root_dir=x", "${args}"]}, "of W&B's macros only"),
        ({"command": ["a", "fit", "--trainer.default_root_dir=${envvar:X}", "${args}"]}, "each as a word of its own"),
        ({"command": ["${program}", "fit", "--trainer.default_root_dir=x", "${args}"]}, "program"),
        ({"parameters": {"model": {"parameters": {"loss_weight": {"value": 1}}}}}, "such as model.loss_weight"),
        ({"parameters": {"a": {"min": 0, "max": 1}}}, "a grid cannot run over the distribution of a"),
        ({"parameters": {"a": {}}}, "has no value, values, or min and max"),
        ({"metric": None}, "metric is None; named values are expected. Expected is a sweep file"),
    ],
)
def test_sweeps_that_cannot_run_here_are_rejected(sweep_file, changes, message):
    with pytest.raises(InputError, match=rf"sweep\.yaml: .*{message}"):
        read_sweep(sweep_file(**changes))


def test_runs_of_wandbs_agent_have_folders_of_their_own_and_are_tested(tiny_config_file, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    for name in ("first", "second"):
        monkeypatch.setenv("WANDB_RUN_ID", name)
        main(["fit", "-c", str(tiny_config_file), "--trainer.limit_train_batches", "1"])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"first", "second"}
    for name in ("first", "second"):
        assert (tmp_path / "run" / name / "trained.json").exists()
        assert (tmp_path / "run" / name / "test" / "results.csv").exists()
