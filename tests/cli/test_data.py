"""``prepare`` by command."""

import io
import os
import sys

import pytest

from tse_refine.cli.data import announce
from tse_refine.cli.main import main
from tse_refine.data.corpora.acquisition import Download
from tse_refine.data.download.archives import Archive, RemoteFile
from tse_refine.errors import InputError


def test_banks_are_checked_whole_by_command_and_a_damaged_one_is_named(tiny_config_file, tmp_path, capsys, refusal):
    words = ["prepare", "-c", str(tiny_config_file), f"--data.cache_dir={tmp_path / 'cache'}"]
    main(words)
    assert "Hz, verified)" not in capsys.readouterr().out
    main([*words, "--verify"])
    assert capsys.readouterr().out.count("Hz, verified)") == 2
    path = min((tmp_path / "cache").glob("bank-*/samples.i16"))
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # so that only a look at all of it tells
    main(words)
    text = refusal(main, [*words, "--verify"])
    assert f"{path.parent} is damaged: samples.i16" in text


@pytest.fixture
def download(tmp_path):
    """A download of a size in bytes."""
    archive = Archive((RemoteFile("https://host/records/1/files/sounds.zip?download=1", "0" * 32),))
    return lambda size: [Download(tmp_path / "new" / "corpus", {archive: size})]


@pytest.fixture
def answers(monkeypatch):
    """Let a person answer at a terminal; None is the end of the input. Returns the questions."""
    questions = []

    def give(answer):
        def reply(question):
            questions.append(question)
            if answer is None:
                raise EOFError
            return answer

        monkeypatch.setattr(sys, "stdin", io.StringIO())
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr("builtins.input", reply)
        return questions

    return give


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("Yes ", True), ("", False), ("no", False), (None, False)])
def test_a_person_is_asked_before_a_large_download(answer, agreed, download, answers, tmp_path, capsys):
    questions = answers(answer)
    if agreed:
        announce(download(53_500_000_000), False)
    else:
        with pytest.raises(InputError, match="Nothing was downloaded, since the answer was not yes"):
            announce(download(53_500_000_000), False)
    assert questions == ["Download this? [y/N] "]
    head, what = capsys.readouterr().out.splitlines()
    assert head == "To download, up to 53.5 GB:"
    place = f"  sounds.zip from host into {tmp_path / 'new' / 'corpus'}: 53.5 GB, at least 107.0 GB of disk while "
    assert what.startswith(place)


@pytest.mark.parametrize(("size", "agreed"), [(10**9, False), (2 * 10**9, True), (None, True)])
def test_nobody_is_asked_before_a_small_download_or_with_yes(size, agreed, download, answers, capsys):
    questions = answers("no")
    announce(download(size), agreed)
    assert questions == []
    assert "sounds.zip from host" in capsys.readouterr().out


@pytest.mark.parametrize("size", [10**9 + 1, None])
def test_without_a_person_a_large_download_is_refused(size, download, monkeypatch, capsys):
    """Also one whose size no server gives."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match=r"needs a yes: add --yes to the command\. Nothing was downloaded"):
        announce(download(size), False)
    assert capsys.readouterr().out == ""


def test_nothing_is_said_where_nothing_is_missing(answers, capsys):
    questions = answers("no")
    announce([], False)
    assert (questions, capsys.readouterr().out) == ([], "")
