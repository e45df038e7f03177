"""From the result files of runs to tables, figures and one page that gathers them."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tse_refine import figures
from tse_refine.comparison import System, group_systems, table_rows
from tse_refine.comparison_table import csv_table, latex_table, markdown_table
from tse_refine.errors import InputError
from tse_refine.files import replacing, write_text
from tse_refine.measured_run import MeasuredRun
from tse_refine.results import SUMMARY_COLUMNS, read_table
from tse_refine.tables import summary_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "snri_by_inactive": "SNRi against the number of inactive classes in the query (as the paper's Fig. 3).",
    "trade_off": "What refinement costs fully matched queries and wins partially matched ones, one point a threshold.",
    "attenuation": "How much weaker the output is when nothing that was asked for is there.",
    "per_class": "Each class: SNRi at (1:3) without and with refinement, and how often the classifier finds it.",
    "thresholds": "SNRi against inactive classes for every threshold, one panel a run.",
}


def write_report(runs: Sequence[Path], output: Path, threshold: float | None = None) -> list[Path]:
    """Write the tables, the figures and the page of finished runs.

    Runs that differ only in their seed are pooled.

    Args:
        runs: folders of runs that ``test`` has evaluated, on the same test mixtures.
        output: folder for ``summary.txt``, ``table1.{md,tex,csv}``, a PNG and a PDF of each figure, and ``index.html``.
        threshold: at which figures refine; by default the one recommended on validation in the first run that can.

    Returns:
        The files written.

    Raises:
        InputError: a run's file is missing or damaged, runs cannot stand side by side, the threshold was not measured,
            or matplotlib is not installed.
    """
    measured = [MeasuredRun(run) for run in runs]
    summaries = {
        str(run): read_table(one.folder.test / "summary.csv", SUMMARY_COLUMNS)
        for run, one in zip(runs, measured, strict=True)
    }
    for run, rows in summaries.items():
        if not rows:
            raise InputError(f"{run}/test/summary.csv holds no row; run `tse-refine test` again.")
    systems = group_systems(measured)
    chosen = _threshold(systems, threshold)
    rows = table_rows(systems)
    texts = {
        "summary.txt": "\n\n".join(f"{run}\n{summary_table(rows)}" for run, rows in summaries.items()) + "\n",
        "table1.md": markdown_table(rows),
        "table1.tex": latex_table(rows),
        "table1.csv": csv_table(rows),
    }
    drawn = _figures(systems, summaries, chosen)
    paths = []
    for name, text in texts.items():
        write_text(output / name, text)
        paths.append(output / name)
    for name, figure in drawn.items():
        for suffix in ("png", "pdf"):
            path = output / f"{name}.{suffix}"
            with replacing(path) as temporary:
                figure.savefig(temporary, format=suffix, dpi=150)
            paths.append(path)
    page = output / "index.html"
    write_text(page, _page(rows, drawn, chosen))
    return [*paths, page]


def _figures(
    systems: Sequence[System], summaries: Mapping[str, Sequence[Mapping[str, str]]], threshold: str | None
) -> dict[str, Figure]:
    drawn = {"snri_by_inactive": figures.draw_snri_by_inactive(systems, threshold)}
    refining = [system for system in systems if system.has_classifier]
    if refining:
        drawn["trade_off"] = figures.draw_trade_off(systems)
    drawn["attenuation"] = figures.draw_attenuation(systems, threshold)
    if refining and threshold is not None:
        drawn["per_class"] = figures.draw_per_class(refining[0], threshold)
    drawn["thresholds"] = figures.draw_thresholds(summaries)
    return drawn


def _threshold(systems: Sequence[System], given: float | None) -> str | None:
    """Return the threshold of the figures as result files write it; None where no system refines."""
    refining = [system for system in systems if system.has_classifier]
    if not refining:
        return None
    run = refining[0].runs[0]
    wanted = f"{given:g}" if given is not None else run.recommended_threshold
    for system in refining:
        if wanted not in system.runs[0].grid.thresholds:
            raise InputError(
                f"--threshold: {system.runs[0].folder.path} was not tested at {wanted}, but at "
                f"{', '.join(system.runs[0].grid.thresholds)}; choose among those."
            )
    return wanted


def _page(rows: Sequence[Mapping], drawn: Mapping[str, Figure], threshold: str | None) -> str:
    """Return one page that needs no other file."""
    refined = "" if threshold is None else f"<p>Figures refine at δ = {html.escape(threshold)}.</p>"
    parts = [_html_table(markdown_table(rows)), refined]
    for name, figure in drawn.items():
        image = BytesIO()
        figure.savefig(image, format="png", dpi=120)
        data = base64.b64encode(image.getvalue()).decode()
        caption = html.escape(_CAPTIONS[name])
        picture = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        parts.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>tse_refine: report</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-size: 0.85rem; display: block; overflow-x: auto }}
th, td {{ padding: 0.25rem 0.6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }}
th:nth-child(-n+2), td:nth-child(-n+2) {{ text-align: left }}
figure {{ margin: 2rem 0 }} img {{ max-width: 100%; height: auto }} figcaption {{ color: #555 }}
</style></head><body>
<h1>Query refinement: what was measured</h1>
{chr(10).join(parts)}
</body></html>
"""


def _html_table(markdown: str) -> str:
    lines = markdown.strip().splitlines()
    table = [
        [html.escape(cell.strip()) for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")
    ]
    head, body = table[0], table[2:]
    rows = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    rows += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line and not line.startswith("|"))
    return f"<table>{''.join(rows)}</table>{notes}"
