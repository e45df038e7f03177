import os
import subprocess
import sys
from pathlib import Path

import pytest

from tse_refine.errors import InputError
from tse_refine.files.atomic import check_output, remove_leftovers, replacing, replacing_folder, write_text


def test_a_file_is_replaced_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "old")

    def interrupted():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_text_is_written_in_utf_8_whatever_the_locale(tmp_path):
    write_text(tmp_path / "file.csv", "Hörnchen\n")
    assert (tmp_path / "file.csv").read_bytes() == "Hörnchen\n".encode()


def test_the_old_file_exists_until_it_is_replaced(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # one file system, so that the move happens at once
    assert path.read_text() == "new"


def test_only_leftovers_of_processes_that_have_ended_are_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    live = [f".results.csv.{process}.part" for process in (os.getpid(), os.getppid())]
    foreign = [f"results.csv.{gone.pid}.part", f".results.csv.{gone.pid}", ".part", ".notes.part", ".a.99x.part"]
    for name in [*live, *foreign, f".results.csv.{gone.pid}.part"]:
        (tmp_path / name).touch()
    (tmp_path / f".00001.{gone.pid}.part" / "sources").mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*live, *foreign])


def test_a_folder_is_replaced_only_when_it_is_whole(tmp_path):
    folder = tmp_path / "deep" / "folder"

    def write(name, error=None):
        with replacing_folder(folder) as temporary:
            (temporary / name).touch()
            assert temporary.parent == folder.parent
            if error:
                raise error

    write("old")
    with pytest.raises(RuntimeError):
        write("half", RuntimeError())
    assert list(folder.parent.iterdir()) == [folder]
    assert [path.name for path in folder.iterdir()] == ["old"]
    write("new")
    assert list(folder.parent.iterdir()) == [folder]
    assert [path.name for path in folder.iterdir()] == ["new"]


def test_the_current_folder_can_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with replacing_folder(Path(".")) as temporary:
        (temporary / "file").touch()
    assert (tmp_path / "here" / "file").exists()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("file", "folder", "file is a file; name a folder"),
        ("folder", "file", "folder is a folder; name a file"),
        ("file", "file", "file exists; name another file or replace it with --overwrite"),
        ("folder", "folder", "folder exists; name another folder or replace it with --overwrite"),
        ("file/deep/new", "file", "new cannot be written because .*/file is not a folder"),
        ("link/new", "folder", "new cannot be written because .*/link is not a folder"),
        ("closed/deep/new", "file", "new cannot be written because you may not write in .*/closed"),
    ],
)
def test_an_output_that_cannot_be_written_is_rejected(tmp_path, monkeypatch, name, kind, message):
    (tmp_path / "file").touch()
    for folder in ("folder", "closed"):
        (tmp_path / folder).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "closed")  # root may write everywhere
    with pytest.raises(InputError, match=f"^--output: .*{message}"):
        check_output(tmp_path / name, kind, overwrite=False)


def test_an_output_that_is_new_or_may_be_replaced_is_accepted(tmp_path):
    (tmp_path / "file").touch()
    check_output(tmp_path / "file", "file")
    check_output(tmp_path, "folder")
    check_output(tmp_path / "deep" / "new", "file", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
