"""A model's folder for others: weights in safetensors and a card that says what its user has to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from tse_refine.analysis.comparison_tables import event_table, result_table
from tse_refine.analysis.comparisons import compare_systems, event_rows, mean_scores
from tse_refine.analysis.systems import System, group_systems
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.results import decisive
from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import expand_home, write_text
from tse_refine.model.checkpoint import TrainedNetwork, check_extracts, load_network
from tse_refine.model.hub import CARD, WEIGHTS, HubAddress
from tse_refine.model.weights import SUFFIX, find_checkpoint, read_card
from tse_refine.refinement import DEFAULT_THRESHOLD, Refinement, parse_refinement

REQUIRED = ("licence", "data")  # headings that nobody can fill in but who trained the network
_OWN = (*REQUIRED, "title", "scores", "limits")  # headings with a place of their own; others follow in their order
_FEW = 5  # classes with the lowest recall
# some of the names by which the Hub knows licences; it rejects a card with any other name
_LICENCES = (
    *("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-3.0"),
    *("cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
)
_TAGS = ["audio", "source-separation", "sound-event-detection", "target-sound-extraction"]


def write_model(source: str | Path, folder: Path, repository: str, card: Mapping[str, str] = {}) -> None:
    """Write the folder of a model: ``model.safetensors``, and ``README.md``, its card in Markdown.

    Scores are those of the run's test, where it tested this checkpoint.

    Args:
        source: folder of a run, for the checkpoint that was tested, or else the best; or a checkpoint.
        folder: folder that exists.
        repository: ``OWNER/NAME`` on the Hub, for the commands on the card.
        card: what a user has to know, by heading; a checkpoint in safetensors may have these itself.

    Raises:
        InputError: the source cannot be used, or nothing states the licence or the data.
    """
    checkpoint, run = find_source(source)
    trained = load_network(checkpoint)
    if run is not None and not run.tested(checkpoint, trained.network):
        run = None
    check_extracts(trained.extracts)
    texts = {**(read_card(checkpoint) if checkpoint.suffix == SUFFIX else {}), **card}
    if missing := [heading for heading in REQUIRED if not texts.get(heading, "").strip()]:
        raise InputError(
            f"{source}: nothing states the {' and the '.join(missing)} of this model, without which others cannot use "
            'it. Give --card FILE, JSON such as {"licence": "CC-BY-4.0", "data": "what it was trained on"}.'
        )
    trained.save(folder / WEIGHTS, texts)
    write_text(folder / CARD, _markdown(trained, run, repository, texts))


def find_source(source: str | Path) -> tuple[Path, TestedRun | None]:
    """Return the checkpoint that is meant, and the run that it is of; None where nothing of that was tested.

    Args:
        source: folder of a run, or a checkpoint.

    Raises:
        InputError: there is neither, or the run has no checkpoint.
    """
    path = expand_home(source)
    folder = RunFolder(path if path.is_dir() else find_checkpoint(path).parent.parent)
    run = TestedRun(folder.path)
    tested = (folder.test / "summary.csv").is_file() and folder.config.is_file()
    if not path.is_dir():
        return find_checkpoint(path), run if tested else None
    checkpoint = run.checkpoint if tested else folder.checkpoints / "best.ckpt"
    if not checkpoint.is_file():
        raise InputError(f"{source}: {checkpoint} does not exist; give the folder of a run, or a checkpoint.")
    return checkpoint, run if tested else None


def _markdown(trained: TrainedNetwork, run: TestedRun | None, repository: str, texts: Mapping[str, str]) -> str:
    licence = texts["licence"].strip().lower()
    front: dict[str, Any] = {"license": licence if licence in _LICENCES else "other"}
    if licence not in _LICENCES:  # the Hub wants a name beside it
        front["license_name"] = re.sub(r"[^a-z0-9.]+", "-", licence)[:60].strip("-") or "other"
    front |= {"library_name": "tse-refine", "pipeline_tag": "audio-to-audio", "tags": _TAGS}
    stored = trained.recommended_threshold
    default = DEFAULT_THRESHOLD if stored is None else stored
    refinement = parse_refinement(default, "the checkpoint's recommendation")
    system = None if run is None else group_systems([run])[0]
    return _TEMPLATES.get_template("model_card.md.jinja").render(
        front=yaml.safe_dump(front, sort_keys=False),
        name=repository.rsplit("/", 1)[1],
        address=HubAddress(repository, None),
        trained=trained,
        refinement=refinement.name,
        texts=texts,
        others={heading: text for heading, text in texts.items() if heading not in _OWN},
        tables=[] if system is None else _tables(system),
        worst=[] if system is None else _worst(system, refinement),
    )


def _tables(system: System) -> list[str]:
    tables = [result_table(compare_systems([system]))]
    if events := event_rows([system]):
        tables.append(event_table(events))
    return [table.markdown() for table in tables]


def _worst(system: System, refinement: Refinement) -> list[str]:
    """Return the classes that a refinement loses most often, with their recall; nothing where it was not tested."""
    if not system.has_classifier or refinement.name not in {rule.name for rule in decisive(system.refinements)}:
        return []
    scores = [score for score in mean_scores(system, refinement) if score.support]
    lowest = sorted(scores, key=lambda score: score.recall)[:_FEW]
    return [f"{score.name} ({100 * score.recall:.0f} %)" for score in lowest]


_TEMPLATES = Environment(  # of Markdown, so that nothing is escaped as in HTML
    loader=PackageLoader("tse_refine.analysis", ""), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
