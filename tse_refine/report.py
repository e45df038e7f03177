"""From the result files of runs to tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    for panel, (run, rows) in zip(panels, summaries.items(), strict=True):
        _draw_panel(panel, rows)
        panel.set_title(Path(run).name)
    panels[0].set_ylabel("SNRi (dB)")
    panels[-1].legend(title="threshold δ", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure


def _draw_panel(panel: Axes, rows: Summary) -> None:
    asked = [row for row in rows if row["active"] == "1"]
    numbers = 0
    for threshold in dict.fromkeys(row["threshold"] for row in asked):
        line = sorted((row for row in asked if row["threshold"] == threshold), key=lambda row: int(row["inactive"]))
        style = _WORD_STYLE.get(threshold)
        if style is None:
            style = {"color": _COLOURS[numbers % len(_COLOURS)], "marker": _MARKERS[numbers % len(_MARKERS)]}
            numbers += 1
        inactive = [int(row["inactive"]) for row in line]
        panel.plot(inactive, [float(row["snri_db"]) for row in line], label=threshold, markersize=5, **style)
        low, high = ([float(row[f"snri_db_{end}"]) for row in line] for end in ("low", "high"))
        panel.fill_between(inactive, low, high, color=style["color"], alpha=0.08, linewidth=0)
    panel.set_xticks(sorted({int(row["inactive"]) for row in asked}))
    panel.set_xlabel("inactive classes in the query, beside one active")
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
