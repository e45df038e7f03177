import os
import shutil

import pytest

from tse_refine.files.digests import MISSING, FileDigests


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode() * 1000)
    return [folder / name for name in ("a", "b", "c")]


def test_equal_contents_have_equal_digests_in_any_folder(tmp_path, files):
    first = FileDigests(tmp_path / "cache")(files)
    assert len(set(first)) == 3
    shutil.copytree(files[0].parent, tmp_path / "moved")
    moved = [tmp_path / "moved" / path.name for path in files]
    assert FileDigests(tmp_path / "cache")(moved) == first
    assert FileDigests(tmp_path / "other cache")(files) == first


def test_a_file_is_read_once_and_again_when_its_size_changed(tmp_path, files):
    first = FileDigests(tmp_path)(files)
    times = files[0].stat().st_mtime_ns
    files[0].write_bytes(b"x" * 1000)  # a change that neither size nor time shows is not read
    os.utime(files[0], ns=(times, times))
    files[1].write_bytes(b"x" * 1001)
    second = FileDigests(tmp_path)(files)  # as another process would
    assert [before == after for before, after in zip(first, second, strict=True)] == [True, False, True]


def test_a_change_in_place_shows_in_the_time(tmp_path, files):
    (first,) = FileDigests(tmp_path)(files[:1])
    files[0].write_bytes(b"z" * 1000)  # the same size
    os.utime(files[0], (1, 1))
    assert FileDigests(tmp_path)(files[:1]) != [first]


def test_a_changed_time_alone_gives_the_same_digest(tmp_path, files):
    first = FileDigests(tmp_path)(files)
    os.utime(files[0], (1, 1))
    assert FileDigests(tmp_path)(files) == first


def test_a_missing_file_has_no_digest_until_it_exists(tmp_path, files):
    absent = tmp_path / "sounds" / "d"
    assert FileDigests(tmp_path)([files[0], absent])[1] == MISSING
    shutil.copy(files[0], absent)
    original, copy = FileDigests(tmp_path)([files[0], absent])
    assert original == copy != MISSING


@pytest.mark.parametrize(
    "damaged", [b"", b'{\n"half": "a', b"\0" * 100, b"\xff\xfe\xfd"], ids=["empty", "cut", "zeros", "garbage"]
)
def test_a_damaged_memory_is_computed_again(tmp_path, files, damaged):
    memory = FileDigests(tmp_path)
    first = memory(files)
    memory.memory_path.write_bytes(damaged)
    assert FileDigests(tmp_path)(files) == first
