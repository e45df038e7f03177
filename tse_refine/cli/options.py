"""What all groups of commands read alike: words of a command line, and shipped configs by name."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tse_refine.errors import InputError

_PACKAGE = Path(__file__).parent.parent
# a wheel holds the configs inside the package; in the repository, also installed as editable, they lie beside it
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
CHECKPOINT_HELP = (
    "checkpoint of a run, such as runs/demo/checkpoints/best.ckpt, a model of `tse-refine models`, or one on the "
    "Hugging Face Hub, hf://OWNER/NAME"
)
RENAMED_CONFIGS = {
    "baseline1": "experiment/baseline1",
    "baseline2": "experiment/baseline2",
    "data/embedded": "data/synthetic",
    "demo": "budget/demo",
    "esc10_cpu": "budget/esc10_cpu",
    "proposed": "experiment/proposed",
}


class CommandParser(argparse.ArgumentParser):
    """A parser whose errors are one paragraph.

    Args:
        command: name of the command.
        description: of the command, for its help.
        epilog: text below the options.
    """

    def __init__(self, command: str, description: str | None, epilog: str | None = None) -> None:
        super().__init__(f"tse-refine {command}", description=description, epilog=epilog, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Reject words of the command line."""
        raise InputError(f"{message}. `{self.prog} --help` explains every option.")


def config_names(kind: str = "") -> list[str]:
    """Return the names of the shipped configs, such as ``experiment/proposed``; those of sweeps only by their kind.

    Args:
        kind: folder of the configs: ``experiment``, ``model``, ``data``, ``budget``, ``logger`` or ``sweeps``; every
            config that ``fit`` reads by default.
    """
    paths = sorted(CONFIGS.glob(f"{kind or '*'}/*.yaml"))
    return [f"{path.parent.name}/{path.stem}" for path in paths if kind or path.parent.name != "sweeps"]


def find_config(name: str, kind: str = "") -> Path:
    """Return the path of a config file: an existing file, otherwise a shipped config of that name.

    Args:
        name: path of a file, or name of a shipped config from any folder; ``.yaml`` may be left out.
        kind: folder of the shipped config, whose name may be left out then.

    Raises:
        InputError: there is neither; names the nearest shipped configs.

    >>> find_config("model/small") == find_config("small", kind="model") == CONFIGS / "model" / "small.yaml"
    True
    """
    if Path(name).is_file():
        return Path(name)
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    names = config_names(kind)
    for known in (stem, f"{kind}/{stem}"):
        if known in names:
            return CONFIGS / f"{known}.yaml"
    if stem in RENAMED_CONFIGS:
        raise InputError(f"{name} is now called {RENAMED_CONFIGS[stem]}; give that name.")
    near = difflib.get_close_matches(stem.rsplit("/", 1)[-1], [known.rsplit("/", 1)[1] for known in names], n=2)
    near = [known for known in names if known.rsplit("/", 1)[1] in near]
    hint = f"did you mean {' or '.join(near)}?" if near else f"shipped are: {', '.join(names)}."
    raise InputError(f"{name}: there is no such file, and no shipped config has this name; {hint}")


def import_named_plugins(names: Sequence[str]) -> None:
    """Import the modules of ``--plugins``, after which their refinement rules are known by name."""
    if names:
        from tse_refine.evaluation.run_config import import_plugins

        import_plugins({"plugins": names})


def report(text: str) -> None:
    """Print a remark on stderr, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(f"tse-refine: {text}", file=sys.stderr)


def read_card(path: Path | None) -> dict[str, str]:
    """Return the texts of a card by heading; nothing without a file.

    Args:
        path: what ``--card`` names, an object of texts in JSON.

    Raises:
        InputError: it is something else.
    """
    from tse_refine.files.documents import Fields, parse_json, read_text
    from tse_refine.model.weights import LONGEST_TEXT

    if path is None:
        return {}
    try:
        fields = Fields(parse_json(read_text(path)), "it")
        return {heading: fields.text(heading, LONGEST_TEXT) for heading in fields.values}
    except (OSError, ValueError) as error:
        form = '{"licence": "..."}'
        raise InputError(f"--card: {path} is not a card ({error}); {form} in JSON is expected.") from error
