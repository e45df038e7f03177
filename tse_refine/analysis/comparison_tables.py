"""How comparisons are printed: cells of text for Markdown, LaTeX and HTML, and rows for CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tse_refine.analysis.comparisons import Difference, Result, Row, table_cells
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, TABLE_CONDITIONS, Condition
from tse_refine.evaluation.events import COLLAR_OF_LENGTH, COLLAR_SECONDS, SEGMENT_SECONDS
from tse_refine.evaluation.metrics import MEASURES, SI_SDRI, Measure
from tse_refine.evaluation.results import FALSE_ALARMS
from tse_refine.evaluation.statistics import Interval
from tse_refine.files.tables import Table
from tse_refine.refinement import NoRefinement, Oracle, Refinement, parse_refinement

DIFFERENCE_COLUMNS = ("first", "second", "condition", "measure", "difference", "low", "high")


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
    further = [c for c in (MATCHED, PARTIAL) if any((c, SI_SDRI.name) in result.values for result in results)]
    rows = [
        _method(result)
        | {"inactive samples": f"{100 * result.system.inactive_sample_rate:g} %"}
        | {f"{c.kind} {_title(c)}": _mean(result, c, c.measure) for c in TABLE_CONDITIONS}
        | {f"{SI_SDRI.label} {c.name}": _mean(result, c, SI_SDRI) for c in further}
        | {
            "macro F1": "–" if result.macro_f1 is None else f"{result.macro_f1:.2f}",
            "GMAC/s": f"{result.system.runs[0].cost.gmac_per_second:.3g}",
            "parameters": f"{result.system.runs[0].cost.parameters / 1e6:.2f} M",
        }
        for result in results
    ]
    note = (
        "SNRi in dB (higher is better), attenuation in dB for FUQ, and SI-SDRi in dB; brackets: bootstrap 95 % "
        "intervals over mixtures and seeds. Raw query: no refinement. δ: threshold of the refinement. Gate: silence "
        "where no queried class reaches the threshold, else the raw query."
    )
    grid = results[0].system.runs[0].grid
    silence = [
        f"{-np.nanmean(grid.input_snr_db[:, grid.conditions.index(condition)]):.2f} dB at {condition.name}"
        for condition in TABLE_CONDITIONS
        if condition.active and condition in grid.conditions
    ]
    if silence:  # an SNR of 0 dB: what a system that answers nothing would score
        note += f" Exact silence has an SNRi of {', '.join(silence)}."
    return _table(rows, note, [result.system for result in results])


def result_rows(results: Sequence[Result]) -> tuple[list[str], list[Row]]:
    """Return the columns and rows of ``table1.csv``: all measures, a column for each mean and each end of its interval.

    Cells that were not measured are empty.
    """
    rows = []
    for result in results:
        system, cost = result.system, result.system.runs[0].cost
        row: Row = {"system": system.name, "refinement": result.refinement.name}
        row |= {"seeds": len(system.runs), "inactive_samples": system.inactive_sample_rate}
        for condition, measure in table_cells():
            interval = result.values.get((condition, measure.name))
            parts = [None] * 3 if interval is None else [part[0] for part in interval]
            for end, part in zip(("", "_low", "_high"), parts, strict=True):
                row[f"{measure.name}_{condition.key}{end}"] = part
        row |= {"macro_f1": result.macro_f1, "gmac_per_second": cost.gmac_per_second, "parameters": cost.parameters}
        rows.append(row)
    return _columns(rows), rows


def measure_table(results: Sequence[Result], refinement: Refinement | None) -> Table:
    """Return means of every measure in every printed condition: raw query, the refinement that is shown, oracle."""
    rules = {rule.name for rule in (NoRefinement(), refinement, Oracle()) if rule is not None}
    shown = [result for result in results if result.refinement.name in rules]
    measured = {cell for result in shown for cell in result.values}
    columns = [(c, m) for m in MEASURES.values() for c in TABLE_CONDITIONS if (c, m.name) in measured]
    rows = [
        _method(result) | {f"{m.axis_label} {c.name}": _mean(result, c, m).split()[0] for c, m in columns}
        for result in shown
    ]
    note = "Means over mixtures and seeds; their intervals are in table1.csv."
    return _table(rows, note, [result.system for result in shown])


def difference_table(differences: Sequence[Difference]) -> Table:
    """Return differences between methods."""
    rows = [
        {"method": difference.first, "less": difference.second}
        | {_title(c): interval_text(difference.values.get(c)) for c in TABLE_CONDITIONS}
        for difference in differences
    ]
    note = (
        "Paired differences in dB on the same mixtures and queries; brackets: bootstrap 95 % intervals over mixtures "
        "and seeds. An interval that contains 0 is no evidence of a difference."
    )
    return _table(rows, note)


def condition_table(differences: Sequence[Difference]) -> Table:
    """Return differences between conditions."""
    conditions = sorted({condition for difference in differences for condition in difference.values})
    rows = [
        {"method": difference.first}
        | {f"{c.name} − {MATCHED.name}": interval_text(difference.values.get(c)) for c in conditions}
        for difference in differences
    ]
    note = "Paired differences of SNRi in dB between conditions of the same mixtures; brackets as above."
    return _table(rows, note, num_left=1)


def difference_rows(methods: Sequence[Difference], conditions: Sequence[Difference]) -> list[Row]:
    """Return differences between methods and between conditions as rows of :data:`DIFFERENCE_COLUMNS`."""
    rows = []
    pairs = [(difference, "") for difference in methods]
    pairs += [(difference, f" − {MATCHED.name}") for difference in conditions]
    for difference, between in pairs:
        for condition, interval in difference.values.items():
            head = (difference.first, difference.second, f"{condition.name}{between}", condition.measure.name)
            rows.append(dict(zip(DIFFERENCE_COLUMNS, (*head, *(float(p[0]) for p in interval)), strict=True)))
    return rows


def decision_table(rows: Sequence[Row], queries: Sequence[Row]) -> Table:
    """Return decisions (of ``decision_rows``) and, for two conditions, their effect on queries (of ``query_rows``)."""
    effects = {(q["system"], q["threshold"], (q["active"], q["inactive"])): q for q in queries}
    conditions = [c for c in (MATCHED, PARTIAL) if any(condition == c for *_, condition in effects)]

    def share(row: Row, part: str, whole: str) -> str:
        return f"{round(row[part], 1):g} of {row[whole]:.0f} ({_percent(row[part] / max(1, row[whole]))})"

    cells = []
    for row in rows:
        cell = {
            "system": _with_seeds(row["system"], row["seeds"]),
            "refinement": parse_refinement(row["threshold"], "threshold").label,
            "macro precision": f"{row['macro_precision']:.3f}",
            "macro recall": f"{row['macro_recall']:.3f}",
            "macro FNR": f"{row['macro_false_negative_rate']:.3f}",
            "macro F1": f"{row['macro_f1']:.3f}",
            "mAP": f"{row['map']:.3f}",
            "active classes removed": share(row, "active_removed", "active_classes"),
            "inactive classes kept": share(row, "inactive_kept", "inactive_classes"),
        }
        if FALSE_ALARMS in row:
            cell["false alarms"] = _percent(row[FALSE_ALARMS])
        for condition in conditions:
            effect = effects[row["system"], row["threshold"], condition]
            cell[f"{condition.name}: emptied"] = _percent(effect["emptied"])
            cell[f"{condition.name}: silent"] = _percent(effect["silent"])
            if condition.inactive:
                cell[f"{condition.name}: inactive kept"] = f"{effect['inactive_kept']:.2f}"
        cells.append(cell)
    alarms = " False alarms: mixtures without an active class in which one is kept."
    note = (
        "FNR, the false-negative rate, is the method's risk: an active class that is removed cannot be extracted. "
        "Counts are over all classes of all mixtures, means over seeds; emptied: queries of which nothing is left; "
        "silent: answers whose SNR is within 0.3 dB of that of silence."
    ) + (alarms if any(FALSE_ALARMS in row for row in rows) else "")
    return _table(cells, note, [row["system"] for row in rows])


def event_table(rows: Sequence[Row]) -> Table:
    """Return how well the events of classifiers agree with the true ones (of ``event_rows``)."""
    cells = [
        {
            "system": _with_seeds(row["system"], row["seeds"]),
            "macro F1 of events": f"{row['event_f1']:.3f}",
            "macro F1 of segments": f"{row['segment_f1']:.3f}",
            "events, true": f"{row['events_true']:g}",
            "estimated": f"{row['events_estimated']:g}",
            "right": f"{row['events_right']:g}",
        }
        for row in rows
    ]
    note = (
        f"An event is right within {1000 * COLLAR_SECONDS:g} ms of a true onset, and of its offset within that or "
        f"{100 * COLLAR_OF_LENGTH:g} % of its length; segments have {SEGMENT_SECONDS:g} s. Means over seeds."
    )
    return _table(cells, note, num_left=1)


def label_table(rows: Sequence[Row]) -> Table:
    """Return the measures of DCASE Task 4 (of ``label_rows``)."""
    cells = [
        {
            "system": _with_seeds(row["system"], row["seeds"]),
            "refinement": parse_refinement(row["threshold"], "threshold").label,
            "CA-SDRi (dB)": _bounded(row, "ca_sdri_db", "{:.2f}".format),
            "mixture accuracy": _bounded(row, "mixture_accuracy", _percent),
            "source accuracy": _percent(row["source_accuracy"]),
        }
        for row in rows
    ]
    note = (
        "The measures of DCASE Task 4: no query is given; every class that the classifier keeps is extracted alone. "
        "CA-SDRi: mean SDR improvement over the union of true and kept classes, 0 dB for a missed and for a false "
        "class. Mixture accuracy: mixtures whose kept classes are exactly the true ones; source accuracy: correct "
        "classes over the union. Brackets: bootstrap 95 % intervals over mixtures and seeds."
    )
    return _table(cells, note, [row["system"] for row in rows])


def _table(rows: Sequence[Row], note: str, systems: Sequence[object] = (), num_left: int = 2) -> Table:
    """Return a table of rows by column, with a rule where another system begins."""
    rules = [row for row in range(1, len(systems)) if systems[row] != systems[row - 1]]
    return Table(_columns(rows), [list(row.values()) for row in rows], note, num_left, rules)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(rows[0]) if rows else []  # of a baseline that was tested with the oracle alone


def _method(result: Result) -> dict[str, str]:
    name = _with_seeds(result.system.name, len(result.system.runs))
    return {"system": name, "refinement": result.refinement.label}


def _mean(result: Result, condition: Condition, measure: Measure) -> str:
    return interval_text(result.values.get((condition, measure.name)))


def _title(condition: Condition) -> str:
    return condition.name if condition.active else f"{condition.name}, att."


def _with_seeds(name: str, seeds: int) -> str:
    return f"{name}, {seeds} seeds" if seeds > 1 else name


def _bounded(row: Row, name: str, text: Callable[[float], str]) -> str:
    if np.isnan(row[name]):
        return "–"
    return f"{text(row[name])} [{text(row[f'{name}_low'])}, {text(row[f'{name}_high'])}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
