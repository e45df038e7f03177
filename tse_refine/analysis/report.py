"""From the result files of runs to tables, figures and one page that gathers them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tse_refine.analysis import figures, page
from tse_refine.analysis.comparison_table import csv_table, latex_table, markdown_table
from tse_refine.analysis.decision_tables import (
    CLASS_COLUMNS,
    DECISION_COLUMNS,
    QUERY_COLUMNS,
    class_rows,
    decision_rows,
    markdown_decisions,
    query_rows,
)
from tse_refine.analysis.difference_tables import (
    DIFFERENCE_COLUMNS,
    condition_rows,
    difference_rows,
    markdown_conditions,
    markdown_differences,
    tidy_differences,
)
from tse_refine.analysis.example import WorkedExample, extract_example
from tse_refine.analysis.plotting import require_matplotlib
from tse_refine.analysis.systems import SILENT_CONDITION, System, group_systems, table_rows
from tse_refine.analysis.tested_run import MeasuredRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import NONE, condition_name
from tse_refine.evaluation.results import REMEDY, SUMMARY_COLUMNS, summary_table
from tse_refine.files.atomic import check_output, replacing, write_text
from tse_refine.files.tables import read_csv, write_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "snri_by_inactive": "SNRi against the number of inactive classes in the query (as the paper's Fig. 3).",
    "trade_off": "What refinement costs fully matched queries and wins partially matched ones, one point a threshold.",
    "attenuation": "How much weaker the output is when nothing that was asked for is there.",
    "per_class": "Each class: SNRi at (1:3) without and with refinement, and how often the classifier finds it (its "
    "false-negative rate is what lacks to 1).",
    "thresholds": "SNRi against inactive classes for every threshold, one panel a system.",
}
_EXAMPLE = "example"
_SOMETIMES = {
    "differences.md",
    "decisions.md",
    "decisions.csv",
    "refined_queries.csv",
    "per_class.csv",
}  # where a run refines
_SOMETIMES |= {f"{name}.{suffix}" for name in (*_CAPTIONS, _EXAMPLE) for suffix in ("png", "pdf")}


def write_report(runs: Sequence[Path], output: Path, threshold: float | None = None) -> list[Path]:
    """Write the tables, the figures and the page of finished runs.

    Runs that differ only in their seed are pooled.

    Args:
        runs: folders of runs that ``test`` has evaluated, on the same test mixtures.
        output: folder for ``index.html``, which gathers all; ``summary.txt``; ``table1.{md,tex,csv}``;
            ``differences.{md,csv}``, paired, between methods and between conditions; a PNG and a PDF of each figure;
            and where a run refines, ``decisions.{md,csv}`` (what each threshold drops and keeps),
            ``refined_queries.csv`` (the same by condition) and ``per_class.csv``.
        threshold: at which figures refine; by default the one recommended on validation in the first run that can.

    Returns:
        The files written.

    Raises:
        InputError: a run's file is missing or damaged, runs cannot stand side by side, the threshold was not measured,
            or matplotlib is not installed.
    """
    measured = [MeasuredRun(run) for run in runs]
    summaries = {
        str(run): read_csv(one.folder.test / "summary.csv", SUMMARY_COLUMNS, REMEDY)
        for run, one in zip(runs, measured, strict=True)
    }
    for run, rows in summaries.items():
        if not rows:
            raise InputError(f"{run}/test/summary.csv holds no row; run `tse-refine test` again.")
    systems = group_systems(measured)
    _check_output(output, measured)
    chosen = _threshold(systems, threshold)
    rows, decisions, queries, classes = (make(systems) for make in (table_rows, decision_rows, query_rows, class_rows))
    differences, costs = difference_rows(systems, chosen), condition_rows(systems, chosen)
    example = _example(systems, chosen)
    texts = {
        "summary.txt": "\n\n".join(f"{run}\n{summary_table(rows)}" for run, rows in summaries.items()) + "\n",
        "table1.md": markdown_table(rows),
        "table1.tex": latex_table(rows),
        "table1.csv": csv_table(rows),
    }
    tables = {"differences.csv": (DIFFERENCE_COLUMNS, tidy_differences(differences, costs))}
    compared = [markdown_differences(differences)] if differences else []
    compared += [markdown_conditions(costs)] if costs else []
    if compared:
        texts["differences.md"] = "\n".join(compared)
    if decisions:
        texts["decisions.md"] = markdown_decisions(decisions, queries)
        tables["decisions.csv"] = (DECISION_COLUMNS, decisions)
        tables["refined_queries.csv"] = (QUERY_COLUMNS, queries)
        tables["per_class.csv"] = (CLASS_COLUMNS, classes)
    sections = {
        "What is more than what": compared,
        "What each threshold decides": [texts["decisions.md"]] if decisions else [],
    }
    pictures = _pictures(systems, chosen, example)
    texts["index.html"] = _page(markdown_table(rows), sections, pictures, chosen, example)
    for name, text in texts.items():
        write_text(output / name, text)
    for name, (columns, lines) in tables.items():
        write_csv(output / name, columns, lines)
    for name, content in pictures.items():
        with replacing(output / name) as temporary:
            temporary.write_bytes(content)
    written = sorted([*texts, *tables, *pictures])
    for name in _SOMETIMES - set(written):  # an earlier report of other runs may have had them
        (output / name).unlink(missing_ok=True)
    return [output / name for name in written]


def _check_output(output: Path, runs: Sequence[MeasuredRun]) -> None:
    check_output(output, "folder")
    if output.resolve() in [run.folder.test.resolve() for run in runs]:
        raise InputError(f"--output: {output} holds the results that are read; name another folder for the report.")


def _pictures(systems: Sequence[System], threshold: str | None, example: WorkedExample | None) -> dict[str, bytes]:
    """Return every figure as PNG and as PDF, by file name."""
    require_matplotlib()
    from matplotlib import rc_context

    pictures = {}
    with rc_context({"text.parse_math": False}):  # a class may have a $ in its name
        drawn = _figures(systems, threshold)
        if example is not None:
            drawn[_EXAMPLE] = figures.draw_example(example)
        for name, figure in drawn.items():
            for suffix in ("png", "pdf"):
                content = BytesIO()
                figure.savefig(content, format=suffix, dpi=150)
                pictures[f"{name}.{suffix}"] = content.getvalue()
    return pictures


def _example(systems: Sequence[System], threshold: str | None) -> WorkedExample | None:
    """Return the worked example of the first run that can refine; None where it cannot be made, which is said."""
    refining = [system for system in systems if system.has_classifier]
    if not refining or threshold is None:
        return None
    try:
        return extract_example(refining[0].runs[0], threshold)
    except InputError as error:
        print(f"tse-refine: the report has no worked example. {error}", file=sys.stderr)
        return None


def _figures(systems: Sequence[System], threshold: str | None) -> dict[str, Figure]:
    conditions = systems[0].runs[0].grid.conditions
    refining = [system for system in systems if system.has_classifier]
    drawn = {}
    if any(active == 1 for active, _ in conditions):
        drawn["snri_by_inactive"] = figures.draw_snri_by_inactive(systems, threshold)
        drawn["thresholds"] = figures.draw_thresholds(refining or systems)
    trading = [s for s in refining if s.thresholds and all(s.measured(c, NONE) for c in ((1, 0), (1, 3)))]
    if trading:
        drawn["trade_off"] = figures.draw_trade_off(trading)
    if SILENT_CONDITION in conditions:
        drawn["attenuation"] = figures.draw_attenuation(systems, threshold)
    if refining and threshold is not None:
        drawn["per_class"] = figures.draw_per_class(refining[0], threshold)
    return drawn


def _threshold(systems: Sequence[System], given: float | None) -> str | None:
    """Return the threshold of the figures as result files write it; None where no system refines."""
    refining = [system for system in systems if system.has_classifier]
    if not refining:
        return None
    run = refining[0].runs[0]
    wanted = f"{given:g}" if given is not None else run.recommended_threshold
    for system in refining:
        if wanted not in system.thresholds:
            whose = "--threshold" if given is not None else "The threshold that validation recommended"
            raise InputError(
                f"{whose}: {system.runs[0].folder.path} was not tested at {wanted}. Give --threshold, one of "
                f"{', '.join(system.thresholds)}, or test with {wanted} in evaluation.thresholds."
            )
    return wanted


def _page(
    table: str,
    sections: Mapping[str, Sequence[str]],
    pictures: Mapping[str, bytes],
    chosen: str | None,
    example: WorkedExample | None,
) -> str:
    parts = [page.table(table)]
    if chosen is not None:
        parts.append(page.paragraph(f"Figures refine at δ = {chosen}."))
    parts += [
        page.picture(pictures[f"{name}.png"], caption)
        for name, caption in _CAPTIONS.items()
        if f"{name}.png" in pictures
    ]
    for title, tables in sections.items():
        if tables:
            parts += [page.heading(title), *(page.table(one) for one in tables)]
    if example is not None:
        parts += [page.heading("A worked example"), page.paragraph(_story(example))]
        parts.append(
            page.picture(pictures[f"{_EXAMPLE}.png"], "The same on one scale of colours (as the paper's Fig. 2).")
        )
        sounds = {
            "mixture": example.mixture,
            "target": example.target,
            "extraction, raw query": example.raw,
            "extraction, refined query": example.refined,
        }
        parts.append(page.players(sounds, example.sample_rate))
    return page.page("Query refinement: what was measured", parts)


def _story(example: WorkedExample) -> str:
    believed = ", ".join(f"{name} {value:.2f}" for name, value in example.probability.items())
    return (
        f"Test mixture {example.index} of {example.run} holds {', '.join(example.active)}; asked for are "
        f"{', '.join(example.query)}. The classifier believes: {believed}; at δ = {example.threshold}, "
        f"{', '.join(example.refined_query)} is left of the query. SNRi: {example.raw_snri_db:.1f} dB with the raw "
        f"query, {example.refined_snri_db:.1f} dB with the refined one. The mixture was chosen by rule: of the queries "
        f"at {condition_name(example.condition)} that refinement changed without emptying them, the one with the "
        "median gain. The players share one gain."
    )
