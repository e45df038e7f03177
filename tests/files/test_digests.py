import os
import shutil

import pytest

from tse_refine.files import digests
from tse_refine.files.digests import MISSING, FileFingerprints


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_bytes(name.encode() * 1000)
    return [folder / name for name in ("a", "b", "c")]


@pytest.fixture
def read_files(monkeypatch):
    """Names of the files whose bytes were read, in no order."""
    names = []
    digest = digests._digest

    def counted(path):
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr(digests, "_digest", counted)
    return names


def test_equal_bytes_have_equal_digests_wherever_they_are(tmp_path, files):
    first = FileFingerprints(tmp_path / "cache")(files)
    assert len(set(first)) == 3
    shutil.copytree(files[0].parent, tmp_path / "moved")
    moved = [tmp_path / "moved" / path.name for path in files]
    assert FileFingerprints(tmp_path / "cache")(moved) == first
    assert FileFingerprints(tmp_path / "other cache")(files) == first


def test_a_file_is_read_once_and_again_when_it_changed(tmp_path, files, read_files):
    first = FileFingerprints(tmp_path)(files)
    assert sorted(read_files) == ["a", "b", "c"]
    assert FileFingerprints(tmp_path)(files) == first  # as another process would ask
    assert len(read_files) == 3
    files[1].write_bytes(b"x" * 1001)
    second = FileFingerprints(tmp_path)(files)
    assert read_files[3:] == ["b"]
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, True]


def test_bytes_that_changed_in_place_are_noticed_by_the_time(tmp_path, files):
    (first,) = FileFingerprints(tmp_path)(files[:1])
    files[0].write_bytes(b"z" * 1000)  # the same size
    os.utime(files[0], (1, 1))
    assert FileFingerprints(tmp_path)(files[:1]) != [first]


def test_a_changed_time_alone_gives_the_same_digest(tmp_path, files):
    first = FileFingerprints(tmp_path)(files)
    os.utime(files[0], (1, 1))
    assert FileFingerprints(tmp_path)(files) == first


def test_a_missing_file_is_called_missing_until_it_is_there(tmp_path, files):
    absent = tmp_path / "sounds" / "d"
    assert FileFingerprints(tmp_path)([files[0], absent])[1] == MISSING
    shutil.copy(files[0], absent)
    here, there = FileFingerprints(tmp_path)([files[0], absent])
    assert here == there != MISSING


@pytest.mark.parametrize(
    "damaged", [b"", b'{\n"half": "a', b"\0" * 100, b"\xff\xfe\xfd"], ids=["empty", "cut", "zeros", "garbage"]
)
def test_a_damaged_memory_is_computed_again(tmp_path, files, damaged):
    memory = FileFingerprints(tmp_path)
    first = memory(files)
    memory.memory_path.write_bytes(damaged)
    assert FileFingerprints(tmp_path)(files) == first
