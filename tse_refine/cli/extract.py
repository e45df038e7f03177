"""The command ``tse-refine extract``: several files, one after the other, and what is said of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tqdm import tqdm

from tse_refine.errors import InputError
from tse_refine.extraction.extractor import Extractor, Refinement
from tse_refine.extraction.file_extraction import FileExtraction, extract_file
from tse_refine.extraction.outputs import Outputs
from tse_refine.extraction.recordings import Recording
from tse_refine.files.atomic import printable
from tse_refine.files.tables import Table


def extract_files(
    extractor: Extractor,
    plans: Sequence[Outputs],
    query: tuple[str, ...],
    threshold: float | None,
    refinement: Refinement,
    overwrite: bool,
    as_json: bool,
) -> bool:
    """Extract from files and print, for each, what was asked, believed and kept.

    A recording that cannot be used is named on stderr, and the others are extracted.

    Args:
        extractor: the network.
        plans: what is read and written.
        query: names of classes.
        threshold: of the decision; None for the recommended one.
        refinement: ``window`` or ``file``.
        overwrite: replace older files.
        as_json: print one JSON document instead of tables.

    Returns:
        Whether all went well.

    Raises:
        InputError: the threshold is no number from 0 to 1.
    """
    threshold = extractor.decision_threshold(threshold)
    if not extractor.has_classifier:
        _say("this network has no classifier (a baseline): nothing is removed from the query.")
    described: list[dict[str, Any]] = []
    passes = 2 if refinement == "file" and extractor.has_classifier else 1
    with tqdm(
        desc="extract",
        total=passes * _seconds(plans) + 1e-6,  # a sum of fractions may come out a little larger
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        disable=None,  # only where a person looks on
        file=sys.stderr,
    ) as progress:
        for plan in plans:
            try:
                done = extract_file(
                    extractor, plan, query, threshold, refinement, overwrite, lambda seconds: progress.update(seconds)
                )
            except InputError as error:
                _say(str(error))
                described.append({"input": printable(plan.recording), "error": str(error)})
                continue
            for remark in _remarks(done, bool(plan.each)):
                _say(remark)
            described.append(describe(done, extractor.class_names, refinement))
            if not as_json:
                tqdm.write(table(described[-1]))
    if as_json:
        print(json.dumps(described, indent=2, ensure_ascii=False))
    return not any("error" in one for one in described)


def describe(done: FileExtraction, class_names: Sequence[str], refinement: Refinement) -> dict[str, Any]:
    """Return what there is to say of an extraction in plain types: the classes asked for first, then the likeliest."""
    others = [name for name in class_names if name not in done.query]
    others.sort(key=lambda name: -done.probability.get(name, 0.0))
    return {
        "input": printable(done.recording.path),
        "sample_rate": done.recording.sample_rate,
        "channels": done.recording.channels,
        "threshold": done.threshold,
        "refinement": None if done.threshold is None else refinement,
        "query": list(done.query),
        "refined_query": list(done.refined_query),
        "classes": [
            {
                "class": name,
                "asked": name in done.query,
                "probability": done.probability.get(name),
                "window_share": done.window_share.get(name),
                "kept": name in done.refined_query if name in done.query else None,
            }
            for name in (*done.query, *others)
        ],
        "extraction": printable(done.outputs.extraction) if done.outputs.extraction else None,
        "each": {name: printable(path) for name, path in done.outputs.each.items()},
        "residual": printable(done.outputs.residual) if done.outputs.residual else None,
    }


def table(described: dict[str, Any]) -> str:
    """Lay out a description for people; ``windows`` is the share of them in which the threshold is reached.

    Args:
        described: of :func:`describe`.
    """
    word = {True: "kept", False: "removed", None: "-"}
    rows = []
    for one in described["classes"]:
        probability = "-" if one["probability"] is None else f"{one['probability']:.3f}"
        share = "-" if one["window_share"] is None else f"{100 * one['window_share']:.0f} %"
        rows.append((one["class"], "yes" if one["asked"] else "no", probability, share, word[one["kept"]]))
    decisions = Table(("class", "asked", "probability", "windows", "decision"), rows, num_left=2)
    decision = "not refined"
    if described["threshold"] is not None:
        decision = f"threshold {described['threshold']:g}, decided for each {described['refinement']}"
    paths = (described["extraction"], *described["each"].values(), described["residual"])
    written = [f"Written to {path}" for path in paths if path]
    return "\n".join([f"{described['input']}: {decision}", decisions.text(), *written])


def _remarks(done: FileExtraction, each: bool) -> list[str]:
    recording = printable(done.recording.path)
    remarks = []
    if done.gain_db:
        remarks.append(
            f"{recording}: what is written of it would have been clipped and was scaled by {done.gain_db:.1f} dB, all "
            "files alike; --format wav keeps the level."
        )
    if not done.refined_query:
        so = "nothing is written of them" if each else "the extraction is silent"
        remarks.append(
            f"{recording}: no probability of {', '.join(done.query)} reaches {done.threshold:g}, so that {so}."
        )
    return remarks


def _seconds(plans: Sequence[Outputs]) -> float:
    """Return how long all recordings are; those that cannot be read are refused later, one by one."""
    seconds = 0.0
    for plan in plans:
        with suppress(InputError):
            recording = Recording.open(plan.recording)
            seconds += recording.samples / recording.sample_rate
    return seconds


def _say(text: str) -> None:
    tqdm.write(f"tse-refine: {text}", file=sys.stderr)
