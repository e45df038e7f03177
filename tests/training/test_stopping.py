import os
import signal
from pathlib import Path

import pytest
import torch

from tse_refine.cli.main import main
from tse_refine.training.module import ExtractionModule

OPTIONS = ("--trainer.max_epochs", "2", "--data.num_train", "16", "--data.num_workers", "1")


@pytest.fixture
def fit(tiny_config_file):
    def fit(folder: Path, *words: str) -> Path:
        main(["fit", "-c", str(tiny_config_file), *OPTIONS, "--trainer.default_root_dir", str(folder), *words])
        return folder

    return fit


@pytest.fixture
def signal_at(monkeypatch):
    """Make the process get a signal in a step of the training, or in a validation step."""

    def send(number: int, method: str, step: int) -> None:
        original = getattr(ExtractionModule, method)

        def with_signal(module, *args):
            if module.trainer.global_step == step and not module.trainer.sanity_checking:
                os.kill(os.getpid(), number)
                monkeypatch.setattr(ExtractionModule, method, original)
            return original(module, *args)

        monkeypatch.setattr(ExtractionModule, method, with_signal)

    return send


@pytest.mark.parametrize(
    ("name", "method", "step"),
    [("SIGTERM", "training_step", 1), ("SIGINT", "training_step", 5), ("SIGUSR1", "validation_step", 4)],
)
def test_a_stopped_training_says_so_and_resumes_as_if_never_stopped(
    fit, signal_at, tmp_path, capsys, name, method, step
):
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    signal_at(number, method, step)
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path / "cut")
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) == handler
    printed = capsys.readouterr().err
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert f"stopped by {name}" in printed
    assert f"Resume with --ckpt_path {last}" in printed
    assert not (tmp_path / "cut" / "trained.json").exists()
    fit(tmp_path / "cut", "--ckpt_path", "last")
    assert (tmp_path / "cut" / "trained.json").exists()
    fit(tmp_path / "whole")
    weights = torch.load(tmp_path / "whole" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in torch.load(last, weights_only=True)["state_dict"].items():
        torch.testing.assert_close(value, weights[key], rtol=0, atol=0, msg=key)


def test_a_stopped_test_does_not_look_finished(fit, signal_at, tmp_path, tiny_config_file):
    fit(tmp_path / "run")
    signal_at(signal.SIGTERM, "test_step", 0)
    with pytest.raises(SystemExit) as stopped:
        main(["test", "-c", str(tiny_config_file), "--trainer.default_root_dir", str(tmp_path / "run")])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert not (tmp_path / "run" / "test").exists()
