"""Every command that the documentation writes out is one that its parser accepts."""

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from tse_refine.cli.main import COMMANDS, TRAINER_COMMANDS, main
from tse_refine.cli.options import CommandParser, config_names
from tse_refine.cli.trainer_options import command_parser

PAGES = [Path("README.md"), Path("CONTRIBUTING.md"), *Path("docs").rglob("*.md"), *Path("configs").glob("*/*.yaml")]
# a line of a block or of a config's header, continued by backslashes, or a whole command between backticks
LINE = re.compile(r"^(?:#?   +|srun +|.*--no-python )tse-refine ((?:.*\\\n)*.*)$", re.MULTILINE)
INLINE = re.compile(r"`tse-refine ((?:fit|test|prepare|preview) -[^`]*)`")
REMARK = re.compile(r"   +.*")  # beside a command


def written_commands() -> list[str]:
    texts = [path.read_text(encoding="utf-8") for path in sorted(PAGES)]
    found = [command for text in texts for pattern in (LINE, INLINE) for command in pattern.findall(text)]
    words = {tuple(shlex.split(REMARK.sub("", re.sub(r"\\\n\s*", "", command)), comments=True)) for command in found}
    return sorted(shlex.join(command) for command in words if "..." not in command)


class Parsed(Exception):  # noqa: N818
    """Ends a command when its words have been parsed; has those that go to ``fit``."""


@pytest.fixture
def parse_only(monkeypatch):
    original = CommandParser.parse_known_args

    def parse(parser, *args):
        raise Parsed(original(parser, *args)[1])

    monkeypatch.setattr(CommandParser, "parse_known_args", parse)


@cache
def parser(command: str):
    return command_parser(command)


def accept(command: str, words: list[str]) -> None:
    """Parse the options of a Lightning command, without configs and plugins that only the reader has."""
    kept = ["-c", "data/synthetic"]
    for option, word in zip(["", *words], words, strict=False):
        if option == "-c" and word not in config_names():
            kept.pop()
        elif not (option == "--plugins" or word == "--plugins"):
            kept.append(word)
    parser(command).parse_args(kept)


def test_commands_are_found():
    assert {command.split()[0] for command in written_commands()} >= {*COMMANDS, "fit", "test"} - {"recipes"}


@pytest.mark.parametrize("command", written_commands())
def test_a_written_command_is_accepted(command, parse_only, capsys):
    name, *words = shlex.split(command)
    if "--help" in words or any(word.endswith(".help") for word in words):
        with pytest.raises(SystemExit) as stop:
            main([name, *words])
        assert not stop.value.code, capsys.readouterr().err
    elif name in TRAINER_COMMANDS:
        accept(name, words)
    else:
        with pytest.raises(Parsed) as parsed:
            main([name, *words])
        (rest,) = parsed.value.args
        if name in ("compare", "prepare", "preview", "recipes"):
            accept("fit", rest)
        else:
            assert rest == []
