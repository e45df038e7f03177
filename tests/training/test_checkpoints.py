import csv
import re
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from tests.fixtures.tables import rows_of
from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.model.checkpoint import load_network
from tse_refine.training.checkpoints import AtomicCheckpointIO, RunCheckpoint

# the loss falls, so that by this the first epoch stays the best
FIRST_IS_BEST = ("--checkpoint.monitor", "val/loss", "--checkpoint.mode", "max", "--trainer.max_epochs", "3")


@pytest.fixture
def fit(tiny_config_file):
    def fit(*words: str) -> Path:
        main(["fit", "-c", str(tiny_config_file), *words])
        return tiny_config_file.parent / "run"

    return fit


def epoch(run: Path, name: str) -> int:
    return torch.load(run / "checkpoints" / name, weights_only=True)["epoch"]


def test_last_is_the_latest_state_and_best_the_best(fit):
    run = fit(*FIRST_IS_BEST)
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert max(losses) == losses[0]
    assert (epoch(run, "best.ckpt"), epoch(run, "last.ckpt")) == (0, 2)


def test_a_resumed_training_keeps_the_best_also_in_a_moved_folder(fit, tmp_path):
    run = fit(*FIRST_IS_BEST[:-1], "1")
    moved = run.rename(tmp_path / "moved")
    fit(*FIRST_IS_BEST, "--trainer.default_root_dir", str(moved), "--ckpt_path", "last")
    assert (epoch(moved, "best.ckpt"), epoch(moved, "last.ckpt")) == (0, 2)


def test_last_is_written_within_epochs_too(fit, monkeypatch):
    written = []
    monkeypatch.setattr(RunCheckpoint, "write_last", lambda self, trainer: written.append(trainer.global_step))
    fit("--data.num_train", "16", "--checkpoint.train_time_interval", "00:00:00")
    assert written == [1, 2, 3, 4]


def test_a_checkpoint_of_averaged_weights_is_used_with_them(fit):
    run = fit("--trainer.callbacks+=EMAWeightAveraging", "--trainer.callbacks.decay", "0.5")
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    used = load_network(run / "checkpoints" / "last.ckpt").network.state_dict()
    averaged, latest = (
        [torch.equal(weight, saved[state][f"network.{name}"]) for name, weight in used.items()]
        for state in ("state_dict", "current_model_state")
    )
    assert all(averaged)
    assert not all(latest)


def test_metrics_reach_the_disk_before_the_checkpoint_that_follows_them(fit, monkeypatch):
    words = ("--data.num_train", "16", "--checkpoint.train_time_interval", "00:00:00")
    run = fit(*words)
    whole = rows_of(run / "metrics.csv")
    steps = []
    original = RunCheckpoint.write_last

    def killed(callback, trainer):
        original(callback, trainer)
        steps.append([int(row["step"]) for row in rows_of(run / "metrics.csv")])
        if trainer.global_step == 3:
            raise RuntimeError("killed")

    monkeypatch.setattr(RunCheckpoint, "write_last", killed)
    with pytest.raises(RuntimeError, match="killed"):
        fit(*words, "--overwrite")
    assert steps == [[0], [0, 1], [0, 1, 2]]
    monkeypatch.undo()
    fit(*words, "--ckpt_path", "last")
    assert rows_of(run / "metrics.csv") == whole


def test_a_checkpoint_within_an_epoch_needs_no_logged_steps(fit):
    run = fit("--trainer.log_every_n_steps", "0", "--checkpoint.train_time_interval", "00:00:00")
    assert not any(name.startswith("train/") for name in rows_of(run / "metrics.csv")[0])


@pytest.mark.parametrize("count", ["2", "-1"])
def test_more_than_one_best_checkpoint_is_refused(fit, capsys, count):
    with pytest.raises(SystemExit):
        fit("--checkpoint.save_top_k", count)
    assert f"checkpoint.save_top_k is {count}" in " ".join(capsys.readouterr().err.split())


def test_options_that_would_break_the_two_files_are_refused(fit, capsys):
    with pytest.raises(SystemExit):
        fit("--checkpoint.every_n_train_steps", "2")
    assert "checkpoint.every_n_train_steps" in capsys.readouterr().err


def test_a_negative_interval_is_refused():
    with pytest.raises(InputError, match="train_time_interval"):
        RunCheckpoint(train_time_interval=timedelta(seconds=-1))


def test_a_trial_leaves_no_trace(fit, tmp_path):
    run = fit("--trainer.fast_dev_run", "true")
    assert not run.exists()
    fit()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    fit("--trainer.fast_dev_run", "true", "--overwrite")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_trial_of_a_test_replaces_no_results(fit, tiny_config_file):
    run = fit()
    main(["test", "-c", str(tiny_config_file)])
    before = (run / "test" / "results.csv").read_bytes()
    main(["test", "-c", str(tiny_config_file), "--trainer.fast_dev_run", "true"])
    assert (run / "test" / "results.csv").read_bytes() == before


def test_a_checkpoint_needs_no_room_among_temporary_files(fit, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr("tempfile.mkstemp", lambda *args, **options: pytest.fail("wrote a temporary file elsewhere"))
    run = fit()
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)

    def fail(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_in_the_home_directory_is_one_folder(fit, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    fit("--trainer.default_root_dir", "~/homely")
    assert (tmp_path / "homely" / "metrics.csv").exists()
    with pytest.raises(SystemExit):
        fit("--trainer.default_root_dir", "~/homely")
    assert "already holds a training" in " ".join(capsys.readouterr().err.split())
    main(["classes", "--checkpoint", "~/homely/checkpoints/best.ckpt"])


def test_a_second_training_at_the_same_time_is_refused(fit, monkeypatch, capsys):
    start = RunCheckpoint.on_train_start

    def start_beside_another(callback, *args):
        monkeypatch.setattr(RunCheckpoint, "on_train_start", start)
        with pytest.raises(SystemExit):
            fit("--overwrite")
        start(callback, *args)

    monkeypatch.setattr(RunCheckpoint, "on_train_start", start_beside_another)
    run = fit()
    assert "another training is running" in " ".join(capsys.readouterr().err.split())
    assert (run / "checkpoints" / "last.ckpt").exists()


DAMAGES = {
    r"has a network alone, without loops": lambda content: content.pop("loops"),
    r"of the training in .*last\.ckpt cannot be restored \(": lambda content: content.update(loops={"fit_loop": 3}),
    r"in .*last\.ckpt cannot be restored \(": lambda content: content.update(optimizer_states=[{"state": 7}]),
    r"last\.ckpt: 'x' of its state_dict is 1": lambda content: content.update(state_dict={"network.x": 1}),
    r"last\.ckpt: loss_weight is 'much'": lambda content: content["hyper_parameters"].update(loss_weight="much"),
}


def test_a_damaged_state_of_a_training_is_rejected_by_its_file(fit, capsys):
    last = fit() / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    for message, damage in DAMAGES.items():
        last.write_bytes(whole)
        content = torch.load(last, weights_only=True)
        damage(content)
        torch.save(content, last)
        with pytest.raises(SystemExit) as stop:
            fit("--ckpt_path", str(last), "--trainer.max_epochs=2")
        assert stop.value.code == 2
        assert re.search(message, capsys.readouterr().err)
