import hashlib
import io
import json
import shutil
import tarfile
import zipfile

import pytest
import yaml

from tse_refine.cli.main import main
from tse_refine.data.corpora import (
    ESC50,
    GISE51,
    FSDKaggle2018,
    SyntheticSounds,
    UrbanSound8K,
    esc50,
    fsdkaggle2018,
    urbansound8k,
)
from tse_refine.data.corpora.acquisition import download_missing, planned_downloads
from tse_refine.errors import InputError


@pytest.fixture
def published(server, fsdkaggle2018_root, monkeypatch):
    """The miniature FSDKaggle2018 as archives on a server, and nothing of it on disk; returns what was there."""
    content = {
        path.relative_to(fsdkaggle2018_root): path.read_bytes()
        for path in fsdkaggle2018_root.rglob("*.*")
        if path.is_file()
    }
    md5 = {}
    for part in ("audio_train", "audio_test", "meta"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in content.items():
                if path.parts[0] == f"FSDKaggle2018.{part}":
                    archive.writestr(path.as_posix(), data)
        server.files[f"FSDKaggle2018.{part}.zip"] = buffer.getvalue()
        md5[part] = hashlib.md5(buffer.getvalue()).hexdigest()
    monkeypatch.setattr(fsdkaggle2018, "MD5", md5)
    shutil.rmtree(fsdkaggle2018_root)
    return content


@pytest.fixture
def corpus(server, published, fsdkaggle2018_root):
    return FSDKaggle2018(str(fsdkaggle2018_root), mirror=f"http://127.0.0.1:{server.server_address[1]}/files")


def names(server):
    return [name for name, _, _ in server.gets]


def test_tables_are_downloaded_before_the_recordings_they_list(corpus, server, published):
    download_missing(corpus)
    assert names(server)[0] == "FSDKaggle2018.meta.zip"
    assert sorted(names(server)) == [f"FSDKaggle2018.{part}.zip" for part in ("audio_test", "audio_train", "meta")]
    assert corpus.missing() == []
    assert all((corpus.root / path).read_bytes() == data for path, data in published.items())
    download_missing(corpus)
    assert len(server.gets) == 3


def test_only_missing_files_are_downloaded(corpus, server, published):
    for path, data in published.items():
        if path.parts[0] != "FSDKaggle2018.audio_test":
            (corpus.root / path).parent.mkdir(parents=True, exist_ok=True)
            (corpus.root / path).write_bytes(data)
    download_missing(corpus)
    assert names(server) == ["FSDKaggle2018.audio_test.zip"]


def test_files_in_no_archive_are_reported(corpus, server):
    download_missing(corpus)
    lost = next((corpus.root / "FSDKaggle2018.audio_train").iterdir())
    lost.unlink()
    with pytest.raises(InputError, match=rf"{lost.name} .*still missing .*\.installed"):
        download_missing(corpus)
    shutil.rmtree(corpus.root / ".installed")
    download_missing(corpus)
    assert lost.exists()


def test_a_corpus_without_archives_downloads_nothing(server):
    download_missing(SyntheticSounds())
    assert server.gets == []


@pytest.fixture
def kaggle_config(corpus, tau2019_root, tiny_config_file, tmp_path):
    """A config whose foregrounds are on the server."""
    config = yaml.safe_load(tiny_config_file.read_text())
    options = {"root": str(corpus.root), "mirror": corpus.mirror}
    config["data"]["foregrounds"] = {"class_path": "tse_refine.data.corpora.FSDKaggle2018", "init_args": options}
    config["data"]["backgrounds"] = {
        "class_path": "tse_refine.data.corpora.TAU2019",
        "init_args": {"root": str(tau2019_root)},
    }
    config["data"]["cache_dir"] = str(tmp_path / "bank")
    path = tmp_path / "kaggle.json"
    path.write_text(json.dumps(config))
    return str(path)


def test_only_prepare_downloads_and_it_resumes_and_verifies(corpus, server, kaggle_config, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "-c", kaggle_config])
    assert "`tse-refine prepare`" in capsys.readouterr().err
    assert server.gets == []

    audio = server.files["FSDKaggle2018.audio_train.zip"]
    server.files["FSDKaggle2018.audio_train.zip"] = audio[:-100] + bytes(100)
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "-c", kaggle_config])
    assert stop.value.code == 2
    assert "md5" in capsys.readouterr().err.lower()
    assert not list(corpus.root.glob("FSDKaggle2018.audio_train/*"))

    server.files["FSDKaggle2018.audio_train.zip"] = audio
    server.break_after = [50_000]
    server.gets.clear()
    main(["prepare", "-c", kaggle_config])
    assert "foregrounds  train" in capsys.readouterr().out
    first, second = [request for request in server.gets if "audio_train" in request[0]]
    assert first[2] == 50_000
    assert second[1] == "bytes=50000-"


def test_what_is_missing_is_planned_before_anything_is_written(corpus, server, published):
    (plan,) = planned_downloads([corpus, SyntheticSounds(), corpus])
    assert plan.root == corpus.root
    assert {archive.name: size for archive, size in plan.sizes.items()} == {
        name: len(content) for name, content in server.files.items()
    }
    assert server.gets == []
    assert not corpus.root.exists()
    download_missing(corpus)
    assert planned_downloads([corpus]) == []
    lost = corpus.root / next(path for path in published if path.parts[0] == "FSDKaggle2018.audio_test")
    shutil.rmtree(lost.parent)
    shutil.rmtree(corpus.root / ".installed")
    (plan,) = planned_downloads([corpus])  # the tables are there and tell which archive it is in
    assert [archive.name for archive in plan.sizes] == ["FSDKaggle2018.audio_test.zip"]


def test_a_corpus_that_cannot_be_downloaded_is_missed_before_another_is(corpus, server, tmp_path):
    with pytest.raises(InputError, match=r"GISE51 root: .*nowhere"):
        planned_downloads([corpus, GISE51(str(tmp_path / "nowhere"))])
    assert server.num_heads == 0


def test_prepare_prints_what_it_downloads(kaggle_config, corpus, server, capsys):
    main(["prepare", "-c", kaggle_config])
    head, plan = capsys.readouterr().out.splitlines()[:2]
    size = sum(map(len, server.files.values()))
    assert head == f"To download, up to {size / 1e6:.1f} MB:"
    assert f" from 127.0.0.1:{server.server_address[1]} into {corpus.root}: {size / 1e6:.1f} MB, at least " in plan
    assert plan.endswith(" GB free)")
    assert corpus.missing() == []


def test_a_large_download_needs_a_yes(kaggle_config, corpus, server, monkeypatch, refusal):
    monkeypatch.setattr("tse_refine.cli.data.LARGE", 1000)
    text = refusal(main, ["prepare", "-c", kaggle_config], stdout="")
    assert f"into {corpus.root}" in text
    assert "add --yes to the command. Nothing was downloaded." in text
    assert server.gets == []
    assert not corpus.root.exists()
    main(["prepare", "-c", kaggle_config, "--yes"])
    assert corpus.missing() == []


@pytest.fixture
def esc50_published(server, esc50_root, monkeypatch):
    """The miniature ESC-50 as GitHub's archive of a commit on the server, and nothing of it on disk."""
    content = {path.relative_to(esc50_root): path.read_bytes() for path in esc50_root.rglob("*.*")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.mkdir(f"ESC-50-{esc50.COMMIT}")
        for path, data in content.items():
            archive.writestr(f"ESC-50-{esc50.COMMIT}/{path.as_posix()}", data)
        archive.comment = esc50.COMMIT.encode()
    server.files[f"{esc50.COMMIT}.zip"] = buffer.getvalue()
    server.tells_size = False
    table = (esc50_root / "meta" / "esc50.csv").read_bytes()
    monkeypatch.setattr(esc50, "TABLE_MD5", hashlib.md5(table).hexdigest())
    monkeypatch.setattr(esc50, "NUM_CLIPS", 35)
    shutil.rmtree(esc50_root)
    return content


@pytest.fixture
def esc(server, esc50_published, esc50_root):
    return ESC50(str(esc50_root), ["dog"], mirror=f"http://127.0.0.1:{server.server_address[1]}/archive")


def test_esc50_is_the_archive_of_a_commit(server, esc, esc50_published, esc50_root):
    (plan,) = planned_downloads([esc])
    assert plan.num_bytes == 600_000_000
    download_missing(esc)
    assert names(server) == [f"{esc50.COMMIT}.zip"]
    assert esc.missing() == []
    assert all((esc50_root / path).read_bytes() == data for path, data in esc50_published.items())
    assert (esc50_root / ".installed" / f"{esc50.COMMIT}.zip").read_text().startswith(esc50.COMMIT)
    download_missing(esc)
    assert len(server.gets) == 1


def test_foregrounds_and_backgrounds_of_one_archive_are_planned_once(server, esc):
    assert len(planned_downloads([esc, ESC50(str(esc.root), ["wind"], mirror=esc.mirror)])) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"COMMIT": "0" * 40}, rf"its comment is {esc50.COMMIT}; 0+ is expected"),
        ({"TABLE_MD5": "1" * 32}, r"its MD5 checksum of meta/esc50\.csv is [0-9a-f]{32}; 1+ is expected"),
        ({"NUM_CLIPS": 2000}, r"its number of files in audio/ is 35; 2000 is expected"),
    ],
)
def test_another_archive_than_the_published_one_is_rejected_and_removed(wrong, message, server, esc, monkeypatch):
    if "COMMIT" in wrong:  # the folder in it is the same, and the address
        server.files[f"{'0' * 40}.zip"] = server.files[f"{esc50.COMMIT}.zip"]
    for name, value in wrong.items():
        monkeypatch.setattr(esc50, name, value)
    for _ in range(2):  # nothing is kept that would be rejected again
        with pytest.raises(InputError, match=message):
            download_missing(esc)
    assert len(server.gets) == 2
    assert not esc.root.joinpath("meta").exists()


def test_a_damaged_archive_is_rejected_and_downloaded_again(server, esc, esc50_published):
    name = f"{esc50.COMMIT}.zip"
    whole = server.files[name]
    sound = next(data for path, data in esc50_published.items() if path.suffix == ".wav")
    damaged = bytearray(whole)
    damaged[whole.index(sound) + len(sound) // 2] ^= 1
    for wrong, message in ((bytes(damaged), r"its damaged file is .*\.wav; none"), (whole[:-100], "not a whole zip")):
        server.files[name] = wrong
        with pytest.raises(InputError, match=message):
            download_missing(esc)
        assert not esc.root.joinpath("meta").exists()
    server.files[name] = whole
    download_missing(esc)
    assert esc.missing() == []


def test_a_table_of_ones_own_is_never_replaced(server, esc, esc50_published):
    """As where the clips were converted to another format: what is missing is not published."""
    table = esc.root / "meta" / "esc50.csv"
    table.parent.mkdir(parents=True)
    text = esc50_published[table.relative_to(esc.root)].decode().replace(".wav", ".ogg")
    table.write_text(text)
    download_missing(esc)
    assert server.gets == []
    assert table.read_text() == text


def test_urbansound8k_is_one_compressed_tar_archive(server, urbansound8k_root, monkeypatch):
    content = {path.relative_to(urbansound8k_root): path.read_bytes() for path in urbansound8k_root.rglob("*.*")}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        archive.add(urbansound8k_root, "UrbanSound8K")
    server.files["UrbanSound8K.tar.gz"] = buffer.getvalue()
    monkeypatch.setattr(urbansound8k, "MD5", hashlib.md5(buffer.getvalue()).hexdigest())
    shutil.rmtree(urbansound8k_root)
    corpus = UrbanSound8K(str(urbansound8k_root), mirror=f"http://127.0.0.1:{server.server_address[1]}/files")
    (plan,) = planned_downloads([corpus])
    assert plan.num_bytes == len(buffer.getvalue())
    download_missing(corpus)
    assert corpus.missing() == []
    assert all((urbansound8k_root / path).read_bytes() == data for path, data in content.items())
    assert UrbanSound8K(str(urbansound8k_root.parent)).root == urbansound8k_root
