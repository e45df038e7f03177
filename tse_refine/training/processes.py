"""The processes of a training: what they share, and how it ends when one of them is lost."""

from __future__ import annotations

import multiprocessing
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import Tensor

from tse_refine.errors import InputError

_RESUME = "A training resumes from its latest state with --ckpt_path last."


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return numbers, detached and averaged over the processes of a training; all of them in one message.

    Args:
        values: tensors of one element by name, the same names in every process.
    """
    detached = {name: value.detach() for name, value in values.items()}
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return detached
    numbers = torch.stack([value.float() for value in detached.values()])
    torch.distributed.all_reduce(numbers)
    return dict(zip(values, numbers / torch.distributed.get_world_size(), strict=True))


def check_launcher(trainer: Trainer) -> None:
    """Reject numbers of processes and machines that are not those which have been started.

    Raises:
        InputError: torchrun or SLURM has started others; or ``trainer.num_nodes`` is more than 1 without a launcher or
            the address of the first machine, which a training would wait for half an hour.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None:
        return
    if trainer.num_nodes > 1 and type(environment) is LightningEnvironment and "MASTER_ADDR" not in os.environ:
        raise InputError(
            f"trainer.num_nodes is {trainer.num_nodes}, but nothing connects the machines. Start the command on "
            "each by torchrun or srun, which docs/multi_machine.md describes, or leave trainer.num_nodes at 1."
        )
    try:
        environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)
    except ValueError as error:
        raise InputError(
            f"trainer.devices, trainer.num_nodes: {' '.join(str(error).split())} The first is torchrun's "
            "--nproc-per-node or SLURM's --ntasks-per-node, the second --nnodes or --nodes."
        ) from error


@contextmanager
def lost_processes() -> Iterator[None]:
    """Report a lost process in one paragraph, and leave no loader's process and no gradients off behind.

    Raises:
        InputError: a process that loads data, or another process of the training, has ended.
    """
    earlier = multiprocessing.active_children()
    gradients = torch.is_grad_enabled()
    try:
        yield
    except (RuntimeError, OSError, EOFError) as error:
        if (reason := _lost(error)) is None:
            raise
        raise InputError(f"{reason} {_RESUME}") from error
    finally:
        # PyTorch raises its error in a signal's handler: also just before a block without gradients turns them on again
        torch.set_grad_enabled(gradients)
        for child in multiprocessing.active_children():
            if child not in earlier:
                child.kill()  # they ignore SIGTERM, by which Python would end them, and then wait forever


def _lost(error: Exception) -> str | None:
    """Return which process was lost, in a sentence; None for another error."""
    text = " ".join(str(error).split())
    match = re.match(r"DataLoader worker \(pid.*?\d\) (is killed by signal: \w+|exited unexpectedly)", text)
    modules = {frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__)}
    # PyTorch has no words of its own for one that ends while it hands a batch over
    was_handing_over = {"torch.utils.data.dataloader", "multiprocessing.queues"} <= modules
    if match or was_handing_over:
        return (
            f"A process that loads data {match[1] if match else 'exited unexpectedly'}, as on a machine that runs out "
            "of memory. Give fewer data.num_workers, or more memory."
        )
    # torch.distributed raises plain errors where it uses gloo
    if isinstance(error, torch.distributed.DistError) or "gloo/transport" in text:
        return f"Another process of this command has ended, or its connection ({text[:200]}); see its own message."
    return None
