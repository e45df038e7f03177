"""From the result files of runs to tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from tse_refine.errors import InputError
from tse_refine.files import replacing, write_text
from tse_refine.grid import GATE, NONE, ORACLE
from tse_refine.results import SUMMARY_COLUMNS, read_table
from tse_refine.run_folder import RunFolder
from tse_refine.tables import summary_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Summary = Sequence[Mapping[str, str]]

# Okabe and Ito's colours, which colour-blind readers tell apart
_WORD_STYLE = {
    NONE: {"color": "#000000", "linestyle": "-", "marker": "o"},
    ORACLE: {"color": "#000000", "linestyle": "--", "marker": ""},
    GATE: {"color": "#999999", "linestyle": ":", "marker": "s"},
}
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#F0E442")
_MARKERS = "^vDPX<>"


def write_report(runs: Sequence[Path], output: Path) -> list[Path]:
    """Write the tables and the figure of finished runs.

    Args:
        runs: folders of runs that ``test`` has evaluated.
        output: folder for ``summary.txt`` and ``snri_vs_inactive.png`` and ``.pdf``.

    Returns:
        The files written.

    Raises:
        InputError: a run has no usable ``test/summary.csv``, or matplotlib is not installed.
    """
    summaries = {str(run): read_table(RunFolder(run).test / "summary.csv", SUMMARY_COLUMNS) for run in runs}
    for run, rows in summaries.items():
        if not rows:
            raise InputError(f"{run}/test/summary.csv holds no row; run `tse-refine test` again.")
    table = output / "summary.txt"
    write_text(table, "\n\n".join(f"{run}\n{summary_table(rows)}" for run, rows in summaries.items()) + "\n")
    figure = draw_snri_by_inactive(summaries)
    paths = [table]
    for suffix in ("png", "pdf"):
        path = output / f"snri_vs_inactive.{suffix}"
        with replacing(path) as temporary:
            figure.savefig(temporary, format=suffix, dpi=150)
        paths.append(path)
    return paths


def draw_snri_by_inactive(summaries: Mapping[str, Summary]) -> Figure:
    """Draw SNRi at (1:i) against i, one line a threshold, one panel a run; intervals are shaded.

    Args:
        summaries: rows of ``summary.csv`` by name of the run.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "Figures need matplotlib, which is not installed; install it with `pip install 'tse-refine[report]'`."
        ) from None
    figure = Figure(figsize=(0.8 + 4.6 * len(summaries), 4.0), layout="constrained")
    panels = figure.subplots(1, len(summaries), sharey=True, squeeze=False)[0]
    styles = _styles([row["threshold"] for rows in summaries.values() for row in rows])
    for panel, (run, rows) in zip(panels, summaries.items(), strict=True):
        _draw_panel(panel, rows, styles)
        panel.set_title(Path(run).name)
    panels[0].set_ylabel("SNRi (dB)")
    lines = {line.get_label(): line for panel in panels for line in panel.get_lines()}  # runs may differ in thresholds
    panels[-1].legend(
        lines.values(), lines.keys(), title="threshold δ", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False
    )
    return figure


def _styles(thresholds: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return how each threshold is drawn, the same in every panel."""
    numbers = [threshold for threshold in dict.fromkeys(thresholds) if threshold not in _WORD_STYLE]
    looks = zip(cycle(_COLOURS), cycle(_MARKERS), strict=False)
    return _WORD_STYLE | {
        threshold: {"color": colour, "marker": marker}
        for threshold, (colour, marker) in zip(numbers, looks, strict=False)
    }


def _draw_panel(panel: Axes, rows: Summary, styles: Mapping[str, dict[str, str]]) -> None:
    asked = [row for row in rows if row["active"] == "1"]
    for threshold in dict.fromkeys(row["threshold"] for row in asked):
        line = sorted((row for row in asked if row["threshold"] == threshold), key=lambda row: int(row["inactive"]))
        style = styles[threshold]
        inactive = [int(row["inactive"]) for row in line]
        panel.plot(inactive, [float(row["snri_db"]) for row in line], label=threshold, markersize=5, **style)
        low, high = ([float(row[f"snri_db_{end}"]) for row in line] for end in ("low", "high"))
        panel.fill_between(inactive, low, high, color=style["color"], alpha=0.08, linewidth=0)
    panel.set_xticks(sorted({int(row["inactive"]) for row in asked}))
    panel.set_xlabel("inactive classes in the query, beside one active")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
