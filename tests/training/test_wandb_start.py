from pathlib import Path

import pytest
from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger

from tse_refine.training.csv_logger import RunCSVLogger
from tse_refine.training.wandb_start import start_wandb

pytestmark = pytest.mark.usefixtures("fresh_wandb")


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A trainer that logs to W&B and to ``metrics.csv``, in surroundings without W&B."""
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")  # where nothing listens

    def make(*others):
        loggers = [*others, WandbLogger(project="test", save_dir=tmp_path)]
        return Trainer(accelerator="cpu", logger=loggers, default_root_dir=tmp_path, enable_progress_bar=False)

    return make


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


def test_a_training_that_logs_to_wandb_alone_gets_metrics_csv(trainer, tmp_path, capsys):
    made = trainer()
    start_wandb(made)
    assert [type(logger) for logger in made.loggers] == [RunCSVLogger]
    assert Path(made.loggers[0].log_dir) == tmp_path


def test_a_run_without_a_server_is_started(trainer, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "120")  # seconds until its process is there, on a machine under load
    made = trainer()
    start_wandb(made)
    made.loggers[0].experiment.finish()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
