import csv
import math
import re
import shutil
import time
from types import SimpleNamespace

import pytest
import wandb
import yaml

from tse_refine.analysis.sweeps import by_value, read_sweep_folder, read_wandb_sweep
from tse_refine.cli.main import main
from tse_refine.cli.trainer import TrainerCLI
from tse_refine.errors import InputError
from tse_refine.evaluation.results import CLASSIFICATION_COLUMNS

REFINED = "val/snri_db/1a3i/refined"


@pytest.fixture
def sweep_folder(tiny_runs, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(tiny_runs, tmp_path / "sweep")


class Summary:
    """A run's summary as W&B returns it: like a dict, but not one."""

    def __init__(self, values):
        self._values = values

    def items(self):
        yield from self._values.items()


class Api:
    """Returns what ``wandb.Api`` does, for the runs of a folder; options are nested in one run and flat in another."""

    def __init__(self, runs, failure=None):
        self.runs = runs
        self.failure = failure
        self.paths = []

    def sweep(self, path):
        self.paths.append(path)
        if self.failure is not None:
            raise self.failure
        config = {"method": "grid", "parameters": {"model.loss_weight": {}, "seed_everything": {}}}
        return SimpleNamespace(config=config, runs=self.runs)


def wandb_runs(folder):
    online = []
    for number, run in enumerate(read_sweep_folder(folder)):
        config = {"data": {"batch_size": 4}, "trainer": {"default_root_dir": str(run.folder)}}
        if number % 2:
            config["model"] = {"loss_weight": run.settings["model.loss_weight"]}
        else:
            config["model.loss_weight"] = run.settings["model.loss_weight"]
        config["seed_everything"] = run.settings["seed_everything"]
        config["loss_weight"] = run.settings["model.loss_weight"]  # the module's hyper-parameter
        summary = {**run.metrics, "epoch": 1, "_step": 2, "train/loss": 1.0, "_wandb": {"runtime": 9}}
        online.append(SimpleNamespace(name=f"ruby-sweep-{number}", config=config, summary=Summary(summary)))
    return online


def test_a_folder_is_read_as_settings_and_metrics(tiny_runs):
    runs = read_sweep_folder(tiny_runs)
    # by the sweep's own table: paths, digests and other options that are the same in all runs are no settings
    assert [dict(run.settings) for run in runs] == [
        {"model.loss_weight": weight, "seed_everything": seed} for weight in (1.0, 100.0) for seed in (0, 1)
    ]
    assert [run.name for run in runs] == [
        f"loss_weight={weight},seed_everything={seed}" for weight in (1.0, 100.0) for seed in (0, 1)
    ]
    with open(tiny_runs / "sweep.csv", newline="") as file:
        table = {row["run"]: float(row[REFINED]) for row in csv.DictReader(file)}
    assert {str(run.folder): run.metrics[REFINED] for run in runs} == pytest.approx(table)


def test_metrics_from_files_are_those_that_are_logged(tiny_runs, tmp_path, monkeypatch):
    """A test of the same checkpoint with another operating threshold logs what its files are read as."""
    first = read_sweep_folder(tiny_runs)[0].folder
    again = tmp_path / "sweep" / "again"
    shutil.copytree(first, again, ignore=shutil.ignore_patterns("test"))
    logged = {}
    run = TrainerCLI.run

    def run_and_keep(cli):
        run(cli)
        logged.update({name: float(value) for name, value in cli.trainer.logged_metrics.items()})

    monkeypatch.setattr(TrainerCLI, "run", run_and_keep)
    options = ["--trainer.default_root_dir", str(again), "--evaluation.threshold", "0.5"]
    main(["test", "-c", str(again / "config.yaml"), *options])
    (run,) = read_sweep_folder(tmp_path / "sweep")
    tested = {name: value for name, value in run.metrics.items() if name.startswith("test/")}
    assert tested == pytest.approx(logged, abs=1e-5)
    assert len(tested) > 100
    assert tested["test/snri_db/1a3i/refined"] == tested["test/snri_db/1a3i/delta_0p5"]
    assert tested["test/snri_db/1a3i/refined"] != tested["test/snri_db/1a3i/delta_0p1"]
    with open(again / "metrics.csv", newline="") as file:
        names = {name for name in next(csv.reader(file)) if name.startswith("val/")}
    assert {name for name in run.metrics if name.startswith("val/")} == names


def test_the_last_validation_counts(sweep_folder):
    path = sweep_folder / "loss_weight=1.0,seed_everything=0" / "metrics.csv"
    path.write_text(f"epoch,train/loss,{REFINED},val/map\n0,1.0,,\n0,,3.0,0.5\n1,0.9,,\n1,,2.0,\n2,0.8,,\n")
    run = read_sweep_folder(sweep_folder)[0]
    assert {name: value for name, value in run.metrics.items() if name.startswith("val/")} == {REFINED: 2.0}


def test_without_the_sweeps_table_settings_are_what_differs(sweep_folder):
    (sweep_folder / "sweep.csv").unlink()
    shutil.rmtree(sweep_folder / "loss_weight=100.0,seed_everything=0")
    shutil.rmtree(sweep_folder / "loss_weight=100.0,seed_everything=1")
    assert [dict(run.settings) for run in read_sweep_folder(sweep_folder)] == [
        {"seed_everything": 0},
        {"seed_everything": 1},
    ]


def test_a_sweep_of_tests_alone_is_read(sweep_folder):
    for number, run in enumerate(read_sweep_folder(sweep_folder)):  # as configs/sweeps/threshold.yaml leaves them
        path = run.folder / "test" / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config["evaluation"]["threshold"] = (0.05, 0.1, 0.5, 0.7)[number]
        path.write_text(yaml.safe_dump(config))
        (run.folder / "config.yaml").unlink()
        (run.folder / "metrics.csv").unlink()
    runs = read_sweep_folder(sweep_folder)
    assert [run.settings["evaluation.threshold"] for run in runs] == [0.05, 0.1, 0.5, 0.7]
    assert runs[3].metrics["test/macro_f1/delta_0p7"] >= 0.0
    assert 0.0 <= runs[3].metrics["test/source_accuracy/delta_0p7"] <= 1.0
    assert "test/ca_sdri_db/delta_0p7" in runs[3].metrics
    assert runs[3].metrics["test/snri_db/1a3i/refined"] == runs[3].metrics["test/snri_db/1a3i/delta_0p7"]
    assert not any(name.startswith("val/") for name in runs[3].metrics)


def test_wandb_is_read_in_the_same_shape(tiny_runs):
    api = Api(wandb_runs(tiny_runs)[::-1])
    online = read_wandb_sweep("entity/project/abc123", api)
    assert api.paths == ["entity/project/abc123"]
    here = read_sweep_folder(tiny_runs)
    assert [run.settings for run in online] == [run.settings for run in here]
    assert [run.metrics for run in online] == [run.metrics for run in here]
    assert [run.name for run in online] == [f"ruby-sweep-{number}" for number in range(4)]
    assert {run.folder for run in online} == {None}


def test_runs_of_wandb_without_measures_are_left_out_by_name(tiny_runs):
    runs = wandb_runs(tiny_runs)
    runs[1].summary = Summary({"train/loss": 3.0, "val/note": "text", "_step": 9})
    with pytest.warns(UserWarning, match="left out, without a validation or test: ruby-sweep-1$"):
        assert len(read_wandb_sweep("entity/project/abc123", Api(runs))) == 3
    for run in runs:
        run.summary = Summary({})
    with pytest.raises(InputError, match="entity/project/abc123: none of its 4 runs has logged a validation"):
        read_wandb_sweep("entity/project/abc123", Api(runs))


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ValueError("Could not find sweep <Sweep a/b/c (Unknown State)>"), "W&B has no such sweep .Could not find"),
        (wandb.errors.CommError("Failed to verify\ncredentials"), "W&B cannot be read .Failed to verify credentials"),
        (ConnectionError("no route to host"), "W&B cannot be read .no route to host"),
        (wandb.errors.UsageError("No API key configured."), "W&B cannot be read .No API key configured"),
    ],
)
def test_a_sweep_that_wandb_does_not_return_is_rejected(failure, message):
    with pytest.raises(InputError, match=rf"^entity/project/abc123: {message}.*wandb login") as caught:
        read_wandb_sweep("entity/project/abc123", Api([], failure))
    assert "\n" not in str(caught.value)


def test_a_path_that_names_no_sweep_is_rejected_before_wandb_is_queried():
    api = Api([])
    with pytest.raises(InputError, match=r"^abc123: is not a sweep of W&B\. Give entity/project/sweep_id"):
        read_wandb_sweep("abc123", api)
    assert api.paths == []


def test_without_an_account_the_message_comes_at_once(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no .netrc
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    start = time.monotonic()
    with pytest.raises(InputError, match="entity/project/abc123: W&B cannot be read"):
        read_wandb_sweep("entity/project/abc123")
    assert time.monotonic() - start < 20.0
    wandb.teardown()  # otherwise later trainings in this process keep these settings


def test_folders_that_are_not_sweeps_are_rejected(tmp_path, tiny_runs):
    with pytest.raises(InputError, match="nowhere: there is no such folder"):
        read_sweep_folder(tmp_path / "nowhere")
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path))} holds no run: .*tse-refine sweep"):
        read_sweep_folder(tmp_path)
    with pytest.raises(InputError, match=r"seed_everything=0 is a run; give the folder above"):
        read_sweep_folder(tiny_runs / "loss_weight=1.0,seed_everything=0")


def remove(*names):
    def change(run):
        for name in names:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()

    return change


def write(name, text):
    return lambda run: (run / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("metrics.csv", "test"), "neither metrics.csv with a validation nor test/summary.csv is there"),
        (remove("config.yaml", "test"), "config.yaml does not exist, but .* looks like a run"),
        (remove("test/config.yaml"), "test/config.yaml does not exist"),
        (write("config.yaml", "{"), "config.yaml: is not the configuration of a run"),
        (write("config.yaml", "text"), "config.yaml: is not the configuration of a run .*no options of data"),
        (write("test/config.yaml", "model: {}"), "test/config.yaml: is not the configuration of a run"),
        (write("metrics.csv", f"epoch,{REFINED}\n0,1.2e\n"), "metrics.csv: .*cut off or changed"),
        (write("test/summary.csv", "a,b\n"), "summary.csv: the columns active"),
        (
            write("test/classification.csv", ",".join(CLASSIFICATION_COLUMNS) + "\nx,1,1,1,1,1\n"),
            "classification.csv: threshold: 'x' is not a valid refinement",
        ),
    ],
)
def test_a_run_that_lacks_files_is_rejected_by_name(sweep_folder, change, message):
    run = sweep_folder / "loss_weight=1.0,seed_everything=1"
    change(run)
    with pytest.raises(InputError, match=rf"loss_weight=1\.0,seed_everything=1.*{message}"):
        read_sweep_folder(sweep_folder)


def test_values_are_gathered_in_their_order(tiny_runs):
    runs = read_sweep_folder(tiny_runs)
    gathered = by_value(runs[::-1], "model.loss_weight", REFINED)
    assert list(gathered) == [1.0, 100.0]
    assert [sorted(members) for members in gathered.values()] == [
        sorted(run.metrics[REFINED] for run in pair) for pair in (runs[:2], runs[2:])
    ]
    assert all(math.isfinite(value) for members in gathered.values() for value in members)


def test_a_parameter_or_metric_that_is_not_there_is_rejected_with_a_hint(tiny_runs):
    runs = read_sweep_folder(tiny_runs)
    with pytest.raises(InputError, match=r"^model\.los_weight: is the same .* did you mean 'model\.loss_weight'\?"):
        by_value(runs, "model.los_weight", REFINED)
    with pytest.raises(InputError, match=r"val/snri_db/1a3i/refine was not measured; did you mean '.*refined'"):
        by_value(runs, "model.loss_weight", "val/snri_db/1a3i/refine")
