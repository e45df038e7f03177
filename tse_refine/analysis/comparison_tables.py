"""How comparisons are printed: cells of text for Markdown, LaTeX and HTML, and rows for CSV."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from tse_refine.analysis.comparisons import Difference, Result, Row, table_cells
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, TABLE_CONDITIONS, Condition
from tse_refine.evaluation.metrics import MEASURES, SI_SDRI, Measure
from tse_refine.evaluation.statistics import Interval
from tse_refine.files.tables import Table
from tse_refine.refinement import NoRefinement, Oracle, Refinement, parse_refinement

DIFFERENCE_COLUMNS = ("first", "second", "condition", "measure", "difference", "low", "high")
_ENDS = ("", "_low", "_high")

Columns = list[tuple[str, Callable[[Any], str]]]


def interval_text(value: Interval | None, sign: str = "") -> str:
    """Return a mean and its interval with two decimals; a dash where there is none.

    >>> interval_text(Interval(*np.array([[9.812], [9.1], [10.4]])))
    '9.81 [9.10, 10.40]'
    """
    if value is None or np.isnan(value.mean[0]):
        return "–"
    mean, low, high = (f"{part[0]:{sign}.2f}" for part in value)
    return f"{mean} [{low}, {high}]"


def result_table(results: Sequence[Result]) -> Table:
    """Return Table 1; of the further measures it prints SI-SDRi at (1:0) and (1:3)."""

    def values(condition: Condition, measure: Measure, title: str) -> tuple[str, Callable[[Result], str]]:
        return title, lambda result: interval_text(result.values.get((condition, measure.name)))

    measured = {cell for result in results for cell in result.values}
    columns: Columns = [
        ("system", lambda result: _with_seeds(result.system.name, len(result.system.runs))),
        ("refinement", lambda result: result.refinement.label),
        ("inactive samples", lambda result: f"{100 * result.system.inactive_sample_rate:g} %"),
        *(values(c, c.measure, f"{c.kind} {c.name}" + (", att." * (not c.active))) for c in TABLE_CONDITIONS),
        *(values(c, SI_SDRI, f"{SI_SDRI.label} {c.name}") for c in (MATCHED, PARTIAL) if (c, SI_SDRI.name) in measured),
        ("macro F1", lambda result: "–" if result.macro_f1 is None else f"{result.macro_f1:.2f}"),
        ("GMAC/s", lambda result: f"{result.system.runs[0].cost.gmac_per_second:.3g}"),
        ("parameters", lambda result: f"{result.system.runs[0].cost.parameters / 1e6:.2f} M"),
    ]
    note = (
        "SNRi in dB (higher is better), attenuation in dB for FUQ, and SI-SDRi in dB; brackets: bootstrap 95 % "
        "intervals over mixtures and seeds. Raw query: no refinement. δ: threshold of the refinement. Gate: silence "
        "where no queried class reaches the threshold, else the raw query."
    )
    return _table(columns, results, note, _rules([result.system for result in results]))


def result_rows(results: Sequence[Result]) -> tuple[list[str], list[Row]]:
    """Return the columns and rows of ``table1.csv``: all measures, a column for each mean and each end of its interval.

    Cells that were not measured are empty.
    """
    columns = ["system", "refinement", "seeds", "inactive_samples"]
    columns += [f"{m.name}_{c.key}{end}" for c, m in table_cells() for end in _ENDS]
    rows = []
    for result in results:
        run = result.system.runs[0]
        row: Row = {"system": result.system.name, "refinement": result.refinement.name}
        row |= {"seeds": len(result.system.runs), "inactive_samples": result.system.inactive_sample_rate}
        for condition, measure in table_cells():
            interval = result.values.get((condition, measure.name))
            parts = [None] * 3 if interval is None else [float(part[0]) for part in interval]
            row |= {f"{measure.name}_{condition.key}{end}": part for end, part in zip(_ENDS, parts, strict=True)}
        row |= {"macro_f1": result.macro_f1, "gmac_per_second": run.cost.gmac_per_second}
        rows.append(row | {"parameters": run.cost.parameters})
    return [*columns, "macro_f1", "gmac_per_second", "parameters"], rows


def measure_table(results: Sequence[Result], refinement: Refinement | None) -> Table:
    """Return means of every measure in every printed condition: raw query, the refinement that is shown, oracle.

    Args:
        results: rows of Table 1.
        refinement: refinement that is shown; None where no system refines.
    """
    shown = {rule.name for rule in (NoRefinement(), refinement, Oracle()) if rule is not None}
    rows = [result for result in results if result.refinement.name in shown]

    def mean(condition: Condition, measure: Measure) -> Callable[[Result], str]:
        return lambda result: interval_text(result.values.get((condition, measure.name))).split()[0]

    measured = {cell for result in rows for cell in result.values}
    columns: Columns = [
        ("system", lambda result: _with_seeds(result.system.name, len(result.system.runs))),
        ("refinement", lambda result: result.refinement.label),
    ]
    for measure in MEASURES.values():
        conditions = [condition for condition in TABLE_CONDITIONS if (condition, measure.name) in measured]
        columns += [(f"{measure.axis_label} {c.name}", mean(c, measure)) for c in conditions]
    note = "Means over mixtures and seeds; their intervals are in table1.csv."
    return _table(columns, rows, note, _rules([result.system for result in rows]))


def difference_table(differences: Sequence[Difference]) -> Table:
    """Return differences between methods."""
    columns: Columns = [("method", lambda row: row.first), ("less", lambda row: row.second)]
    columns += [(c.name + (", att." * (not c.active)), _difference(c)) for c in TABLE_CONDITIONS]
    note = (
        "Paired differences in dB on the same mixtures and queries; brackets: bootstrap 95 % intervals over mixtures "
        "and seeds. An interval that contains 0 is no evidence of a difference."
    )
    return _table(columns, differences, note)


def condition_table(differences: Sequence[Difference]) -> Table:
    """Return differences between conditions."""
    conditions = sorted({condition for row in differences for condition in row.values})
    columns: Columns = [("method", lambda row: row.first)]
    columns += [(f"{c.name} − {MATCHED.name}", _difference(c)) for c in conditions]
    note = "Paired differences of SNRi in dB between conditions of the same mixtures; brackets as above."
    return _table(columns, differences, note, num_left=1)


def difference_rows(methods: Sequence[Difference], conditions: Sequence[Difference]) -> list[Row]:
    """Return both tables as rows of :data:`DIFFERENCE_COLUMNS`, one per difference.

    Args:
        methods: differences between methods.
        conditions: differences between conditions.
    """
    rows = []
    pairs = [(difference, "") for difference in methods]
    pairs += [(difference, f" − {MATCHED.name}") for difference in conditions]
    for difference, between in pairs:
        for condition, interval in difference.values.items():
            head = (difference.first, difference.second, f"{condition.name}{between}", condition.measure.name)
            rows.append(dict(zip(DIFFERENCE_COLUMNS, (*head, *(float(p[0]) for p in interval)), strict=True)))
    return rows


def decision_table(rows: Sequence[Row], queries: Sequence[Row]) -> Table:
    """Return decisions and, for two conditions, their effect on queries.

    Args:
        rows: decisions per refinement.
        queries: effect on queries per refinement and condition.
    """
    effects = {(q["system"], q["threshold"], (q["active"], q["inactive"])): q for q in queries}

    def decimals(name: str) -> Callable[[Row], str]:
        return lambda row: f"{row[name]:.3f}"

    def share(part: str, whole: str) -> Callable[[Row], str]:
        return lambda row: f"{round(row[part], 1):g} of {row[whole]:.0f} ({_percent(row[part] / max(1, row[whole]))})"

    def effect(condition: Condition, name: str, text: Callable[[float], str]) -> Callable[[Row], str]:
        return lambda row: text(effects[row["system"], row["threshold"], condition][name])

    columns: Columns = [
        ("system", lambda row: _with_seeds(row["system"], row["seeds"])),
        ("refinement", lambda row: parse_refinement(row["threshold"], "threshold").label),
        ("macro precision", decimals("macro_precision")),
        ("macro recall", decimals("macro_recall")),
        ("macro FNR", decimals("macro_false_negative_rate")),
        ("macro F1", decimals("macro_f1")),
        ("mAP", decimals("map")),
        ("active classes dropped", share("active_dropped", "active_classes")),
        ("inactive classes kept", share("inactive_kept", "inactive_classes")),
    ]
    for condition in (MATCHED, PARTIAL):
        if any(key[2] == condition for key in effects):
            columns.append((f"{condition.name}: emptied", effect(condition, "emptied", _percent)))
            if condition.inactive:
                columns.append(
                    (f"{condition.name}: inactive kept", effect(condition, "inactive_kept", "{:.2f}".format))
                )
    note = (
        "FNR, the false-negative rate, is the method's risk: an active class that is dropped cannot be extracted. "
        "Counts are over all classes of all mixtures, means over seeds; emptied: queries of which nothing is left."
    )
    names = [row["system"] for row in rows]
    return _table(columns, rows, note, _rules(names))


def _table(columns: Columns, rows: Sequence[Any], note: str, rules: Collection[int] = (), num_left: int = 2) -> Table:
    return Table(
        [name for name, _ in columns], [[text(row) for _, text in columns] for row in rows], note, num_left, rules
    )


def _rules(systems: Sequence[object]) -> list[int]:
    """Return the numbers of the rows at which another system begins."""
    return [row for row in range(1, len(systems)) if systems[row] != systems[row - 1]]


def _difference(condition: Condition) -> Callable[[Difference], str]:
    return lambda row: interval_text(row.values.get(condition))


def _with_seeds(name: str, seeds: int) -> str:
    return f"{name}, {seeds} seeds" if seeds > 1 else name


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
