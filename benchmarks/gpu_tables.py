"""The record of ``benchmarks/gpu.py`` as Markdown tables, and the hours that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import checkout  # noqa: F401
from measuring import limits_text

from tse_refine.files.tables import Table

Record = Mapping[str, Any]
NONE = "–"  # a cell that was not measured


def figures(record: Record, prefix: str) -> list[Any]:
    """Return the figures of the measured parts whose names begin so; those of a part of many rows one by one."""
    found = [
        outcome["figures"]
        for name, outcome in record["parts"].items()
        if name.startswith(prefix) and outcome["state"] == "done"
    ]
    return [row for each in found for row in (each if isinstance(each, list) else [each])]


def hours(record: Record) -> dict[str, list[dict[str, Any]]]:
    """Return the hours of the published training in each mode, and those of evaluating the published test set.

    Steps of the mode ``loop`` are whole ones of the loader's part; the others are forward and backward pass alone.
    """
    published = record["published"]
    num_steps = published["max_epochs"] * published["num_train"] / record["sizes"]["batch"]
    training = [
        {"model": model, "mode": mode, "step_seconds": seconds, "hours": num_steps * seconds / 3600}
        for model, mode, seconds in _steps(record)
    ]
    test = [
        row | {"hours": published["num_test"] * row["seconds_per_mixture"] / 3600}
        for row in figures(record, "evaluation")
    ]
    return {"training": training, "test": test}


def _steps(record: Record) -> Iterator[tuple[str, str, float]]:
    """Yield model, mode and seconds of each measured training step."""
    for row in figures(record, "steps_"):
        if row["work"] == "training step" and row["network"] in ("tse_refine", "without classifier"):
            without = ", without classifier" if row["network"] == "without classifier" else ""
            yield row["model"], row["precision"] + without, row["ms"] / 1e3
    for row in figures(record, "compiled_training"):
        yield row["model"], f"{row['precision']}, compiled", row["ms"] / 1e3
    for row in figures(record, "loader"):
        yield row["model"], f"{row['precision']}, loop with {row['num_workers']} workers", row["step_seconds"]


def report_text(record: Record) -> str:
    """Return all tables of a record in Markdown, each under its heading, and what was not measured."""
    parts = [f"{_heading(record)}\n"]
    parts += [f"## {title}\n\n{table.markdown()}" for title, make in _TABLES.items() if (table := make(record)).rows]
    missing = [
        f"- {name}: {outcome['state']}, {outcome['reason']}"
        for name, outcome in record["parts"].items()
        if outcome["state"] != "done"
    ]
    return "\n".join([*parts, *(["## Not measured\n", *missing, ""] if missing else [])])


def _heading(record: Record) -> str:
    sizes = record["sizes"]
    seconds = sum(outcome["seconds"] for outcome in record["parts"].values())
    text = (
        f"{record['machine']}; batches of {sizes['batch']} x {sizes['seconds']:g} s, medians of "
        f"{record['options']['repeats']}; {seconds:.0f} s in all."
    )
    rehearsal = ["A rehearsal: some of its networks have fewer blocks."] if sizes["blocks_per_stack"] else []
    return " ".join([text, *map(limits_text, figures(record, "limits")), *rehearsal])


def _agreement(record: Record) -> Table:
    rows = figures(record, "agreement")
    for row in figures(record, "compiled_"):
        mode = f"{row['precision']}, compiled, {row['work']}"
        rows.append({"model": row["model"], "mode": mode, **row["differences"]})
    names = ("estimate", "probability", "gradient")
    cells = [
        (row["model"], row["mode"], *(f"{100 * row[name]:.2g} %" if name in row else NONE for name in names))
        for row in rows
    ]
    return Table(("network", "mode", *names), cells, "Differences from the CPU in float32, by their norms.", num_left=2)


def _commands(record: Record) -> Table:
    rows = [
        (row["command"], row["precision"] + ", compiled" * row["compiled"], f"{row['seconds']:.1f}")
        for row in figures(record, "commands_")
    ]
    return Table(("command", "precision", "s"), rows, num_left=2)


def _speed(record: Record) -> Table:
    ms = {(row["model"], row["work"], row["network"], row["precision"]): row["ms"] for row in figures(record, "steps_")}
    ms |= {(row["model"], row["work"], "compiled", row["precision"]): row["ms"] for row in figures(record, "compiled_")}
    rows = []
    for model, work in dict.fromkeys(key[:2] for key in ms):
        peer = ms.get((model, work, "torchaudio", "float32"))
        cells = [NONE if peer is None else f"{peer:.1f}"]
        for network in ("tse_refine", "compiled", "without classifier"):
            for precision in ("float32", "bfloat16"):
                taken = ms.get((model, work, network, precision))
                ratio = "" if peer is None or taken is None else f" ({peer / taken:.2f})"
                cells.append(NONE if taken is None else f"{taken:.1f}{ratio}")
        rows.append((f"`{model}`", work, *cells))
    head = ("network", "work", "torchaudio float32", "float32", "bfloat16", "compiled float32", "compiled bfloat16")
    head += ("without classifier, float32", "bfloat16")
    return Table(head, rows, "Milliseconds; in parentheses the speed relative to torchaudio in float32.", num_left=2)


def _limits(record: Record) -> Table:
    known = (figures(record, "limits") or [{}])[0]
    rows = []
    for row in figures(record, "steps_"):
        if "operand_gigabytes" not in row:
            continue
        speed, gigabytes = row["gflop_per_second"], row["operand_gigabytes"]
        shares = (
            (f"{speed / known['bfloat16']:.1%}", f"{1e3 * gigabytes / row['ms'] / known['copy']:.0%}")
            if known
            else (NONE, NONE)
        )
        rows.append(
            (
                f"`{row['model']}`", row["network"], row["work"], row["precision"], f"{speed:,.0f}", shares[0],
                f"{gigabytes:.3g}", shares[1], _gib(row["peak_gib"]),
            )
        )  # fmt: skip
    head = ("network", "", "work", "precision", "GFLOP/s", "of bfloat16 limit", "operands (GB)", "of copy limit")
    note = (
        "Operands are the bytes that operations read and write, counted one by one; a share above 100 % is the work "
        "of caches."
    )
    return Table((*head, "peak (GiB)"), rows, note, num_left=4)


def _compilation(record: Record) -> Table:
    rows = [
        (
            f"`{row['model']}`", row["work"], row["precision"], f"{row['compilation_seconds']:.0f}",
            f"{row['ms']:.1f}", f"{row['ms_plain']:.1f}", _gib(row["peak_gib"]),
        )
        for row in figures(record, "compiled_")
    ]  # fmt: skip
    head = ("network", "work", "precision", "compilation (s)", "compiled (ms)", "plain (ms)", "peak (GiB)")
    return Table(head, rows, num_left=3)


def _largest(record: Record) -> Table:
    limit = record["sizes"]["largest_batch"]
    rows = [
        (
            f"`{row['model']}`", "yes" if row["checkpointed"] else "no", str(row["batch"]),
            row["stopped_by"] or f"none tried beyond {limit}",
        )
        for row in figures(record, "largest_batch_")
    ]  # fmt: skip
    return Table(("network", "checkpointed", "largest batch", "a larger one fails by"), rows, "Float32.", num_left=2)


def _loader(record: Record) -> Table:
    rows = [
        (
            f"`{row['model']}`", row["precision"], str(row["num_workers"]), f"{1e3 * row['batch_seconds']:.1f}",
            f"{1e3 * row['step_seconds']:.1f}", f"{1e3 * row['step_seconds_repeated']:.1f}", f"{row['wait_share']:.1%}",
        )
        for row in figures(record, "loader")
    ]  # fmt: skip
    head = ("network", "precision", "workers", "loader alone (ms per batch)", "step (ms)", "step on one batch (ms)")
    note = "A step is a whole one: transfer, losses, backward pass, clipping and Adam."
    return Table((*head, "waiting for the loader"), rows, note, num_left=2)


def _evaluation(record: Record) -> Table:
    rows = [
        (
            f"`{row['model']}`", row["precision"], str(row["cells"]), f"{row['seconds_per_mixture']:.3f}",
            f"{row['hours']:.2f}",
        )
        for row in hours(record)["test"]
    ]  # fmt: skip
    test = f"hours for {record['published']['num_test']:,} mixtures"
    return Table(("network", "precision", "cells", "s per mixture", test), rows, num_left=2)


def _training(record: Record) -> Table:
    published = record["published"]
    rows = [
        (f"`{row['model']}`", row["mode"], f"{1e3 * row['step_seconds']:.1f}", f"{row['hours']:.1f}")
        for row in hours(record)["training"]
    ]
    note = (
        f"{published['max_epochs']} epochs of {published['num_train']:,} mixtures. A step of a loop is a whole one, "
        "the others are forward and backward pass."
    )
    return Table(("network", "mode", "step (ms)", "hours"), rows, note, num_left=2)


_TABLES: dict[str, Callable[[Record], Table]] = {
    "Agreement with the CPU": _agreement,
    "Commands": _commands,
    "Training step and inference": _speed,
    "Shares of the machine's limits": _limits,
    "Compilation": _compilation,
    "Largest batch": _largest,
    "Loader": _loader,
    "Evaluation": _evaluation,
    "Published training": _training,
}


def _gib(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
