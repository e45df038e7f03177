import socket
import time
from pathlib import Path

import pytest
import soundfile
import wandb
import yaml
from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger

from tests.fixtures.tables import rows_of
from tests.fixtures.wandb_files import offline_runs
from tse_refine.cli.main import main
from tse_refine.training import wandb_logger
from tse_refine.training.checkpoints import RunCheckpoint
from tse_refine.training.csv_logger import RunCSVLogger
from tse_refine.training.wandb_logger import RunWandbLogger, start_wandb
from tse_refine.version import __version__

pytestmark = pytest.mark.usefixtures("fresh_wandb")


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer that logs to W&B and to ``metrics.csv``, in surroundings without W&B."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")  # where nothing listens

    def make(*others, kind=RunWandbLogger, **options):
        loggers = [*others, kind(project="test", save_dir=str(tmp_path), **options)]
        return Trainer(accelerator="cpu", logger=loggers, default_root_dir=tmp_path, enable_progress_bar=False)

    return make


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))  # where artifacts wait for their upload
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "120")  # seconds until its process is there, on a machine under load


@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", [None, "a" * 40])
def test_without_a_key_or_a_server_the_training_goes_on(trainer, monkeypatch, tmp_path, capsys, key):
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    csv_logger = RunCSVLogger(str(tmp_path))
    made = trainer(csv_logger)
    start_wandb(made)
    assert made.loggers == [csv_logger]
    reason = "Failed to establish a new connection" if key else "there is no key for http://127.0.0.1:1"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tse-refine: W&B cannot be used (")
    assert reason in line


@pytest.mark.timeout(60)
def test_a_server_that_does_not_answer_is_not_waited_for(trainer, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(wandb_logger, "_SECONDS", 0.2)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, and says nothing
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        made = trainer(RunCSVLogger(str(tmp_path)))
        start = time.monotonic()
        start_wandb(made)
    assert time.monotonic() - start < 20.0
    assert [type(logger) for logger in made.loggers] == [RunCSVLogger]
    (line,) = capsys.readouterr().err.splitlines()
    assert "Read timed out" in line


@pytest.mark.timeout(120)
def test_a_server_that_goes_away_is_not_waited_for_without_end(trainer, wandb_server, monkeypatch, tmp_path):
    monkeypatch.setattr(wandb_logger, "_SECONDS_TO_FINISH", 2.0)
    made = trainer()
    start_wandb(made)
    assert "UpsertBucket" in wandb_server.queries
    wandb_server.stop()
    (logger,) = made.loggers
    logger.log_metrics({"train/loss": 1.0}, 0)
    start = time.monotonic()
    logger.experiment.finish()
    assert time.monotonic() - start < 60.0  # W&B's own default has no end
    assert list(tmp_path.glob("wandb/run-*/*.wandb"))  # for `wandb sync`


def test_a_test_without_wandb_leaves_the_trainings_metrics_csv(trainer, tmp_path):
    made = trainer()
    start_wandb(made, "test")
    assert made.loggers == []


def test_a_training_that_logs_to_wandb_alone_gets_metrics_csv(trainer, tmp_path, capsys):
    made = trainer()
    start_wandb(made)
    assert [type(logger) for logger in made.loggers] == [RunCSVLogger]
    assert Path(made.loggers[0].log_dir) == tmp_path


@pytest.mark.parametrize(
    ("kind", "given", "variable", "name"),
    [
        (RunWandbLogger, None, None, "ours"),
        (WandbLogger, None, None, "ours"),  # as runs of version 0.1.0 have it
        (RunWandbLogger, "mine", None, "mine"),
        (RunWandbLogger, None, "theirs", "theirs"),
    ],
)
def test_a_run_without_a_server_is_started_and_keeps_a_name_that_was_given(
    trainer, offline, tmp_path, monkeypatch, kind, given, variable, name
):
    if variable:
        monkeypatch.setenv("WANDB_NAME", variable)
    made = trainer(kind=kind, name=given)
    start_wandb(made, "fit", "ours")
    made.loggers[0].experiment.finish()
    (run,) = offline_runs(tmp_path)
    assert (run.name, run.job_type) == (name, "fit")


def test_a_checkpoint_is_uploaded_once_when_a_training_has_ended_by_itself(trainer, offline, tmp_path):
    checkpoint = RunCheckpoint(str(tmp_path))
    (logger,) = trainer(log_model=True).loggers
    logger.after_save_checkpoint(checkpoint)
    logger.finalize("success")  # without a validation there is no best checkpoint
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / name).write_text(name)
    checkpoint.best_model_path, checkpoint.last_model_path = str(tmp_path / "best.ckpt"), str(tmp_path / "last.ckpt")
    logger.after_save_checkpoint(checkpoint)
    logger.finalize("failed")
    assert logger._experiment is None
    logger.after_save_checkpoint(checkpoint)
    logger.finalize("success")
    logger.finalize("success")  # as after the test in the same process
    logger.experiment.finish()
    (run,) = offline_runs(tmp_path)
    assert {name: [*files] for name, files in run.artifacts.items()} == {f"model-{run.id}": ["best.ckpt"]}


@pytest.mark.usefixtures("offline")
def test_a_run_of_a_sweep_has_all_options_tables_sounds_and_the_best_checkpoint(
    tiny_config_file, tmp_path, monkeypatch
):
    """What W&B's agent sets is set by hand; the agent itself is in ``test_wandb_agent.py``."""
    settings = tmp_path / "config-first.yaml"
    settings.write_text("wandb_version: 1\nmodel.loss_weight: {value: 3.0}\nseed_everything: {value: 5}\n")
    for name, value in {"SWEEP_ID": "abc", "RUN_ID": "first", "SWEEP_PARAM_PATH": settings}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    words = ["--trainer.logger.log_audio=true", "--trainer.logger.log_model=true", "--name=Mine"]
    words += ["--model.loss_weight=3.0", "--seed_everything=5"]
    main(["fit", "-c", str(tiny_config_file), "-c", "logger/wandb", *words])
    wandb.finish()  # as at the end of a process
    (run,) = offline_runs(tmp_path)
    assert (run.id, run.sweep, run.job_type) == ("first", "abc", "fit")
    assert run.name == "Mine, seed 5, loss_weight=3.0"

    folder = tmp_path / "run" / "first"
    assert (folder / "metrics.csv").exists()
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert run.config["data"] == config["data"]
    assert run.config["data"]["digest"]
    assert run.config["model"] == config["model"]
    assert run.config["tse_refine_version"] == __version__

    printed = {"threshold", "(1:0)", "(1:1)", "(1:3)", "(2:2)", "(0:1) att"}
    assert set(run.table("val/table")[0]) == printed
    validation = {(r["active"], r["inactive"], r["threshold"]): r for r in rows_of(folder / "validation.csv")}
    for row in run.table("val/table"):
        assert row["(1:3)"] == pytest.approx(float(validation["1", "3", row["threshold"]]["snri_db"]))
    for name in ("summary", "classification", "per_class", "events", "cost"):
        assert len(run.table(f"test/{name}")) == len(rows_of(folder / "test" / f"{name}.csv"))
    assert {row["threshold"] for row in run.table("test/table")} >= {"none", "0.1", "oracle"}

    examples = run.table("test/examples")
    assert len({row["condition"] for row in examples}) == len(examples) == 14
    tested = {
        (r["mixture"], f"({r['active']}:{r['inactive']})", r["threshold"]): r
        for r in rows_of(folder / "test" / "results.csv")
    }
    for row in examples:
        cells = tested[str(row["mixture"]), row["condition"], "none"]
        measure = "snri_db" if cells["snri_db"] else "attenuation_db"
        assert row["raw"] == pytest.approx(float(cells[measure]), abs=0.01)
        for sound in ("mixture", "target", "raw", "refined"):
            waveform, rate = soundfile.read(run.file(row[f"{sound} sound"]["path"]))
            assert (len(waveform), rate) == (4000, 4000)
    assert set(run.artifacts["model-first"]) == {"best.ckpt"}
