import io
import os
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from tse_refine.data.download.unpacking import unpack
from tse_refine.errors import InputError


def noise(num_bytes, seed):
    return np.random.default_rng(seed).bytes(num_bytes)


MEMBERS = {
    "sounds/one.wav": noise(3000, 1),
    "sounds/two words.wav": noise(5000, 2),
    "sounds/Geräusch – 音.wav": noise(4000, 3),
    "table.csv": b"fname,label\n" * 100,
    "sounds/empty": b"",
    "sounds/last.wav": noise(2000, 4),
}


def zip_bytes(members, prefix=b""):
    buffer = io.BytesIO(prefix)
    buffer.seek(len(prefix))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def write_split(folder, members, cuts=None):
    """Write a zip in volumes as Info-ZIP does: a mark at the start, and offsets that count within a volume."""
    whole = bytearray(zip_bytes(members, prefix=b"PK\7\10"))
    end = len(whole) - 22
    directory = struct.unpack_from("<L", whole, end + 16)[0]
    starts = [0, *(cuts(directory, end) if cuts else (len(whole) // 3, 2 * len(whole) // 3))]

    def locate(offset):
        volume = sum(start <= offset for start in starts) - 1
        return volume, offset - starts[volume]

    entry, volumes_used = directory, set()
    while entry < end:
        volume, offset = locate(struct.unpack_from("<L", whole, entry + 42)[0])
        struct.pack_into("<H", whole, entry + 34, volume)
        struct.pack_into("<L", whole, entry + 42, offset)
        volumes_used.add(volume)
        entry += 46 + sum(struct.unpack_from("<3H", whole, entry + 28))
    volume, offset = locate(directory)
    struct.pack_into("<2H", whole, end + 4, len(starts) - 1, volume)
    struct.pack_into("<L", whole, end + 16, offset)
    paths = [folder / f"split.z{number:02}" for number in range(1, len(starts))] + [folder / "split.zip"]
    for path, start, stop in zip(paths, starts, [*starts[1:], len(whole)], strict=True):
        path.write_bytes(whole[start:stop])
    return paths, volumes_used


def read_tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "sounds.zip"
    path.write_bytes(zip_bytes(MEMBERS))
    return path


def test_every_member_is_unpacked_with_its_bytes_and_name(tmp_path, archive):
    unpack([archive], tmp_path / "out")
    assert read_tree(tmp_path / "out") == MEMBERS


def test_an_unpacked_member_is_kept_and_one_that_differs_is_replaced(tmp_path, archive):
    out = tmp_path / "out"
    unpack([archive], out)
    (out / "sounds/one.wav").write_bytes(noise(3000, 5))  # the same size
    (out / "table.csv").write_bytes(b"cut")
    os.utime(out / "sounds/last.wav", ns=(1, 1))
    unpack([archive], out)
    assert read_tree(out) == MEMBERS
    assert (out / "sounds/last.wav").stat().st_mtime_ns == 1


def test_three_volumes_are_unpacked_as_one_archive(tmp_path):
    volumes, volumes_used = write_split(tmp_path, MEMBERS)
    assert volumes_used == {0, 1, 2}  # members start in each of them
    unpack(volumes, tmp_path / "out")
    assert read_tree(tmp_path / "out") == MEMBERS


def test_the_directory_itself_may_be_cut(tmp_path):
    volumes, _ = write_split(tmp_path, MEMBERS, cuts=lambda directory, end: (5000, (directory + end) // 2))
    unpack(volumes, tmp_path / "out")
    assert read_tree(tmp_path / "out") == MEMBERS


@pytest.mark.parametrize("kept", [(0, 2), (1, 2), (2,), (1, 0, 2)])
def test_missing_or_exchanged_volumes_are_rejected(tmp_path, kept):
    volumes, _ = write_split(tmp_path, MEMBERS)
    with pytest.raises(InputError, match=r"split.zip: cannot be unpacked"):
        unpack([volumes[index] for index in kept], tmp_path / "out")
    assert set(read_tree(tmp_path / "out")) < set(MEMBERS)


def test_a_split_archive_that_python_cannot_read_is_reported_with_a_remedy(tmp_path):
    volumes, _ = write_split(tmp_path, MEMBERS)
    content = volumes[-1].read_bytes()
    zip64_locator = struct.pack("<4sLQL", b"PK\6\7", 2, 0, 3)
    volumes[-1].write_bytes(content[:-22] + zip64_locator + content[-22:])
    with pytest.raises(InputError, match=r"zip -s 0 split.zip --out joined.zip"):
        unpack(volumes, tmp_path / "out")


def special(name, kind):
    """Return a member that is not a file."""
    member = zipfile.ZipInfo(name)
    member.create_system = 3  # Unix
    member.external_attr = (kind | 0o777) << 16
    return member


@pytest.mark.parametrize(
    "entry",
    [
        "/absolute",
        "../outside",
        "a/../../outside",
        "a/..",
        "C:/drive",
        "c:drive",
        "back\\slash",
        "..\\up",
        ".",
        "./.",
        "a/.",
        "a/./b",
        "a//b",
        "//",
    ],
)
def test_a_member_that_could_leave_the_target_is_rejected_before_any_is_written(tmp_path, entry):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(entry, "/etc")
    with pytest.raises(InputError, match="no path may leave the target folder") as error:
        unpack([path], tmp_path / "in/out")
    assert str(path) in str(error.value)
    assert repr(entry) in str(error.value)
    assert list(tmp_path.iterdir()) == [path]


FIFO, LINK, DEVICES = stat.S_IFIFO, stat.S_IFLNK, (stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        *((["a.wav", special("b", kind)], "'b' is a link or a device") for kind in (FIFO, LINK, *DEVICES)),
        (["a.wav", "b/" + "n" * 256], "has a name of more than 255 bytes"),
        (["a.wav", "ü" * 128 + "/b"], "has a name of more than 255 bytes"),
        (["a", "a/b"], "'a/b' makes 'a' a file and a folder"),
        (["a/b", "a"], "'a' makes 'a' a file and a folder"),
        (["A", "a/b"], "'a/b' makes 'a' a file and a folder"),
        (["a/", "a"], "'a' makes 'a' a file and a folder"),
        (["a.wav", "a.wav"], "'a.wav' is in it twice"),
        (["a.wav", "./a.wav"], "is in it twice"),
        (["s/a.wav", "s/A.wav"], "'s/A.wav' is 's/a.wav' too where a disk ignores case"),
        (["S/a.wav", "s/b.wav"], "'s/b.wav' is 'S' too where a disk ignores case"),
        (["u\u0308.wav", "\u00fc.wav"], "too where a disk ignores case"),
    ],
    ids=str,
)
def test_members_that_are_no_files_of_their_own_are_rejected_before_any_is_written(tmp_path, entries, reason):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, entry in enumerate(entries):
            archive.writestr(entry, str(number))
    with pytest.raises(InputError, match=reason.replace(".", r"\.")) as error:
        unpack([path], tmp_path / "out")
    assert str(error.value).startswith(f"{path}: rejected, nothing was unpacked: the member ")
    assert len(str(error.value)) < 600
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_names_and_folders_that_are_named_again_are_unpacked(tmp_path):
    members = {"n" * 255: b"x", "ü" * 127 + "/b": b"y", "./": b"", "s/": b"", "s/a": b"z"}
    (tmp_path / "good.zip").write_bytes(zip_bytes(members))
    unpack([tmp_path / "good.zip"], tmp_path / "out")
    assert read_tree(tmp_path / "out") == {name: content for name, content in members.items() if content}


def test_an_archive_that_would_fill_the_disk_is_rejected(tmp_path, archive, set_free_space):
    set_free_space(2**50)
    content = archive.read_bytes()
    place = content.index(b"PK\1\2")  # of the first member in the directory, whose size is declared there
    archive.write_bytes(content[: place + 24] + struct.pack("<L", 2**31) + content[place + 28 :])
    with pytest.raises(InputError, match=r"sounds\.zip: rejected, .* bytes would become 2\.0 GiB, more than 100 times"):
        unpack([archive], tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("size", [10, 2**20])
def test_a_member_with_another_size_than_declared_is_rejected(tmp_path, archive, size):
    content = archive.read_bytes()
    place = content.index(b"PK\1\2")
    archive.write_bytes(content[: place + 24] + struct.pack("<L", size) + content[place + 28 :])
    with pytest.raises(InputError, match=r"sounds\.zip: cannot be unpacked"):
        unpack([archive], tmp_path / "out")
    assert read_tree(tmp_path / "out") == {}


@pytest.mark.parametrize(("there", "of_archive"), [("sounds", "sounds/a"), ("sounds/a", "sounds"), ("", "a")])
def test_a_target_in_which_members_have_no_place_is_reported(tmp_path, there, of_archive):
    (tmp_path / "out" / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "out" / there).write_bytes(b"mine")
    (tmp_path / "in.zip").write_bytes(zip_bytes({of_archive: b"x"}))
    with pytest.raises(InputError, match=r"in\.zip: cannot be unpacked into .*out \("):
        unpack([tmp_path / "in.zip"], tmp_path / "out")
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".zip"] == [b"mine"]


@pytest.mark.parametrize("name", ["a..b/c..", "...", "ab:c", "./d"])
def test_harmless_dots_and_colons_are_kept(tmp_path, name):
    path = tmp_path / "good.zip"
    path.write_bytes(zip_bytes({name: b"x"}))
    unpack([path], tmp_path / "out")
    assert read_tree(tmp_path / "out") == {name.removeprefix("./"): b"x"}


def test_a_damaged_member_is_rejected_and_leaves_no_file(tmp_path):
    content = bytearray(zip_bytes({"a.wav": noise(1000, 1)}))
    content[500] ^= 1
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged.zip: cannot be unpacked"):
        unpack([path], tmp_path / "out")
    assert read_tree(tmp_path / "out") == {}


@pytest.mark.parametrize("size", [0, 10, 100, -1])
def test_a_cut_archive_is_rejected(tmp_path, archive, size):
    archive.write_bytes(archive.read_bytes()[:size])
    with pytest.raises(InputError, match=r"sounds.zip: cannot be unpacked"):
        unpack([archive], tmp_path / "out")


def test_too_little_space_is_rejected_before_a_member_is_written(tmp_path, archive, set_free_space):
    out = tmp_path / "out"
    num_bytes = sum(map(len, MEMBERS.values()))
    set_free_space(num_bytes - 1)
    with pytest.raises(InputError, match=r"out: 0\.0 GiB are needed to unpack sounds\.zip, but only 0\.0 GiB are free"):
        unpack([archive], out)
    assert read_tree(out) == {}
    (out / "sounds").mkdir()
    (out / "sounds/one.wav").write_bytes(MEMBERS["sounds/one.wav"])
    set_free_space(num_bytes - 3000)  # what is there needs no more room
    unpack([archive], out)
    assert read_tree(out) == MEMBERS


KILLED_IN_THE_THIRD_MEMBER = """
import os, shutil, signal, sys
from pathlib import Path

from tse_refine.data.download.unpacking import unpack

archive, target = sys.argv[1:]
copy = shutil.copyfileobj
num_copied = 0

def copy_two_and_a_half(source, sink, length):
    global num_copied
    if num_copied == 2:
        sink.write(source.read(1000))
        sink.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    num_copied += 1
    copy(source, sink, length)

shutil.copyfileobj = copy_two_and_a_half
unpack([Path(archive)], Path(target))
"""


def test_a_killed_unpacking_can_be_repeated(tmp_path, archive):
    out = tmp_path / "out"
    child = subprocess.run([sys.executable, "-c", KILLED_IN_THE_THIRD_MEMBER, archive, out], check=False)
    assert child.returncode == -signal.SIGKILL
    left = read_tree(out)
    first, second, third, *_ = MEMBERS
    temporary = {name for name in left if name not in MEMBERS}
    assert set(left) - temporary == {first, second}  # no half-written file has a member's name
    assert [left[name] for name in temporary] == [MEMBERS[third][:1000]]
    times = [(out / name).stat().st_mtime_ns for name in (first, second)]
    unpack([archive], out)
    assert read_tree(out) == MEMBERS
    assert [(out / name).stat().st_mtime_ns for name in (first, second)] == times


def tar_of(path, *entries, **attributes):
    """Write a compressed tar archive of names with their content; None is a folder, attributes are the last one's."""
    with tarfile.open(path, "w:gz") as archive:
        for number, (name, content) in enumerate(entries, start=1):
            member = tarfile.TarInfo(name)
            member.size = len(content or b"")
            member.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            for attribute, value in attributes.items() if number == len(entries) else ():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(content or b""))
    return path


def test_a_tar_archive_is_unpacked_whole_or_one_folder_of_it(tmp_path):
    entries = [(f"corpus/{name}", content) for name, content in MEMBERS.items()]
    path = tar_of(tmp_path / "corpus.tar.gz", ("corpus", None), *entries, ("._corpus", b"of another system"))
    unpack([path], tmp_path / "whole")
    assert read_tree(tmp_path / "whole") == dict(entries) | {"._corpus": b"of another system"}
    unpack([path], tmp_path / "out", "corpus/")
    assert read_tree(tmp_path / "out") == MEMBERS
    (tmp_path / "out" / "table.csv").write_bytes(b"x" * len(MEMBERS["table.csv"]))
    (tmp_path / "out" / "sounds" / "one.wav").unlink()
    unpack([path], tmp_path / "out", "corpus/")
    assert read_tree(tmp_path / "out") == MEMBERS


def test_names_of_a_tar_archive_may_begin_with_a_dot(tmp_path):
    path = tar_of(tmp_path / "corpus.tar.gz", (".", None), ("./corpus", None), ("./corpus/a", b"x"))
    unpack([path], tmp_path / "out", "corpus/")
    assert read_tree(tmp_path / "out") == {"a": b"x"}


@pytest.mark.parametrize(
    ("entries", "attributes", "reason"),
    [
        ([("../a", b"x")], {}, "is not a plain relative path"),
        ([("/a", b"x")], {}, "is not a plain relative path"),
        ([("a", b"x"), ("a", b"y")], {}, "is in it twice"),
        ([("a", b"")], {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link or a device"),
        ([("a", b"")], {"type": tarfile.LNKTYPE, "linkname": "b"}, "is a link or a device"),
        ([("a", b"")], {"type": tarfile.FIFOTYPE}, "is a link or a device"),
    ],
)
def test_an_unsafe_tar_archive_is_rejected_before_anything_is_written(tmp_path, entries, attributes, reason):
    path = tar_of(tmp_path / "bad.tar.gz", ("good", b"good"), *entries, **attributes)
    with pytest.raises(InputError, match=f"rejected, nothing was unpacked: the member .* {reason}"):
        unpack([path], tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 10, 3000, -9])
def test_a_cut_tar_archive_is_rejected_and_leaves_no_part_of_a_file(tmp_path, size):
    path = tar_of(tmp_path / "corpus.tar.gz", *MEMBERS.items())
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"corpus\.tar\.gz: cannot be unpacked"):
        unpack([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_tar_archive_is_rejected_before_anything_is_written(tmp_path):
    path = tar_of(tmp_path / "corpus.tar.gz", *MEMBERS.items())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"corpus\.tar\.gz: cannot be unpacked"):
        unpack([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_little_space_is_rejected_before_a_tar_archive_is_unpacked(tmp_path, set_free_space):
    path = tar_of(tmp_path / "corpus.tar.gz", *MEMBERS.items())
    set_free_space(sum(map(len, MEMBERS.values())) - 1)
    with pytest.raises(InputError, match=r"are needed to unpack corpus\.tar\.gz"):
        unpack([path], tmp_path / "out")
    assert read_tree(tmp_path / "out") == {}
