"""What ``benchmarks/gpu.py`` measures of time and memory: one function per part, with figures that JSON can hold."""

from __future__ import annotations

import gc
import os
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice, repeat
from time import perf_counter
from typing import Any

import checkout  # noqa: F401
import torch
from gpu_agreement import cpu_results, differences, results
from gpu_setting import PRECISIONS, PUBLISHED, Setting
from measuring import RATE, machine_limits, medians, network, timed
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_step import measure_model, step

from tse_refine.data.dataset import Batch
from tse_refine.evaluation.callback import TEST_CONDITIONS, TEST_THRESHOLDS, QueryRefinementEvaluation
from tse_refine.evaluation.conditions import Condition
from tse_refine.evaluation.grid import Grid, evaluate_batch
from tse_refine.refinement import parse_refinements
from tse_refine.training.module import ExtractionModule


def limits(setting: Setting) -> dict[str, float]:
    """Measure the machine's limits."""
    return machine_limits(setting.device, setting.sizes.matrix_size)


def steps(name: str, setting: Setting) -> list[dict[str, Any]]:
    """Measure training steps and inference of a network: the rows of ``benchmarks/training_step.py``.

    Rows of our networks also have the bytes of the operations' operands and the peak memory.
    """
    sizes = setting.sizes
    options = Namespace(
        device=setting.device, batch=sizes.batch, seconds=sizes.seconds, repeats=setting.repeats, compile=False
    )
    rows = measure_model(name, options)
    modules = {
        "tse_refine": network(name).to(setting.device),
        "without classifier": network(name, classifier=False).to(setting.device),
    }
    for row in rows:
        if row["network"] in modules:
            module = modules[row["network"]]
            run = step(module, setting.mixture(), row["precision"], row["work"] == "inference")
            row["operand_gigabytes"] = operand_gigabytes(run)
            row["peak_gib"] = peak_gib(run, setting.device)
    return rows


class OperandBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations read and write, views left out.

    What an operation reads twice or keeps for itself is not counted, nor what caches save.

    Attributes:
        total: bytes so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count its operands."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
            # an expanded tensor has fewer bytes in memory than elements
            self.total += sum(min(leaf.nbytes, leaf.untyped_storage().nbytes()) for leaf in tensors)
        return result


def operand_gigabytes(run: Callable[[], object]) -> float:
    """Return how much the operations of a run read and write, 10^9 bytes."""
    with OperandBytes() as operands:
        run()
    return 1e-9 * operands.total


def peak_gib(run: Callable[[], object], device: str) -> float | None:
    """Return the largest memory that is allocated in a run, weights included, 2^30 bytes; None on a CPU."""
    if device == "cpu":
        return None
    free_memory()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30


def free_memory() -> None:
    """Give back what nothing refers to."""
    gc.collect()
    torch.cuda.empty_cache()


def largest_batch(name: str, setting: Setting) -> list[dict[str, Any]]:
    """Find the largest batch of a training step in float32 that fits, with and without activation checkpointing."""
    module: Any = setting.network(name)
    rows = []
    for checkpointed in (False, True):
        if checkpointed:
            module.checkpoint_activations()
        failing = partial(failure, module, setting)
        batch, reason = largest(failing, setting.sizes.batch, setting.sizes.largest_batch)
        rows.append({"model": name, "checkpointed": checkpointed, "batch": batch, "stopped_by": reason})
    return rows


def largest(failing: Callable[[int], str], first: int, limit: int) -> tuple[int, str]:
    """Return the largest batch that does not fail, to an eighth, and why a larger one does.

    Args:
        failing: returns why a batch fails; empty if it does not.
        first: first batch to try; then it is doubled.
        limit: no larger batch is tried; the reason is empty where this one ends the search.
    """
    fits, fails, reason = 0, first, ""
    while fails <= limit and not (reason := failing(fails)):
        fits, fails = fails, 2 * fails
    while reason and fails - fits > max(1, fits // 8):
        middle = (fits + fails) // 2
        found = failing(middle)
        fits, fails, reason = (fits, middle, found) if found else (middle, fails, reason)
    return fits, reason


def failure(module: nn.Module, setting: Setting, batch: int) -> str:
    """Return why a training step of a batch fails; empty if it does not."""
    reason = ""
    try:
        timed(step(module, setting.mixture(batch), "float32", inference=False), setting.device)
    except RuntimeError as error:  # out of memory, or a limit of cuDNN
        reason = "memory" if isinstance(error, torch.OutOfMemoryError) else str(error).splitlines()[0]
    module.zero_grad()
    free_memory()
    return reason


def loader(setting: Setting) -> list[dict[str, Any]]:
    """Measure the loader alone, and how long training steps wait for it, by number of workers and precision."""
    rows = []
    repeated: dict[str, float] = {}
    for num_workers in sorted({PUBLISHED["data"]["num_workers"], len(os.sched_getaffinity(0))}):
        data = setting.data(num_workers)
        data.setup("fit")
        batches = iter(data.train_dataloader())
        batch = list(islice(batches, 2 * num_workers + 2))[-1]  # as many are rendered ahead
        num_batches = 4 * setting.sizes.steps
        per_batch = timed(lambda batches=batches, count=num_batches: list(islice(batches, count))) / num_batches
        for precision in PRECISIONS:
            if precision not in repeated:
                repeated[precision] = training_loop(repeat(batch), precision, data.class_names, setting)["step"]
            loaded = training_loop(batches, precision, data.class_names, setting)
            rows.append(
                {
                    "model": setting.sizes.models[0], "num_workers": num_workers, "precision": precision,
                    "batch_seconds": per_batch, "step_seconds": loaded["step"],
                    "wait_share": loaded["wait"] / loaded["step"], "step_seconds_repeated": repeated[precision],
                }
            )  # fmt: skip
        del batches  # ends the workers
    return rows


def training_loop(
    batches: Iterable[Batch], precision: str, class_names: list[str], setting: Setting
) -> dict[str, float]:
    """Return the mean seconds of a whole training step, and of its wait for the next batch.

    A step is that of ``fit``: transfer, losses, backward pass, clipping and Adam. As there, the next batch is requested
    while the GPU may still work on the last one, so that not all of the wait is lost.
    """
    module = ExtractionModule(class_names, RATE, setting.config(setting.sizes.models[0])).to(setting.device)
    optimizer = torch.optim.Adam(module.parameters(), lr=5e-4)
    source = iter(batches)
    waits = []

    def once() -> None:
        start = perf_counter()
        batch = next(source)
        waits.append(perf_counter() - start)
        batch = {name: value.to(setting.device, non_blocking=True) for name, value in batch.items()}
        with setting.precision(precision):
            loss = module.training_step(batch, 0)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    num_steps = setting.sizes.steps
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*trainer.*")  # there is none that it could log to
        timed(lambda: [once() for _ in range(3)], setting.device)
        seconds = timed(lambda: [once() for _ in range(num_steps)], setting.device)
    return {"step": seconds / num_steps, "wait": sum(waits[-num_steps:]) / num_steps}


def evaluation(setting: Setting) -> list[dict[str, Any]]:
    """Measure the evaluation of a batch on the default test conditions and refinements, by precision.

    Probabilities are drawn as in ``benchmarks/evaluation.py``.
    """
    data = setting.data(num_workers=0)
    data.setup("test")
    batch = data.datasets["test"].__getitems__([(0, index) for index in range(setting.sizes.batch)])
    torch.manual_seed(0)
    logits = 1.5 * torch.randn_like(batch["activity"]) + 4.0 * batch["activity"] - 2.5
    batch = {name: value.to(setting.device) for name, value in batch.items()}
    probability = torch.sigmoid(logits).to(setting.device)
    module = setting.network(setting.sizes.models[0], len(data.class_names))
    grid = Grid(
        tuple(Condition(*pair) for pair in TEST_CONDITIONS), parse_refinements(TEST_THRESHOLDS, "evaluation.thresholds")
    )
    queries_per_pass = QueryRefinementEvaluation().queries_per_pass

    def evaluate(precision: str) -> None:
        with torch.inference_mode():
            with setting.precision(precision):
                features = module.features(batch["mixture"])
            context = partial(setting.precision, precision)
            evaluate_batch(module, features, probability, batch, grid, queries_per_pass, context)

    seconds = medians(
        {precision: partial(evaluate, precision) for precision in PRECISIONS}, setting.repeats, setting.device
    )
    return [
        {
            "model": setting.sizes.models[0], "precision": precision,
            "cells": len(grid.conditions) * len(grid.refinements),
            "seconds_per_mixture": taken / setting.sizes.batch,
        }
        for precision, taken in seconds.items()
    ]  # fmt: skip


def compiled(work: str, precision: str, setting: Setting) -> dict[str, Any]:
    """Measure the compilation of the first network, and its steps beside those of the plain one."""
    torch.compiler.reset()  # PyTorch compiles a function for at most eight cases, and without a word no further one
    name, inference = setting.sizes.models[0], work == "inference"
    expected = cpu_results(name, setting, inference)
    plain, module = setting.network(name), setting.network(name)
    module.compile_stacks()
    runs = {
        label: step(each, setting.mixture(), precision, inference)
        for label, each in (("plain", plain), ("compiled", module))
    }
    compilation = timed(runs["compiled"], setting.device)
    seconds = medians(runs, setting.repeats, setting.device)
    found = results(setting, module, precision, inference)
    return {
        "model": name, "work": work, "precision": precision, "compilation_seconds": compilation,
        "ms": 1e3 * seconds["compiled"], "ms_plain": 1e3 * seconds["plain"],
        "peak_gib": peak_gib(runs["compiled"], setting.device),
        "differences": differences(found, expected),
    }  # fmt: skip
