"""The command ``push``, which shares a network on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from tse_refine.cli.options import CommandParser, read_card


def push(words: list[str]) -> None:
    """Write a model card beside a network's weights, and upload both to the Hugging Face Hub."""
    parser = CommandParser("push", push.__doc__)
    add = parser.add_argument
    add("source", type=Path, metavar="RUN_OR_CHECKPOINT", help="folder of a run, for the checkpoint that was tested, "
        "or else the best; or a checkpoint")  # fmt: skip
    add("repository", metavar="OWNER/NAME", help="repository on the Hub; it is created where it is missing")
    add("--card", type=Path, metavar="FILE", help="JSON with what a user has to know: {\"licence\": \"...\", \"data\": "
        "\"...\"}, and title, scores, limits and others")  # fmt: skip
    add("--output", type=Path, metavar="DIR", help="write the folder there, and upload nothing")
    add("--overwrite", action="store_true", help="replace the folder of --output")
    add("--private", action="store_true", help="a new repository is private")
    options = parser.parse_args(words)
    from tse_refine.analysis.model_card import write_model
    from tse_refine.files.atomic import check_output, replacing_folder
    from tse_refine.model.hub import check_repository, upload

    check_repository(options.repository)
    card = read_card(options.card)
    if options.output is not None:
        check_output(options.output, "folder", options.overwrite)
        with replacing_folder(options.output) as folder:
            write_model(options.source, folder, options.repository, card)
        print(options.output)
        return
    with TemporaryDirectory(prefix="tse-refine-push-") as folder_name:
        write_model(options.source, Path(folder_name), options.repository, card)
        print(upload(Path(folder_name), options.repository, options.private))
