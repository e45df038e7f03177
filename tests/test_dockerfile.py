"""The Dockerfile, as far as it can be tried without Docker: what it copies and installs, and documented commands."""

import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tse_refine.cli.main import main
from tse_refine.cli.options import CommandParser

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "extraction.md"


def instructions(kind: str) -> list[str]:
    """Return the arguments of the Dockerfile's instructions of one kind."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return re.findall(rf"^{kind} (.*)$", text, re.MULTILINE)


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def copied() -> list[str]:
    return [source for words in instructions("COPY") for source in words.split()[:-1]]


def documented(command: str) -> list[list[str]]:
    """Return the words of the page's commands that begin so."""
    text = re.sub(r" +\\\n +", " ", PAGE.read_text())
    lines = re.findall(rf"^    ({command} .*)$", text, re.MULTILINE)
    return [shlex.split(re.sub(r"  +#.*", "", line)) for line in lines]


def test_what_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert {line[1:] for line in ignored if line.startswith("!")} == set(copied())


def test_torch_and_the_extras_are_those_of_the_project():
    allowed = {need.name: need.specifier for need in map(Requirement, project()["dependencies"])}
    installed = dict(re.findall(r"(torch\w*)==(\S+)", " ".join(instructions("RUN"))))
    assert installed.keys() == {"torch", "torchaudio"}
    assert all(allowed[name].contains(version) for name, version in installed.items())
    (extras,) = (value for value in instructions("ARG") if value.startswith("EXTRAS="))
    assert set(shlex.split(extras)[0].removeprefix("EXTRAS=").split(",")) <= project()["optional-dependencies"].keys()
    (python,) = (value.removeprefix("PYTHON=") for value in instructions("ARG") if value.startswith("PYTHON="))
    low, high = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project()["requires-python"]).groups()
    assert int(low) <= int(python.removeprefix("3.")) < int(high)


def test_its_program_is_the_project_s():
    assert instructions("ENTRYPOINT") == ['["tse-refine"]']
    assert "tse-refine" in project()["scripts"]


def test_documented_arguments_of_the_build_are_declared():
    declared = {argument.split("=")[0] for argument in instructions("ARG")}
    builds = documented("docker build")
    assert len(builds) >= 2
    for words in builds:
        given = {word.split("=")[0] for option, word in pairwise(words) if option == "--build-arg"}
        assert given <= declared
        assert words[-1] == "."


def test_documented_commands_in_a_container_are_accepted(monkeypatch):
    class Parsed(Exception):  # noqa: N818
        pass

    def parse(parser, words=None, namespace=None):
        _, rest = parse_known_args(parser, words, namespace)
        raise Parsed(rest)

    parse_known_args = CommandParser.parse_known_args
    monkeypatch.setattr(CommandParser, "parse_known_args", parse)
    runs = documented("docker run")
    assert len(runs) >= 2
    for words in runs:
        image = next(place for place, word in enumerate(words) if word.startswith("tse-refine"))
        with pytest.raises(Parsed) as parsed:
            main(words[image + 1 :])
        assert parsed.value.args == ([],), words


@pytest.mark.long
def test_what_is_copied_is_enough_to_install_and_extract(tmp_path):
    context = tmp_path / "context"
    context.mkdir()
    for source in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, context / source)
    words = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"), "."]
    subprocess.run(words, cwd=context, check=True, capture_output=True)
    words = [sys.executable, "-m", "tse_refine", "classes", "--checkpoint", "real53-small"]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert "siren" in done.stdout.splitlines()
