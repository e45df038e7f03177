"""From the result files of runs to tables, figures and one page that gathers them."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tse_refine.analysis import comparison_tables, comparisons, figures
from tse_refine.analysis.comparisons import Row
from tse_refine.analysis.example import WorkedExample, extract_example
from tse_refine.analysis.plotting import require_matplotlib
from tse_refine.analysis.systems import System, group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, PARTIAL, UNMATCHED
from tse_refine.evaluation.metrics import HEADLINES
from tse_refine.evaluation.printed import printed_tables
from tse_refine.evaluation.results import LABEL_MEASURES, REMEDY, summary_columns
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import check_output, replacing, write_text
from tse_refine.files.tables import Table, read_csv, write_csv
from tse_refine.refinement import NoRefinement, Refinement, parse_refinement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "snri_by_inactive": "SNRi against the number of inactive classes in the query (as the paper's Fig. 3).",
    "trade_off": "What refinement loses on fully matched queries and gains on partially matched ones, one point per "
    "refinement.",
    "thresholds": "SNRi against inactive classes with every refinement, one panel per system.",
    "attenuation": "Attenuation of the output where no queried class is in the mixture.",
    "per_class": "Each class: SNRi at (1:3) without and with refinement, and the recall of the classifier (1 minus its "
    "false-negative rate).",
    "reliability": "How often a class is active where the classifier gives it about one probability; on the diagonal, "
    "probabilities are as often right as they say. `tse-refine calibrate` brings them there.",
    "example": "The example on one scale of colours (as the paper's Fig. 2).",
}
_OPTIONAL_FILES = {"differences.md", "decisions.md", "decisions.csv", "refined_queries.csv", "per_class.csv"}
_OPTIONAL_FILES |= {"events.md", "events.csv"}
_OPTIONAL_FILES |= {"class_aware.md", "class_aware.csv"}
_OPTIONAL_FILES |= {f"{name}.{suffix}" for name in _CAPTIONS for suffix in ("png", "pdf")}
_DPI, _PAGE_DPI = 150, 100  # of files, and of the same figures on the page
_PEAK = 10 ** (-1 / 20)  # -1 dB of full scale: room for what a player's filters add


def write_report(runs: Sequence[Path], output: Path, threshold: Refinement | float | str | None = None) -> list[Path]:
    """Write the tables, the figures and the page of finished runs.

    Runs that differ only in their seed are pooled.

    Args:
        runs: folders of runs that ``test`` has evaluated, on the same test mixtures.
        output: folder for ``index.html``, which gathers all; ``summary.txt``; ``table1.{md,tex,csv}``;
            ``differences.{md,csv}``, paired, between methods and between conditions; a PNG and a PDF of each figure;
            and where a run refines, ``decisions.{md,csv}`` (what each refinement drops and keeps),
            ``refined_queries.csv`` (the same by condition), ``per_class.csv`` and, where measured, ``events.{md,csv}``
            and ``class_aware.{md,csv}`` (the measures of DCASE Task 4).
        threshold: refinement that the figures show, a number or a name; by default the one recommended on validation
            in the first run that refines.

    Returns:
        The files written.

    Raises:
        InputError: a run's file is missing or damaged, runs cannot be compared, the refinement was not tested, or
            matplotlib is not installed.
    """
    summaries = [_read_summary(run) for run in runs]
    tested = [TestedRun(run) for run in runs]
    systems = group_systems(tested)
    check_output(output, "folder")
    if output.resolve() in [RunFolder(run).test.resolve() for run in runs]:
        raise InputError(f"--output: {output} holds the results that are read; name another folder for the report.")
    refining = [system for system in systems if system.has_classifier]
    shown = _shown_refinement(refining, threshold) if refining else None
    texts, tables, sections = _compare(systems, shown)
    texts["summary.txt"] = "\n\n".join(map(_printed, tested, summaries)) + "\n"
    example = None if shown is None else _example(refining[0].runs[0], shown)
    pictures = _pictures(systems, shown, example)
    texts["index.html"] = _page(systems, sections, pictures, shown, example)
    return _write(output, texts, tables, pictures)


def _compare(
    systems: Sequence[System], refinement: Refinement | None
) -> tuple[dict[str, str], dict[str, tuple[Sequence[str], Sequence[Row]]], dict[str, list[Table]]]:
    """Return the text files, the CSV files and, by heading, the page's tables."""
    results = comparisons.compare_systems(systems)
    table1 = comparison_tables.result_table(results)
    sections = {"Results": [table1]}
    texts = {"table1.md": table1.markdown(), "table1.tex": table1.latex()}
    tables: dict[str, tuple[Sequence[str], Sequence[Row]]] = {"table1.csv": comparison_tables.result_rows(results)}

    if labels := comparisons.label_rows(systems):
        table = comparison_tables.label_table(labels)
        sections["Results"].append(table)
        texts["class_aware.md"] = table.markdown()
        tables["class_aware.csv"] = (list(labels[0]), labels)

    methods = comparisons.method_differences(systems, refinement)
    conditions = comparisons.condition_differences(systems, refinement)
    differences = [comparison_tables.difference_table(methods)] if methods else []
    if conditions:
        differences.append(comparison_tables.condition_table(conditions))
    if differences:
        sections["Paired differences"] = differences
        texts["differences.md"] = "\n".join(table.markdown() for table in differences)
    rows = comparison_tables.difference_rows(methods, conditions)
    tables["differences.csv"] = (comparison_tables.DIFFERENCE_COLUMNS, rows)

    if decisions := comparisons.decision_rows(systems):
        queries, classes = comparisons.query_rows(systems), comparisons.class_rows(systems)
        table = comparison_tables.decision_table(decisions, queries)
        sections["Decisions per threshold"] = [table]
        texts["decisions.md"] = table.markdown()
        for name, rows in (("decisions", decisions), ("refined_queries", queries), ("per_class", classes)):
            tables[f"{name}.csv"] = (list(rows[0]), rows)
    if events := comparisons.event_rows(systems):
        table = comparison_tables.event_table(events)
        sections["When classes sound"] = [table]
        texts["events.md"] = table.markdown()
        tables["events.csv"] = (list(events[0]), events)
    sections["All measures"] = [comparison_tables.measure_table(results, refinement)]
    return texts, tables, sections


def _read_summary(run: Path) -> list[dict[str, str]]:
    path = RunFolder(run).test / "summary.csv"
    rows = read_csv(path, summary_columns(HEADLINES), REMEDY)
    if not rows:
        raise InputError(f"{path} holds no row; run `tse-refine test` again.")
    return rows


def _printed(run: TestedRun, summary: Sequence[Mapping[str, str]]) -> str:
    """Return the tables that the test of a run printed."""
    labels = run.classifier.labels if run.classifier else {}
    rows = [
        {"threshold": name} | {measure: measured.mean(measure) for measure in LABEL_MEASURES}
        for name, measured in labels.items()
    ]
    return f"{run.folder.path}\n{printed_tables(summary, rows)}"


def _shown_refinement(systems: Sequence[System], option: Refinement | float | str | None) -> Refinement:
    """Return the refinement that figures show of systems that refine."""
    recommended = systems[0].runs[0].recommended
    shown = recommended if option is None else parse_refinement(option, "--threshold")
    for system in systems:
        names = [rule.name for rule in system.candidates]
        if shown.name not in names:
            origin = "The threshold that validation recommended" if option is None else "--threshold"
            raise InputError(
                f"{origin}: {system.runs[0].folder.path} was not tested at {shown.name}. Give --threshold, one of "
                f"{', '.join(names)}, or test with {shown.name} in evaluation.thresholds."
            )
    return shown


def _example(run: TestedRun, refinement: Refinement) -> WorkedExample | None:
    """Return the example of a run that refines; None, with a message, where it cannot be made."""
    try:
        return extract_example(run, refinement)
    except InputError as error:
        print(f"tse-refine: the report has no worked example. {error}", file=sys.stderr)
        return None


def _pictures(
    systems: Sequence[System], refinement: Refinement | None, example: WorkedExample | None
) -> dict[str, bytes]:
    """Return every figure as PNG and as PDF, by file name."""
    require_matplotlib()
    from matplotlib import rc_context

    pictures = {}
    with rc_context({"text.parse_math": False}):  # a class may have a $ in its name
        plotted = _figures(systems, refinement)
        if example is not None:
            plotted["example"] = figures.plot_example(example)
        for name, figure in plotted.items():
            for suffix in ("png", "pdf"):
                content = BytesIO()
                figure.savefig(content, format=suffix, dpi=_DPI)
                pictures[f"{name}.{suffix}"] = content.getvalue()
    return pictures


def _figures(systems: Sequence[System], refinement: Refinement | None) -> dict[str, Figure]:
    conditions = systems[0].runs[0].grid.conditions
    refining = [system for system in systems if system.has_classifier]
    plotted = {}
    if any(condition.active == 1 for condition in conditions):
        plotted["snri_by_inactive"] = figures.plot_snri_by_inactive(systems, refinement)
        plotted["thresholds"] = figures.plot_refinements(refining or systems)
    trading = [s for s in refining if s.candidates and all(s.measured(c, NoRefinement()) for c in (MATCHED, PARTIAL))]
    if trading:
        plotted["trade_off"] = figures.plot_trade_off(trading)
    if UNMATCHED in conditions:
        plotted["attenuation"] = figures.plot_attenuation(systems, refinement)
    if refinement is not None and refinement.per_class:
        plotted["per_class"] = figures.plot_per_class(refining[0], refinement)
    if refining:
        plotted["reliability"] = figures.plot_reliability(refining)
    return plotted


def _page(
    systems: Sequence[System],
    sections: Mapping[str, Sequence[Table]],
    pictures: Mapping[str, bytes],
    refinement: Refinement | None,
    example: WorkedExample | None,
) -> str:
    """Return the page, which needs no other file."""
    environment = Environment(
        loader=PackageLoader("tse_refine", "analysis"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html.jinja").render(
        systems=systems,
        num_mixtures=len(systems[0].runs[0].grid.mixtures),
        sections={heading: [Markup(table.html()) for table in tables] for heading, tables in sections.items()},
        figures={n: _shown(pictures[f"{n}.png"], text) for n, text in _CAPTIONS.items() if f"{n}.png" in pictures},
        refinement=refinement,
        example=example,
        sounds={} if example is None else _sounds(example),
    )


def _shown(png: bytes, caption: str) -> dict[str, str | int]:
    """Return what the page shows of a figure, all in one scale."""
    width = int.from_bytes(png[16:20], "big")  # from the header of the file
    return {"source": _data_uri("image/png", png), "width": round(width * _PAGE_DPI / _DPI), "caption": caption}


def _sounds(example: WorkedExample) -> dict[str, str]:
    """Return the sources of the players; one common gain, for the loudest signal, keeps their relative levels."""
    signals = {
        "mixture": example.mixture,
        "target": example.target,
        "extraction, raw query": example.raw,
        "extraction, refined query": example.refined,
    }
    loudest = max(float(np.abs(signal).max(initial=0.0)) for signal in signals.values())
    gain = _PEAK / loudest if loudest > 0.0 else 1.0
    sounds = {}
    for name, signal in signals.items():
        content = BytesIO()
        soundfile.write(content, signal * gain, example.sample_rate, subtype="PCM_16", format="WAV")
        sounds[name] = _data_uri("audio/wav", content.getvalue())
    return sounds


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _write(
    output: Path,
    texts: Mapping[str, str],
    tables: Mapping[str, tuple[Sequence[str], Sequence[Row]]],
    pictures: Mapping[str, bytes],
) -> list[Path]:
    """Write all files and remove those of an earlier report of other runs; return the paths."""
    for name, text in texts.items():
        write_text(output / name, text)
    for name, (columns, rows) in tables.items():
        write_csv(output / name, columns, rows)
    for name, content in pictures.items():
        with replacing(output / name) as temporary:
            temporary.write_bytes(content)
    written = sorted([*texts, *tables, *pictures])
    for name in _OPTIONAL_FILES - set(written):
        (output / name).unlink(missing_ok=True)
    return [output / name for name in written]
