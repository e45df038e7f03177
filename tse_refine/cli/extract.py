"""The command ``extract``: a checkpoint on recordings of one's own."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tse_refine.cli.options import CHECKPOINT_HELP, CommandParser, import_named_plugins, report
from tse_refine.errors import InputError, printable

if TYPE_CHECKING:
    from tse_refine.extraction.extractor import Extractor
    from tse_refine.extraction.file_extraction import FileExtraction
    from tse_refine.extraction.outputs import Outputs
    from tse_refine.extraction.stream import DecisionScope
    from tse_refine.refinement import Refinement

_MOST_WORKERS = 1024


def extract(words: list[str]) -> None:
    """Extract sounds from recordings of your own."""
    parser = CommandParser("extract", extract.__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help=CHECKPOINT_HELP)
    add("--input", required=True, nargs="+", type=Path, metavar="FILE", help="recordings, and folders of them")
    add("--query", required=True, nargs="+", metavar="CLASS", help="classes to extract; all for every class")
    add("--except", "--exclude", nargs="+", default=[], dest="excluded", metavar="CLASS", help="classes to leave out")
    add("--output", required=True, type=Path, metavar="FILE", help="file, or folder for files with the inputs' names")
    add("--threshold", metavar="P", help="keep a class if its probability is at least P, 0 to keep all; or another "
        "refinement: none, gate, soft:LOW-HIGH; by default the best on the validation mixtures, or 0.1")  # fmt: skip
    add("--refine", choices=("window", "file"), default="window", help="decide that per window (default), or once "
        "for the whole file by the largest probability in it")  # fmt: skip
    add("--each", action="store_true", help="a file per class that is kept, instead of one for all")
    add("--residual", action="store_true", help="also write everything else: the input minus the extraction")
    add("--format", metavar="NAME", help="wav, flac, ogg, ...; by default as the name of the output or the input ends")
    add("--device", metavar="NAME", help="such as cpu or cuda; by default cuda if there is one")
    add("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of the network; bf16-mixed is "
        "faster where the processor has units for it")  # fmt: skip
    add("--compile", action="store_true", help="compile the network first, for a minute; needs a C++ compiler")
    add("--events", type=Path, metavar="FILE", help="also write when each queried class sounds: a CSV file of all "
        "recordings, or labels for Audacity of one recording if the name ends in .txt")  # fmt: skip
    add("--overwrite", action="store_true", help="replace files that exist")
    add("--skip-existing", action="store_true", help="leave out recordings whose files exist, to go on after a stop")
    add("--workers", type=_count, default=0, metavar="N", help="processes that extract at once; by default this one")
    add("--shard", type=_shard, default=(1, 1), metavar="I/N", help="only the I-th of N parts of the recordings, for "
        "array jobs of a cluster")  # fmt: skip
    add("--json", action="store_true", help="print one JSON document instead of tables")
    add("--plugins", nargs="+", default=[], metavar="MODULE", help="Python modules that define refinement rules")
    options = parser.parse_args(words)
    if options.skip_existing:
        for given, why in (
            (options.overwrite, "--overwrite replaces them"),
            (options.each, "--each writes no file for classes that were removed"),
            (options.events, "--events would lack theirs"),
        ):
            if given:
                raise InputError(
                    f"--skip-existing leaves out recordings whose files exist, but {why}; use one of the two options."
                )
    extractor = _load(options)
    from tse_refine.extraction.outputs import plan_outputs
    from tse_refine.extraction.query import parse_query

    query = parse_query(options.query, extractor.class_names, options.excluded, extractor.aliases)
    naming = (options.format, options.each, options.residual, options.overwrite, options.skip_existing, options.shard)
    plans = plan_outputs(options.input, options.output, query, *naming)
    if not plans:
        report("there is nothing to do: every recording of this part has been extracted.")
    if options.events is not None:
        _check_events(options.events, len(plans), extractor.has_classifier, options.overwrite)
    refinement = extractor.refinement(options.threshold)
    described = _extract_files(plans, query, refinement, extractor, options)
    if options.events is not None:
        _write_events(options.events, described)
    if options.json:
        print(json.dumps(described, indent=2))
    if any("error" in entry for entry in described):
        raise SystemExit(2)


def _count(text: str) -> int:
    """Return a number of processes; ValueError where it is none."""
    if not 1 <= int(text) <= _MOST_WORKERS:
        raise ValueError
    return int(text)


_count.__name__ = "number of processes"  # in argparse's message


def _shard(text: str) -> tuple[int, int]:
    """Return the number of a part and of all parts; ValueError where it is none."""
    number, of_all = map(int, text.split("/"))
    if not 1 <= number <= of_all:
        raise ValueError
    return number, of_all


_shard.__name__ = "part, as in 1/8"


def _extract_files(
    plans: Sequence[Outputs], query: tuple[str, ...], refinement: Refinement, extractor: Extractor, options: Namespace
) -> list[dict[str, Any]]:
    """Extract from recordings, and return a report on each; one that cannot be used does not stop the others."""
    from tse_refine.extraction.processes import FileTask, extract_in_processes
    from tse_refine.extraction.stream import num_passes

    if not extractor.has_classifier:
        report("this network has no classifier (a baseline): the query is used as it is.")
    described: list[dict[str, Any]] = []
    seconds = _seconds(plans)
    overwrite = options.overwrite or options.skip_existing  # a recording of which a file is missing is done again
    task = FileTask(query, refinement, options.refine, overwrite)
    passes = 1 if options.workers else num_passes(refinement, options.refine)  # workers report what they have finished
    with tqdm(
        desc="extract",
        total=passes * sum(seconds) + 1e-6,  # a sum of fractions may be larger
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        disable=None,  # only on a terminal
        file=sys.stderr,
    ) as progress:
        if options.workers:
            found = extract_in_processes(plans, task, partial(_load, options), options.workers)
        else:
            found = (task(extractor, plan, progress.update) for plan in plans)
        for plan, extraction, length in zip(plans, found, seconds, strict=True):
            if options.workers:
                progress.update(length)
            if isinstance(extraction, InputError):
                report(str(extraction))
                described.append({"input": printable(plan.recording), "error": str(extraction)})
                continue
            _report_remarks(extraction)
            described.append(_describe(extraction, extractor.class_names, options.refine))
            if not options.json:
                tqdm.write(_text(described[-1]))
    return described


def _load(options: Namespace) -> Extractor:
    """Load the extractor that the options describe; the plugins' refinements are known then."""
    from tse_refine.extraction.extractor import Extractor

    import_named_plugins(options.plugins)
    return Extractor.load(options.checkpoint, options.device, options.precision, options.compile)


def _check_events(path: Path, num_recordings: int, has_classifier: bool, overwrite: bool) -> None:
    """Reject a file of events that could not be written, before anything is extracted."""
    from tse_refine.files.atomic import check_output

    check_output(path, "file", overwrite, "--events")
    if path.suffix not in (".csv", ".txt"):
        raise InputError(f"--events: {path} ends in {path.suffix!r}; .csv or, for Audacity, .txt is expected.")
    if path.suffix == ".txt" and num_recordings > 1:
        raise InputError(f"--events: {path} holds the labels of one recording, not of {num_recordings}; use .csv.")
    if not has_classifier:
        raise InputError("--events: this network has no classifier (a baseline), so that it knows no events.")


def _write_events(path: Path, described: Sequence[Mapping[str, Any]]) -> None:
    """Write the events of all recordings that could be read."""
    from tse_refine.files.atomic import write_text
    from tse_refine.files.tables import write_csv

    rows = [{"recording": entry["input"], **event} for entry in described for event in entry.get("events", ())]
    if path.suffix == ".txt":  # Audacity's labels: start, end and text
        write_text(path, "".join(f"{row['onset']:.3f}\t{row['offset']:.3f}\t{row['class']}\n" for row in rows))
    else:
        write_csv(path, ("recording", "onset", "offset", "class", "probability"), rows)


def _describe(extraction: FileExtraction, class_names: Sequence[str], scope: DecisionScope) -> dict[str, Any]:
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
        "events": [
            {"onset": event.onset, "offset": event.offset, "class": event.name, "probability": event.probability}
            for event in extraction.events
            if event.name in extraction.query
        ],
        "extraction": printable(outputs.extraction) if outputs.extraction else None,
        "each": {name: printable(path) for name, path in outputs.each.items()},
        "residual": printable(outputs.residual) if outputs.residual else None,
    }


def _text(described: dict[str, Any]) -> str:
    """Return a report of :func:`_describe` as text."""
    from tse_refine.files.tables import Table

    rows, silent = [], 0
    for entry in described["classes"]:
        if not entry["queried"] and entry["window_share"] == 0:
            silent += 1
            continue
        probability = "-" if entry["probability"] is None else f"{entry['probability']:.3f}"
        share = "-" if entry["window_share"] is None else f"{100 * entry['window_share']:.0f} %"
        rows.append((entry["class"], "yes" if entry["queried"] else "no", probability, share, _decision(entry)))
    more = f"{silent} more {'class' if silent == 1 else 'classes'}, not queried and in no window; --json lists all."
    head = ("class", "queried", "probability", "windows", "decision")
    classes = Table(head, rows, note=more if silent else "", num_left=2)
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


def _report_remarks(extraction: FileExtraction) -> None:
    recording = printable(extraction.recording.path)
    if extraction.gain_db:
        report(
            f"{recording}: its files would be clipped and were scaled by {extraction.gain_db:.1f} dB, all alike; "
            "--format wav keeps the level."
        )
    if extraction.is_silent:
        consequence = "the extraction is silent" if extraction.outputs.extraction else "no file is written for them"
        report(
            f"{recording}: threshold {extraction.refinement.name} removes {', '.join(extraction.query)}, so that "
            f"{consequence}."
        )


def _seconds(plans: Sequence[Outputs]) -> list[float]:
    """Return the durations of the recordings; 0 for those that cannot be read, which are reported later."""
    from tse_refine.extraction.recordings import Recording

    seconds = []
    for plan in plans:
        seconds.append(0.0)
        with suppress(InputError):
            seconds[-1] = Recording.open(plan.recording).seconds
    return seconds
