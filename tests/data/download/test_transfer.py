import hashlib
import io
import json
import zipfile

import numpy as np
import pytest

from tse_refine.data.download import transfer
from tse_refine.data.download.transfer import install
from tse_refine.errors import InputError

SOUND = np.random.default_rng(1).bytes(20_000)


def zip_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"corpus/{name}", content)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _archive(server):
    server.files["a.zip"] = zip_of(sound=SOUND)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "corpora"


def downloads(root):
    return sorted(path.name for path in (root / ".downloads").rglob("*") if path.is_file())


def test_an_archive_is_unpacked_and_its_download_deleted(server, root):
    install([server.archive("a.zip")], root)
    assert (root / "corpus/sound").read_bytes() == SOUND
    assert downloads(root) == []
    assert hashlib.md5(server.files["a.zip"]).hexdigest() in (root / ".installed/a.zip").read_text()


def test_a_second_install_requests_nothing(server, root):
    archive = server.archive("a.zip")
    install([archive], root)
    num_requests = len(server.gets) + server.num_heads
    install([archive], root)
    assert len(server.gets) + server.num_heads == num_requests


def test_only_archives_that_are_not_installed_are_downloaded(server, root):
    server.files["b.zip"] = zip_of(other=b"other")
    install([server.archive("a.zip")], root)
    install([server.archive("a.zip"), server.archive("b.zip")], root)
    assert [name for name, *_ in server.gets] == ["a.zip", "b.zip"]
    assert (root / "corpus/other").read_bytes() == b"other"


def test_another_published_version_is_downloaded_again(server, root):
    install([server.archive("a.zip")], root)
    server.files["a.zip"] = zip_of(sound=SOUND[::-1])
    install([server.archive("a.zip")], root)
    assert (root / "corpus/sound").read_bytes() == SOUND[::-1]


def test_volumes_are_unpacked_together_in_their_order(server, root, monkeypatch):
    unpacked = []

    def unpack(volumes, *_):
        unpacked.append([path.read_bytes() for path in volumes])
        assert downloads(root) == ["s.z01", "s.z02", "s.zip"]  # nothing else takes room by now

    monkeypatch.setattr(transfer, "unpack", unpack)
    server.files |= {"s.z01": b"first", "s.z02": b"second", "s.zip": b"last"}
    install([server.archive("s.z01", "s.z02", "s.zip")], root)
    assert unpacked == [[b"first", b"second", b"last"]]
    assert (root / ".installed/s.zip").exists()


def test_an_interrupted_transfer_continues_where_it_stopped(server, root):
    server.break_after = [5000, 7000]
    size = len(server.files["a.zip"])
    install([server.archive("a.zip")], root)
    assert server.gets == [
        ("a.zip", None, 5000),
        ("a.zip", "bytes=5000-", 7000),
        ("a.zip", "bytes=12000-", size - 12000),  # nothing was sent twice
    ]
    assert (root / "corpus/sound").read_bytes() == SOUND


def test_received_bytes_are_kept_after_the_last_try(server, root):
    server.break_after = [2000] * transfer.NUM_TRIES
    archive = server.archive("a.zip")
    size, got = len(server.files["a.zip"]), 2000 * transfer.NUM_TRIES
    with pytest.raises(InputError, match=f"got {got} of {size} bytes.*it continues where it stopped") as failure:
        install([archive], root)
    assert archive.files[0].url in str(failure.value)
    assert (root / ".downloads/a.zip/a.zip.part").read_bytes() == server.files["a.zip"][:got]
    server.gets.clear()
    install([archive], root)
    assert server.gets == [("a.zip", f"bytes={got}-", size - got)]
    assert (root / "corpus/sound").read_bytes() == SOUND


@pytest.mark.parametrize("fault", ["knows_ranges", "wrong_ranges"])
def test_a_server_without_proper_ranges_sends_the_whole_file_again(server, root, fault):
    setattr(server, fault, fault == "wrong_ranges")
    server.break_after = [5000]
    install([server.archive("a.zip")], root)
    assert server.gets[1][1] == "bytes=5000-"
    assert (root / "corpus/sound").read_bytes() == SOUND


def test_bytes_of_another_version_are_never_joined(server, root):
    server.break_after = [5000] + [0] * (transfer.NUM_TRIES - 1)
    archive = server.archive("a.zip")
    complete = server.files["a.zip"]
    server.files["a.zip"] = complete[::-1]  # what the server has for a while
    with pytest.raises(InputError, match="got 5000"):
        install([archive], root)
    server.files["a.zip"] = complete
    install([archive], root)  # If-Range tells that the version is another one
    assert server.gets[-1] == ("a.zip", "bytes=5000-", len(complete))


def test_the_part_of_another_published_version_is_removed(server, root):
    server.break_after = [5000] + [0] * (transfer.NUM_TRIES - 1)
    with pytest.raises(InputError, match="got 5000"):
        install([server.archive("a.zip")], root)
    server.files["a.zip"] = zip_of(sound=SOUND[::-1])
    install([server.archive("a.zip")], root)
    assert server.gets[-1] == ("a.zip", None, len(server.files["a.zip"]))


@pytest.mark.parametrize("is_right", [True, False])
def test_a_part_without_missing_bytes_is_verified(server, root, is_right):
    archive = server.archive("a.zip")
    content = server.files["a.zip"]
    part = root / ".downloads/a.zip/a.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content if is_right else content + b"more")
    note = {"url": archive.files[0].url, "md5": archive.files[0].md5, "validator": None, "size": None}
    part.with_name("a.zip.part.json").write_text(json.dumps(note))
    install([archive], root)
    assert server.gets[0] == ("a.zip", f"bytes={len(content) + (0 if is_right else 4)}-", 0)  # answered with 416
    assert server.gets[1:] == ([] if is_right else [("a.zip", None, len(content))])
    assert (root / "corpus/sound").read_bytes() == SOUND


def test_a_server_that_sends_no_size_is_supported(server, root):
    server.knows_head = server.tells_size = False
    install([server.archive("a.zip")], root)
    assert (root / "corpus/sound").read_bytes() == SOUND


def test_a_wrong_checksum_is_rejected_and_its_file_removed(server, root):
    archive = server.archive("a.zip")
    wrong = server.files["a.zip"][::-1]
    server.files["a.zip"] = wrong
    with pytest.raises(InputError) as error:
        install([archive], root)
    for part in (archive.files[0].url, archive.files[0].md5, hashlib.md5(wrong).hexdigest()):
        assert part in str(error.value)
    assert downloads(root) == []
    assert not (root / ".installed").exists()
    assert not (root / "corpus").exists()


def test_a_file_placed_by_hand_is_verified_and_used(server, root):
    archive = server.archive("a.zip")
    placed = root / ".downloads/a.zip/a.zip"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(server.files["a.zip"])
    install([archive], root)
    assert server.gets == []
    assert server.num_heads == 0
    assert (root / "corpus/sound").read_bytes() == SOUND


def test_an_interrupted_verification_loses_nothing(server, root, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    archive = server.archive("a.zip")
    with monkeypatch.context() as patch:
        patch.setattr("tse_refine.data.download.transfer.digest_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            install([archive], root)
    assert len(server.gets) == 1
    install([archive], root)
    assert len(server.gets) == 1
    assert (root / "corpus/sound").read_bytes() == SOUND


def test_downloads_of_installed_archives_are_removed_and_others_kept(server, root):
    install([server.archive("a.zip")], root)
    for name in ("a.zip", "b.zip"):  # a.zip: as after a kill between its stamp and the deletion
        (root / ".downloads" / name).mkdir()
        (root / ".downloads" / name / f"{name}.part").write_bytes(b"part")
    install([server.archive("a.zip")], root)
    assert downloads(root) == ["b.zip.part"]


def test_too_little_space_is_rejected_before_a_download(server, root, set_free_space):
    size = len(server.files["a.zip"])
    set_free_space(size - 1)
    with pytest.raises(InputError, match=r"corpora: 0\.0 GiB are needed to download, but only 0\.0 GiB are free"):
        install([server.archive("a.zip")], root)
    assert server.gets == []


def test_received_bytes_need_no_further_space(server, root, set_free_space, monkeypatch):
    monkeypatch.setattr(transfer, "unpack", lambda *_: None)
    server.break_after = [5000] + [0] * (transfer.NUM_TRIES - 1)
    with pytest.raises(InputError, match="got 5000"):
        install([server.archive("a.zip")], root)
    set_free_space(len(server.files["a.zip"]) - 5000)
    install([server.archive("a.zip")], root)


def test_a_missing_file_is_reported_with_its_address_and_a_remedy(server, root):
    archive = server.archive("a.zip")
    server.files.clear()
    with pytest.raises(InputError, match=r"the server answers 404 .*place it at .*a.zip") as failure:
        install([archive], root)
    assert archive.files[0].url in str(failure.value)


def test_an_unreachable_server_is_reported_with_the_address_and_a_remedy(server, root):
    archive = server.archive("a.zip")
    server.shutdown()
    server.socket.close()
    with pytest.raises(InputError, match="Check the network") as failure:
        install([archive], root)
    assert archive.files[0].url in str(failure.value)
