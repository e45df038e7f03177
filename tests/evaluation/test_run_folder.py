import os
import re
from pathlib import Path

import pytest

from tse_refine.errors import InputError
from tse_refine.evaluation.run_folder import RunFolder

OURS = (
    "config.yaml",
    "metrics.csv",
    "validation.csv",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "test/config.yaml",
    "test/results.csv",
    "predict/00000/mixture.wav",
)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


@pytest.fixture
def run(tmp_path):
    """A folder with a finished training."""
    write(tmp_path / "run", OURS)
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize(
    "names", [["config.yaml"], ["checkpoints/last.ckpt"], OURS], ids=["config", "checkpoint", "all"]
)
def test_a_folder_with_a_configuration_or_checkpoints_holds_a_training(tmp_path, names):
    write(tmp_path, names)
    assert RunFolder(tmp_path).holds_training()


@pytest.mark.parametrize("names", [[], ["notes.txt"], ["test/results.csv"]], ids=["empty", "notes", "results"])
def test_other_folders_hold_none(tmp_path, names):
    write(tmp_path, names)
    run = RunFolder(tmp_path)
    assert not run.holds_training()
    run.refuse_second_training(None, overwrite=False)
    RunFolder(tmp_path / "missing").refuse_second_training(None, overwrite=False)


def test_a_second_training_is_rejected_with_the_folder_and_the_ways_out(run):
    ways_out = f"{run.path} already holds a training.*--ckpt_path {run.checkpoints / 'last.ckpt'}.*--overwrite"
    with pytest.raises(InputError, match=f"trainer.default_root_dir: {ways_out}"):
        run.refuse_second_training(None, overwrite=False)


def test_a_refusal_leaves_every_file(run):
    with pytest.raises(InputError):
        run.refuse_second_training(None, overwrite=False)
    assert all((run.path / name).read_text() == name for name in OURS)


def test_overwriting_is_allowed(run):
    run.refuse_second_training(None, overwrite=True)


def test_resuming_from_a_checkpoint_of_the_folder_is_allowed_however_it_is_written(run, monkeypatch):
    checkpoint = run.checkpoints / "last.ckpt"
    monkeypatch.chdir(run.path.parent)
    for given in (str(checkpoint), "run/checkpoints/last.ckpt", "run/test/../checkpoints/best.ckpt"):
        run.refuse_second_training(given, overwrite=False)
        RunFolder("run").refuse_second_training(given, overwrite=False)


def test_resuming_from_elsewhere_is_rejected(run, tmp_path):
    write(tmp_path, ["other/checkpoints/last.ckpt", "run/checkpoints_old/last.ckpt"])
    for given in (tmp_path / "other/checkpoints/last.ckpt", run.path / "checkpoints_old/last.ckpt"):
        with pytest.raises(InputError, match="already holds a training"):
            run.refuse_second_training(str(given), overwrite=False)


def test_starting_over_from_a_checkpoint_that_starting_over_would_remove_is_rejected(run):
    with pytest.raises(InputError, match="--overwrite"):
        run.refuse_second_training(str(run.checkpoints / "last.ckpt"), overwrite=True)


def test_setting_aside_moves_what_a_training_wrote_and_nothing_else(run):
    foreign = ["notes.txt", "figures/loss.png", "metrics_old.csv", "checkpoints_kept/best.ckpt"]
    write(run.path, foreign)
    assert run.set_aside()
    assert files(run.replaced) == sorted(OURS)
    assert files(run.path) == sorted([*foreign, *(f"replaced/{name}" for name in OURS)])
    assert not run.holds_training()
    with pytest.raises(InputError, match=f"The training before the last --overwrite is in {run.replaced}"):
        run.checkpoint("best", needed=True)
    run.forget_replaced()
    assert files(run.path) == sorted(foreign)


def test_a_training_without_a_checkpoint_does_not_take_the_place_of_one_set_aside(run):
    run.set_aside()
    write(run.path, ["config.yaml", "metrics.csv"])
    assert run.set_aside()
    assert files(run.path) == sorted(f"replaced/{name}" for name in OURS)


def test_there_is_nothing_to_set_aside_in_a_missing_folder(tmp_path):
    assert not RunFolder(tmp_path / "missing").set_aside()
    assert not (tmp_path / "missing").exists()


def test_a_checkpoint_is_optional_where_none_is_needed(tmp_path):
    assert RunFolder(tmp_path).checkpoint(None, needed=False) is None


def test_checkpoints_are_found_by_word_by_path_and_by_default(run, tmp_path):
    write(tmp_path, ["elsewhere/epoch.ckpt"])
    elsewhere = str(tmp_path / "elsewhere/epoch.ckpt")
    for needed in (False, True):
        assert Path(run.checkpoint("best", needed)) == run.checkpoints / "best.ckpt"
        assert Path(run.checkpoint("last", needed)) == run.checkpoints / "last.ckpt"
        assert run.checkpoint(elsewhere, needed) == elsewhere
    assert Path(run.checkpoint(None, needed=True)) == run.checkpoints / "best.ckpt"


@pytest.mark.parametrize("given", [None, "best", "last", "nowhere.ckpt", "."])
def test_a_missing_checkpoint_is_rejected_with_its_path_and_what_to_give(tmp_path, given):
    run = RunFolder(tmp_path)
    word = given or "best"
    path = str(run.checkpoints / f"{word}.ckpt") if word in ("best", "last") else word
    with pytest.raises(InputError, match=rf"--ckpt_path: {re.escape(path)} does not exist.*trainer.default_root_dir"):
        run.checkpoint(given, needed=True)


def test_a_training_killed_before_its_first_checkpoint_is_not_told_to_resume(tmp_path):
    write(tmp_path, ["config.yaml"])
    with pytest.raises(InputError, match=r"Give another folder, or start over with --overwrite") as refused:
        RunFolder(tmp_path).refuse_second_training(None, overwrite=False)
    assert "ckpt_path" not in str(refused.value)


def test_a_requeued_training_goes_on_from_its_latest_state_and_overwriting_removes_it(tmp_path):
    write(tmp_path, ["config.yaml", "checkpoints/last.ckpt"])
    run = RunFolder(tmp_path)
    assert run.latest() is None
    write(tmp_path, ["hpc_ckpt_1.ckpt"])
    os.utime(run.checkpoints / "last.ckpt", (0, 0))
    assert run.latest() == str(tmp_path / "hpc_ckpt_1.ckpt")
    run.refuse_second_training(run.latest(), overwrite=False)
    os.utime(tmp_path / "hpc_ckpt_1.ckpt", (-9, -9))
    assert run.latest() == str(run.checkpoints / "last.ckpt")
    run.set_aside()
    assert files(tmp_path) == ["replaced/checkpoints/last.ckpt", "replaced/config.yaml", "replaced/hpc_ckpt_1.ckpt"]
    assert run.latest() is None
