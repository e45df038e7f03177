"""The paper's Table 1 as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tse_refine.analysis.systems import SILENT_CONDITION, SNRI_CONDITIONS
from tse_refine.evaluation.conditions import GATE, NONE, ORACLE, condition_name
from tse_refine.evaluation.statistics import Interval
from tse_refine.files.tables import markdown

Row = Mapping[Any, Any]

_REFINEMENT = {NONE: "–", ORACLE: "oracle"}
_KIND = {(1, 0): "FMQ", (1, 1): "PMQ", (1, 3): "PMQ", SILENT_CONDITION: "FUQ"}
_LATEX_ESCAPES = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "%_&#${}"},
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "–": "--",
        "δ": r"$\delta$",
        "λ": r"$\lambda$",
    }
)
_NOTE = (
    "SNRi in dB (higher is better) and, for FUQ, attenuation in dB; brackets: bootstrap 95 % intervals over mixtures "
    "and seeds. δ: refinement threshold; gate: silence where no queried class reaches its threshold, else the raw "
    "query."
)


def markdown_table(rows: Sequence[Row]) -> str:
    """Return Table 1 as Markdown, with a line that says what its numbers are."""
    columns = _columns(interval_text)
    return markdown([name for name, _ in columns], [[text(row) for _, text in columns] for row in rows], _NOTE)


def latex_table(rows: Sequence[Row]) -> str:
    r"""Return Table 1 as a LaTeX ``tabular`` (``\usepackage{booktabs}``); a rule stands between systems."""
    columns = _columns(interval_text)
    head = " & ".join(_latex(name) for name, _ in columns)
    lines = [rf"\begin{{tabular}}{{ll{'r' * (len(columns) - 2)}}}", r"\toprule", head + r" \\", r"\midrule"]
    for number, row in enumerate(rows):
        if number and row["system"] != rows[number - 1]["system"]:
            lines.append(r"\midrule")
        lines.append(" & ".join(_latex(text(row)) for _, text in columns) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {_NOTE}"]) + "\n"


def csv_table(rows: Sequence[Row]) -> str:
    """Return Table 1 as CSV: a column for each mean and for each end of its interval; empty where not measured."""
    head = ["system", "refinement", "seeds", "inactive_samples"]
    for condition in (*SNRI_CONDITIONS, SILENT_CONDITION):
        name = f"{'snri_db' if condition[0] else 'attenuation_db'}_{condition[0]}a{condition[1]}i"
        head += [name, f"{name}_low", f"{name}_high"]
    head += ["macro_f1", "gmac_per_second", "parameters"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        cells = [row[name] for name in head[:4]]
        for condition in (*SNRI_CONDITIONS, SILENT_CONDITION):
            cells += [""] * 3 if row[condition] is None else [f"{float(part[0]):.5f}" for part in row[condition]]
        f1 = "" if row["macro_f1"] is None else f"{row['macro_f1']:.5f}"
        writer.writerow([*cells, f1, row["gmac_per_second"], int(row["parameters"])])
    return out.getvalue()


def interval_text(value: Interval | None) -> str:
    """Return a mean and its interval as tables write them, with two decimals; a dash where there is none."""
    if value is None or math.isnan(value.mean[0]):
        return "–"
    return f"{value.mean[0]:.2f} [{value.low[0]:.2f}, {value.high[0]:.2f}]"


def _columns(interval: Callable[[Interval | None], str]) -> list[tuple[str, Callable[[Row], str]]]:
    """Return the columns' names, and what turns a row into each one's text."""

    def measure(condition: tuple[int, int]) -> tuple[str, Callable[[Row], str]]:
        unit = "" if condition[0] else ", att."
        return f"{_KIND[condition]} {condition_name(condition)}{unit}", lambda row: interval(row[condition])

    return [
        ("system", lambda row: row["system"] + (f", {row['seeds']} seeds" if row["seeds"] > 1 else "")),
        ("δ", _delta),
        ("inactive samples", lambda row: f"{100 * row['inactive_samples']:g} %"),
        *(measure(condition) for condition in (*SNRI_CONDITIONS, SILENT_CONDITION)),
        ("macro F1", lambda row: "–" if row["macro_f1"] is None else f"{row['macro_f1']:.2f}"),
        ("GMAC/s", lambda row: f"{row['gmac_per_second']:.3g}"),
        ("parameters", lambda row: f"{row['parameters'] / 1e6:.2f} M"),
    ]


def _delta(row: Row) -> str:
    if row["refinement"] == GATE:
        return f"gate at {row['gate_threshold']:g}"
    return _REFINEMENT.get(row["refinement"], row["refinement"])


def _latex(text: str) -> str:
    """Return a cell for LaTeX; an interval is set small."""
    return re.sub(r"^(\S+) (\[.+\])$", r"\1 {\\scriptsize\2}", text.translate(_LATEX_ESCAPES))
