"""Commands on a checkpoint: ``classes``, ``export`` and ``listen``; ``models`` lists the shipped ones."""

from __future__ import annotations

import textwrap
from pathlib import Path

from tse_refine.cli.options import CHECKPOINT_HELP, CommandParser, import_named_plugins, read_card, report
from tse_refine.errors import InputError, did_you_mean
from tse_refine.model.weights import DEFAULT_MODEL


def classes(words: list[str]) -> None:
    """List the classes of a checkpoint, one per line."""
    parser = CommandParser("classes", classes.__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help=CHECKPOINT_HELP)
    parser.add_argument("--aliases", action="store_true", help="with the other words for each that queries may use, "
        "behind a colon")  # fmt: skip
    options = parser.parse_args(words)
    from tse_refine.model.checkpoint import load_network

    trained = load_network(options.checkpoint)
    for name in trained.class_names:
        words_of = trained.aliases.get(name, ()) if options.aliases else ()
        print(f"{name}: {', '.join(words_of)}" if words_of else name)


def models(words: list[str]) -> None:
    """List the models that come with the package, or what is to be known of one."""
    parser = CommandParser("models", models.__doc__, "Every --checkpoint takes the name of a model, too.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="model whose card is printed")
    options = parser.parse_args(words)
    from tse_refine.files.tables import Table
    from tse_refine.model.weights import shipped_models

    known = {model.name: model for model in shipped_models()}
    if options.name is None:
        head = ("model", "licence", "classes", "Hz", "refinement")
        rows = [
            (m.name, m.card.get("licence", ""), f"{len(m.class_names)}", f"{m.sample_rate}", f"{m.recommended}")
            for m in known.values()
        ]
        note = "`tse-refine models NAME` prints a model's classes, data and scores."
        print(Table(head, rows, note, num_left=2).text())
    elif options.name in known:
        model = known[options.name]
        for heading, text in {**model.card, "classes": ", ".join(model.class_names)}.items():
            print(textwrap.fill(f"{heading}: {text}", 100, subsequent_indent="  "))
    else:
        raise InputError(f"{options.name!r} is not a model of this package; {did_you_mean(options.name, list(known))}")


def export(words: list[str]) -> None:
    """Write a trained network as one file: ONNX or torch.export for other programs, or safetensors."""
    parser = CommandParser("export", export.__doc__)
    add = parser.add_argument
    add("--checkpoint", required=True, type=Path, metavar="FILE", help=CHECKPOINT_HELP)
    add("--output", required=True, type=Path, metavar="FILE", help="model.onnx, model.pt2 for torch, or "
        "model.safetensors")  # fmt: skip
    add("--format", choices=("onnx", "torch", "safetensors"), help="onnx, torch for torch.export, or safetensors for "
        "this program; by default as the name of the output ends")  # fmt: skip
    add("--card", type=Path, metavar="FILE", help="JSON with what a user has to know, such as {\"licence\": \"...\"}; "
        "for safetensors")  # fmt: skip
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--threshold", metavar="P", help="fixed threshold or another refinement, such as soft:0.2-0.6; by default the "
        "threshold is an input of the model")  # fmt: skip
    add("--plugins", nargs="+", default=[], metavar="MODULE", help="Python modules that define refinement rules")
    options = parser.parse_args(words)
    import_named_plugins(options.plugins)
    from tse_refine.extraction.export import SUFFIXES, export_checkpoint

    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    file_format = options.format or by_suffix.get(options.output.suffix, "onnx")
    if options.card is not None and file_format != "safetensors":
        raise InputError(f"--card is for files in safetensors; {options.output} has no place for it.")
    about = export_checkpoint(
        options.checkpoint, options.output, file_format, options.overwrite, options.threshold, read_card(options.card)
    )
    if file_format == "safetensors":
        print(options.output)
        return
    recommended = about["recommended_threshold"]
    if recommended is None:
        report(
            "this network has no classifier, so that the model has no input for a threshold and no output for "
            "probabilities: the query is not refined."
        )
    elif options.threshold is None and isinstance(recommended, str):
        report(
            f"the refinement that is recommended for this network, {recommended}, is not a single threshold, which is "
            f"the model's input; --threshold {recommended} makes it a part of the model."
        )
    print(options.output)


def listen(words: list[str]) -> None:
    """Open a local page to drop or record sound, choose classes, and listen to their extraction."""
    parser = CommandParser("listen", listen.__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, default=Path(DEFAULT_MODEL), metavar="FILE",
        help=f"{CHECKPOINT_HELP}; by default the model {DEFAULT_MODEL}")  # fmt: skip
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address of the page; by default reachable from this "
        "machine only, 0.0.0.0 from everywhere, without a password")  # fmt: skip
    add("--port", type=int, default=7860, metavar="N", help="by default 7860; 0 for any that is free")
    add("--device", metavar="NAME", help="such as cpu or cuda; by default cuda if there is one")
    add("--max-megabytes", type=float, metavar="N", help="size of the largest file; by default 50")
    add("--max-minutes", type=float, metavar="N", help="length of the longest sound; by default 10")
    options = parser.parse_args(words)
    from tse_refine.extraction.listen.server import serve
    from tse_refine.extraction.listen.sounds import Limits

    given = {"megabytes": options.max_megabytes, "minutes": options.max_minutes}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})
    serve(options.checkpoint, options.host, options.port, options.device, limits)
