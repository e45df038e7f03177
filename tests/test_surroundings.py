"""Surroundings other than a UTF-8 terminal of a named user on Linux: containers, other locales, Windows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.files.atomic import expand_home

NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
NOBODY = """
import pwd

def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = getpwuid
"""
# without the last two Python takes the locale C for UTF-8; few machines have one in latin-1
LEGACY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def tse_refine(*words: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(
        [sys.executable, "-m", "tse_refine", *words], env=kept | environment, capture_output=True, check=False
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the user database is emulated")
def test_a_user_id_without_a_name_is_enough(tmp_path):
    """As in a container that runs with `--user 1234`."""
    (tmp_path / "sitecustomize.py").write_text(NOBODY)
    path = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = tse_refine("fit", "-c", "data/synthetic", "--print_config", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr.decode()


def test_the_home_of_an_unknown_user_is_rejected():
    with pytest.raises(InputError, match=r"^~no_such_user/data: the home folder"):
        expand_home("~no_such_user/data")


def test_another_locale_reads_and_prints_every_name(tmp_path):
    (tmp_path / "own.yaml").write_text("# Türklingel\ndata: {cache_dir: Vögel}\n", encoding="utf-8")
    words = ("fit", "-c", "data/synthetic", "-c", str(tmp_path / "own.yaml"), "--print_config")
    printed = tse_refine(*words, **LEGACY, PYTHONIOENCODING="ascii")
    assert printed.returncode == 0, printed.stderr.decode()
    assert "  cache_dir: V\\xf6gel" in printed.stdout.decode("ascii").splitlines()


def test_names_that_no_encoding_has_are_printed(capfdbinary):
    """A folder's name may be bytes that are not UTF-8, which Python holds as surrogates."""
    script = "from tse_refine.cli import checkpoints, main; checkpoints.classes = lambda words: print('\\udcff'); "
    subprocess.run([sys.executable, "-c", script + "main.main(['classes'])"], check=True)
    assert capfdbinary.readouterr().out == rb"\udcff" + os.linesep.encode()


def test_a_config_that_is_not_utf_8_is_rejected_by_name(tmp_path, refusal):
    (tmp_path / "latin.yaml").write_bytes("data: {cache_dir: Vögel}".encode("latin-1"))
    text = refusal(main, ["fit", "-c", str(tmp_path / "latin.yaml")])
    assert f"{tmp_path / 'latin.yaml'}: is not a config in YAML (it is not text in UTF-8" in text


def test_a_path_that_the_file_system_cannot_encode_is_named(refusal, monkeypatch):
    def fail(words):
        "Vögel".encode("ascii")

    monkeypatch.setattr("tse_refine.cli.checkpoints.classes", fail)
    assert r"'V\xf6gel' cannot be written in ascii. Set PYTHONUTF8=1" in refusal(main, ["classes"])


@pytest.fixture
def windows(monkeypatch):
    """Make this process refuse to remove or rename what it holds open, as Windows does."""

    def held(path) -> bool:
        if not os.path.exists(path):
            return False
        opened = Path("/proc/self/fd").iterdir()
        return any(descriptor.exists() and descriptor.samefile(path) for descriptor in opened)

    def refusing(function):
        def call(*paths, **options):
            for path in paths:
                if isinstance(path, str | os.PathLike) and held(path):
                    raise PermissionError(13, "[WinError 32] in use", os.fspath(path))
            return function(*paths, **options)

        return call

    for name in ("unlink", "remove", "replace", "rename"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed in /proc")
def test_no_file_is_removed_or_renamed_while_it_is_open(tiny_config_file, tmp_path, windows, capsys):
    options = ("-c", str(tiny_config_file), "--data.cache_dir", str(tmp_path / "cache"))
    for words in (("prepare",), ("fit",), ("fit", "--overwrite"), ("test",), ("test",)):
        main([words[0], *options, *words[1:]])
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]
