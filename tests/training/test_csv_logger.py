import csv
import warnings

import pytest
import torch

from tse_refine.errors import InputError
from tse_refine.training.csv_logger import RunCSVLogger


def log(folder, *rows):
    """Log rows (step, metrics) as one training does, from its start to its end."""
    logger = RunCSVLogger(str(folder))
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
    logger.finalize("success")
    return logger


def read(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_metrics_lie_straight_in_the_folder_beside_nothing_else(tmp_path):
    logger = log(tmp_path / "run", (0, {"loss": 1.5}), (1, {"loss": torch.tensor(0.5)}))
    assert files(tmp_path) == ["run", "run/metrics.csv"]
    assert read(tmp_path / "run") == [{"loss": "1.5", "step": "0"}, {"loss": "0.5", "step": "1"}]
    assert logger.log_dir.rstrip("/") == str(tmp_path / "run")


def test_hyperparameters_are_not_written(tmp_path):
    logger = RunCSVLogger(str(tmp_path))
    logger.log_hyperparams({"learning_rate": 1e-3})
    logger.log_metrics({"loss": 1.0}, 0)
    logger.save()
    assert files(tmp_path) == ["metrics.csv"]


def test_other_files_of_the_folder_stay_without_a_warning(tmp_path):
    (tmp_path / "config.yaml").write_text("a: 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log(tmp_path, (0, {"loss": 1.0}))
        log(tmp_path, (1, {"loss": 0.5}))
    assert files(tmp_path) == ["config.yaml", "metrics.csv"]
    assert (tmp_path / "config.yaml").read_text() == "a: 1"


def test_a_resumed_training_goes_on_below_the_earlier_rows(tmp_path):
    log(tmp_path, (0, {"loss": 3.0}), (1, {"loss": 2.0}))
    log(tmp_path, (2, {"loss": 1.0}))
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [("0", "3.0"), ("1", "2.0"), ("2", "1.0")]


def test_a_third_training_goes_on_too(tmp_path):
    for step in range(3):
        log(tmp_path, (step, {"loss": float(step)}))
    assert [row["step"] for row in read(tmp_path)] == ["0", "1", "2"]


def test_earlier_rows_stay_when_a_resumed_training_logs_new_columns(tmp_path):
    log(tmp_path, (0, {"loss": 3.0, "val": 7.0}))
    # "aa" sorts before the earlier columns
    log(tmp_path, (1, {"loss": 2.0}), (2, {"aa": 1.0}))
    assert read(tmp_path) == [
        {"aa": "", "loss": "3.0", "step": "0", "val": "7.0"},
        {"aa": "", "loss": "2.0", "step": "1", "val": ""},
        {"aa": "1.0", "loss": "", "step": "2", "val": ""},
    ]


def test_earlier_rows_stay_when_a_training_ends_before_it_logs_anything(tmp_path):
    log(tmp_path, (0, {"loss": 3.0}))
    before = (tmp_path / "metrics.csv").read_bytes()
    log(tmp_path)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    resumed = RunCSVLogger(str(tmp_path))
    assert resumed.experiment is not None  # opened, and interrupted there
    assert read(tmp_path) == [{"loss": "3.0", "step": "0"}]


def test_resuming_does_not_touch_the_bytes_of_earlier_rows(tmp_path):
    log(tmp_path, (0, {"loss": 3.0}))
    before = (tmp_path / "metrics.csv").read_bytes()
    log(tmp_path, (1, {"loss": 2.0}))
    assert (tmp_path / "metrics.csv").read_bytes().startswith(before)


def test_an_empty_file_counts_as_no_training(tmp_path):
    (tmp_path / "metrics.csv").touch()
    log(tmp_path, (0, {"loss": 3.0}))
    assert read(tmp_path) == [{"loss": "3.0", "step": "0"}]


@pytest.mark.parametrize("every", [1, 3])
def test_rows_reach_the_disk_every_so_many_steps(tmp_path, every):
    logger = RunCSVLogger(str(tmp_path), flush_logs_every_n_steps=every)
    for step in range(every):
        assert not (tmp_path / "metrics.csv").exists()
        logger.log_metrics({"loss": 1.0}, step)
    assert len(read(tmp_path)) == every


def test_columns_that_appear_late_keep_the_rows_already_on_disk(tmp_path):
    logger = RunCSVLogger(str(tmp_path), flush_logs_every_n_steps=1)
    logger.log_metrics({"train/loss": 1.0}, 0)
    logger.log_metrics({"val/loss": 2.0}, 1)
    assert read(tmp_path) == [
        {"step": "0", "train/loss": "1.0", "val/loss": ""},
        {"step": "1", "train/loss": "", "val/loss": "2.0"},
    ]


def test_the_default_folder_is_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logger = RunCSVLogger()
    logger.log_metrics({"loss": 1.0}, 0)
    logger.save()
    assert files(tmp_path) == ["metrics.csv"]


def test_rows_of_a_state_that_was_lost_are_replaced(tmp_path):
    log(tmp_path, *((step, {"loss": float(step)}) for step in range(6)))
    log(tmp_path, *((step, {"loss": -1.0}) for step in range(3, 5)))
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [
        ("0", "0.0"),
        ("1", "1.0"),
        ("2", "2.0"),
        ("3", "-1.0"),
        ("4", "-1.0"),
    ]


@pytest.mark.parametrize("cut", [1, 4, 8])
def test_a_line_that_was_cut_off_is_not_continued(tmp_path, cut):
    log(tmp_path, (0, {"loss": 3.0}), (1, {"loss": 2.125}))
    (tmp_path / "metrics.csv").write_bytes((tmp_path / "metrics.csv").read_bytes()[:-cut])
    log(tmp_path, (1, {"loss": 2.25}), (2, {"loss": 1.0}))
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [("0", "3.0"), ("1", "2.25"), ("2", "1.0")]


@pytest.mark.parametrize("every", [1, 100])
def test_a_step_has_one_row(tmp_path, every):
    logger = RunCSVLogger(str(tmp_path), flush_logs_every_n_steps=every)
    for step in range(2):
        logger.log_metrics({"train/loss": 1.0 + step}, step)
        logger.log_metrics({"val/loss": 3.0 + step}, step)
    logger.finalize("success")
    assert read(tmp_path) == [
        {"step": "0", "train/loss": "1.0", "val/loss": "3.0"},
        {"step": "1", "train/loss": "2.0", "val/loss": "4.0"},
    ]


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"loss\n1.0\n", b"loss,step\n1.0,one\n", b"loss,step\n1.0\n"])
def test_a_file_that_is_no_table_of_metrics_is_rejected_before_the_training(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"metrics.csv.*Rename or remove the file"):
        RunCSVLogger(str(tmp_path)).save()
    assert (tmp_path / "metrics.csv").read_bytes() == content
