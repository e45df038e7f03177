import multiprocessing
import os
import signal
from multiprocessing import resource_sharer

import pytest
import torch

from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.training.module import ExtractionModule
from tse_refine.training.processes import lost_processes


def test_a_killed_loader_ends_the_training_in_a_paragraph_and_leaves_no_process(
    tiny_config_file, monkeypatch, refusal, tmp_path
):
    original = ExtractionModule.training_step

    def after_a_kill(module, *args):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        return original(module, *args)

    monkeypatch.setattr(ExtractionModule, "training_step", after_a_kill)
    earlier = multiprocessing.active_children()
    text = refusal(main, ["fit", "-c", str(tiny_config_file), "--data.num_workers", "1"])
    assert "A process that loads data" in text
    assert "--ckpt_path last" in text
    assert multiprocessing.active_children() == earlier
    assert not (tmp_path / "run" / "trained.json").exists()


@pytest.mark.parametrize("error", [ConnectionResetError("reset by peer"), FileNotFoundError("no socket"), EOFError()])
def test_a_loader_that_ends_while_it_hands_a_batch_over_is_reported_too(tiny_config_file, monkeypatch, refusal, error):
    def gone(*args):
        raise error

    monkeypatch.setattr(resource_sharer._resource_sharer, "get_connection", gone)
    text = refusal(main, ["fit", "-c", str(tiny_config_file), "--data.num_workers", "1"])
    assert "A process that loads data exited unexpectedly" in text


def test_gradients_are_on_after_a_loader_was_lost_where_they_were_off():
    @lost_processes()
    def lose():
        torch.set_grad_enabled(False)
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    with pytest.raises(InputError, match="is killed by signal: Killed"):
        lose()
    assert torch.is_grad_enabled()


def test_other_errors_of_files_stay_what_they_are():
    with pytest.raises(FileNotFoundError, match="of another kind"), lost_processes():
        raise FileNotFoundError("of another kind")


def test_an_error_leaves_no_process_that_ignores_to_be_ended():
    def ignore():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()

    process = multiprocessing.get_context("fork").Process(target=ignore, daemon=True)

    def fail():
        with lost_processes():
            process.start()
            raise RuntimeError("of another kind")

    with pytest.raises(RuntimeError, match="of another kind"):
        fail()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize(
    "text",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:33920",
        "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv",
    ],
)
def test_a_lost_rank_is_reported_in_a_paragraph(text):
    with pytest.raises(InputError, match="Another process of this command has ended"), lost_processes():
        raise RuntimeError(text)


def test_several_machines_without_a_launcher_are_rejected(tiny_config_file, refusal, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    text = refusal(main, ["fit", "-c", str(tiny_config_file), "--trainer.num_nodes", "2"])
    assert "trainer.num_nodes is 2, but nothing connects the machines" in text


def test_another_number_of_processes_than_torchrun_started_is_rejected(tiny_config_file, refusal, monkeypatch):
    numbers = {"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "4"}
    for name, value in (numbers | {"TORCHELASTIC_RUN_ID": "none"}).items():
        monkeypatch.setenv(name, value)
    text = refusal(main, ["fit", "-c", str(tiny_config_file), "--trainer.devices", "2"])
    assert "(2 * 1) does not match the world size (4)" in text
    assert "--nproc-per-node" in text
