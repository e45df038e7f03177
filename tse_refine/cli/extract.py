"""The command ``tse-refine extract``: several recordings, one after the other, and what is printed about them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor
from tse_refine.extraction.file_extraction import FileExtraction, extract_file
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.recordings import Recording
from tse_refine.extraction.stream import DecisionScope, num_passes
from tse_refine.files.atomic import printable
from tse_refine.files.tables import Table
from tse_refine.refinement import Refinement


def extract_files(
    extractor: Extractor,
    plans: Sequence[Outputs],
    query: tuple[str, ...],
    threshold: float | str | Refinement | None,
    scope: DecisionScope,
    overwrite: bool,
    as_json: bool,
) -> bool:
    """Extract from recordings, and print the decisions about their classes and the files that were written.

    A recording that cannot be used is reported on stderr, and the others are extracted.

    Args:
        extractor: extractor of a checkpoint.
        plans: files to read and to write.
        query: names of classes.
        threshold: threshold or another refinement; None for the recommended one.
        scope: ``window`` or ``file``.
        overwrite: replace existing files.
        as_json: print one JSON document instead of tables.

    Returns:
        Whether all recordings were extracted.

    Raises:
        InputError: the threshold is not a valid refinement.
    """
    refinement = extractor.refinement(threshold)
    if not extractor.has_classifier:
        _report("this network has no classifier (a baseline): the query is used as it is.")
    described: list[dict[str, Any]] = []
    with tqdm(
        desc="extract",
        total=num_passes(refinement, scope) * _seconds(plans) + 1e-6,  # a sum of fractions may be a little larger
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        disable=None,  # only on a terminal
        file=sys.stderr,
    ) as progress:
        for plan in plans:
            try:
                extraction = extract_file(extractor, plan, query, refinement, scope, overwrite, progress.update)
            except InputError as error:
                _report(str(error))
                described.append({"input": printable(plan.recording), "error": str(error)})
                continue
            for remark in _remarks(extraction, bool(plan.each)):
                _report(remark)
            described.append(describe(extraction, extractor.class_names, scope))
            if not as_json:
                tqdm.write(table(described[-1]))
    if as_json:
        print(json.dumps(described, indent=2, ensure_ascii=False))
    return not any("error" in entry for entry in described)


def describe(extraction: FileExtraction, class_names: Sequence[str], scope: DecisionScope) -> dict[str, Any]:
    """Return the report on a recording in plain types: queried classes first, then the others, the likeliest first."""
    others = [name for name in class_names if name not in extraction.query]
    others.sort(key=lambda name: -extraction.probability.get(name, 0.0))
    outputs = extraction.outputs
    return {
        "input": printable(extraction.recording.path),
        "sample_rate": extraction.recording.sample_rate,
        "channels": extraction.recording.channels,
        "refinement": extraction.refinement.name,
        "threshold": extraction.threshold,
        "scope": None if extraction.threshold is None else scope,
        "query": list(extraction.query),
        "refined_query": list(extraction.refined_query),
        "classes": [
            {
                "class": name,
                "queried": name in extraction.query,
                "probability": extraction.probability.get(name),
                "window_share": extraction.window_share.get(name),
                "weight": extraction.weight.get(name),
                "kept": name in extraction.refined_query if name in extraction.query else None,
            }
            for name in (*extraction.query, *others)
        ],
        "extraction": printable(outputs.extraction) if outputs.extraction else None,
        "each": {name: printable(path) for name, path in outputs.each.items()},
        "residual": printable(outputs.residual) if outputs.residual else None,
    }


def table(described: dict[str, Any]) -> str:
    """Return the report on a recording as text.

    Args:
        described: report from :func:`describe`.
    """
    rows = []
    for entry in described["classes"]:
        probability = "-" if entry["probability"] is None else f"{entry['probability']:.3f}"
        share = "-" if entry["window_share"] is None else f"{100 * entry['window_share']:.0f} %"
        rows.append((entry["class"], "yes" if entry["queried"] else "no", probability, share, _decision(entry)))
    classes = Table(("class", "queried", "probability", "windows", "decision"), rows, num_left=2)
    decided = "not refined"
    if described["threshold"] is not None:
        decided = f"threshold {described['refinement']}, decided per {described['scope']}"
    paths = (described["extraction"], *described["each"].values(), described["residual"])
    written = [f"Written to {path}" for path in paths if path]
    return "\n".join([f"{described['input']}: {decided}", classes.text(), *written])


def _decision(entry: dict[str, Any]) -> str:
    if not entry["queried"]:
        return "-"
    return "kept" if entry["kept"] else "weakened" if entry["weight"] else "removed"


def _remarks(extraction: FileExtraction, each: bool) -> list[str]:
    recording = printable(extraction.recording.path)
    remarks = []
    if extraction.gain_db:
        remarks.append(
            f"{recording}: its files would be clipped and were scaled by {extraction.gain_db:.1f} dB, all alike; "
            "--format wav keeps the level."
        )
    if extraction.is_silent:
        consequence = "no file is written for them" if each else "the extraction is silent"
        remarks.append(
            f"{recording}: threshold {extraction.refinement.name} removes {', '.join(extraction.query)}, so that "
            f"{consequence}."
        )
    return remarks


def _seconds(plans: Sequence[Outputs]) -> float:
    """Return the total duration of the recordings; those that cannot be read are reported later, one by one."""
    seconds = 0.0
    for plan in plans:
        with suppress(InputError):
            recording = Recording.open(plan.recording)
            seconds += recording.samples / recording.sample_rate
    return seconds


def _report(text: str) -> None:
    tqdm.write(f"tse-refine: {text}", file=sys.stderr)
