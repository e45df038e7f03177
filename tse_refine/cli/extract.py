"""Commands on a checkpoint: ``extract``, ``classes``, ``export`` and ``listen``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tse_refine.cli.options import CommandParser
from tse_refine.errors import InputError
from tse_refine.files.atomic import printable
from tse_refine.files.tables import aligned

if TYPE_CHECKING:
    from tse_refine.extraction.extractor import Extractor, Refinement
    from tse_refine.extraction.file_extraction import FileExtraction
    from tse_refine.extraction.outputs import Outputs


def extract(words: list[str]) -> None:
    """Extract sounds from recordings of your own."""
    parser = CommandParser("extract", extract.__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="such as runs/demo/checkpoints/best.ckpt")
    add("--input", required=True, nargs="+", type=Path, metavar="FILE", help="recordings, and folders of them")
    add("--query", required=True, nargs="+", metavar="CLASS", help="classes to extract; all for every class")
    add("--except", "--exclude", nargs="+", default=[], dest="excluded", metavar="CLASS", help="classes to leave out")
    add("--output", required=True, type=Path, metavar="FILE", help="file, or folder for files with the inputs' names")
    add("--threshold", type=float, metavar="P", help="keep a class if its probability is at least P, 0 to keep all; by "
        "default the best on the training's validation, or 0.1")  # fmt: skip
    add("--refine", choices=("window", "file"), default="window", help="decide that per window (default), or once "
        "for the whole file by the largest probability in it")  # fmt: skip
    add("--each", action="store_true", help="a file per class that is kept, instead of one for all")
    add("--residual", action="store_true", help="also write everything else: the input minus the extraction")
    add("--format", metavar="NAME", help="wav, flac, ogg, ...; by default as the name of the output or the input ends")
    add("--device", metavar="NAME", help="such as cpu or cuda; by default cuda if there is one")
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args(words)
    from tse_refine.extraction.extractor import Extractor
    from tse_refine.extraction.outputs import plan_outputs
    from tse_refine.extraction.query import parse_query

    extractor = Extractor.load(options.checkpoint, options.device)
    query = parse_query(options.query, extractor.class_names, options.excluded)
    naming = (options.format, options.each, options.residual, options.overwrite)
    plans = plan_outputs(options.input, options.output, query, *naming)
    deciding = (options.threshold, options.refine)
    if not extract_files(extractor, plans, query, *deciding, options.overwrite, options.json):
        raise SystemExit(2)


def classes(words: list[str]) -> None:
    """List the classes of a checkpoint, one per line."""
    parser = CommandParser("classes", classes.__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="checkpoint of a run")
    options = parser.parse_args(words)
    from tse_refine.model.checkpoint import load_network

    print("\n".join(load_network(options.checkpoint).class_names))


def export(words: list[str]) -> None:
    """Write a trained network as one file for other programs, ONNX or torch.export."""
    parser = CommandParser("export", export.__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="checkpoint of a run")
    add("--output", required=True, type=Path, metavar="FILE", help="model.onnx, or model.pt2 for torch")
    add("--format", choices=("onnx", "torch"), default="onnx", help="onnx (default), or torch for torch.export")
    add("--overwrite", action="store_true", help="replace an earlier file")
    options = parser.parse_args(words)
    from tse_refine.extraction.export import export_checkpoint

    inputs = export_checkpoint(options.checkpoint, options.output, options.format, options.overwrite)
    if "threshold" not in inputs:
        _say(
            "this network has no classifier, so that the model has no input for a threshold and no output for "
            "probabilities: the query is not refined."
        )
    print(options.output)


def listen(words: list[str]) -> None:
    """Open a local page to drop or record sound, choose classes, and listen to their extraction."""
    parser = CommandParser("listen", listen.__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help="such as runs/demo/checkpoints/best.ckpt")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address of the page; by default reachable from this "
        "machine only, 0.0.0.0 from everywhere, without a password")  # fmt: skip
    add("--port", type=int, default=7860, metavar="N", help="by default 7860; 0 for any that is free")
    add("--device", metavar="NAME", help="such as cpu or cuda; by default cuda if there is one")
    add("--max-megabytes", type=float, metavar="N", help="size of the largest file; by default 50")
    add("--max-minutes", type=float, metavar="N", help="length of the longest sound; by default 10")
    options = parser.parse_args(words)
    from tse_refine.extraction.listen.server import serve
    from tse_refine.extraction.listen.uploads import Limits

    limits = {"megabytes": options.max_megabytes, "minutes": options.max_minutes}
    limits = {name: value for name, value in limits.items() if value is not None}
    serve(options.checkpoint, options.host, options.port, options.device, Limits(**limits))


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
    from tse_refine.extraction.file_extraction import extract_file

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
    rows = [("class", "asked", "probability", "windows", "decision")]
    for one in described["classes"]:
        probability = "-" if one["probability"] is None else f"{one['probability']:.3f}"
        share = "-" if one["window_share"] is None else f"{100 * one['window_share']:.0f} %"
        rows.append((one["class"], "yes" if one["asked"] else "no", probability, share, word[one["kept"]]))
    decision = "not refined"
    if described["threshold"] is not None:
        decision = f"threshold {described['threshold']:g}, decided for each {described['refinement']}"
    paths = (described["extraction"], *described["each"].values(), described["residual"])
    written = [f"Written to {path}" for path in paths if path]
    return "\n".join([f"{described['input']}: {decision}", *aligned(rows, left=2), *written])


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
    from tse_refine.extraction.recordings import Recording

    seconds = 0.0
    for plan in plans:
        with suppress(InputError):
            recording = Recording.open(plan.recording)
            seconds += recording.samples / recording.sample_rate
    return seconds


def _say(text: str) -> None:
    tqdm.write(f"tse-refine: {text}", file=sys.stderr)
