import os
import subprocess
import sys

import pytest

from tse_refine.files.atomic import remove_leftovers, replacing, write_text


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


def test_the_old_file_is_there_until_the_new_one_is(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # one file system, so that the move happens at once
    assert path.read_text() == "new"


def test_leftovers_of_a_process_that_is_gone_are_removed_and_nothing_else(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    live = [f".results.csv.{process}.part" for process in (os.getpid(), os.getppid())]
    foreign = [f"results.csv.{gone.pid}.part", f".results.csv.{gone.pid}", ".part", ".notes.part", ".a.99x.part"]
    for name in [*live, *foreign, f".results.csv.{gone.pid}.part"]:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*live, *foreign])
