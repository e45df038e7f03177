import hashlib
import io
import json
import shutil
import zipfile

import pytest
import yaml

from tse_refine.cli.main import main
from tse_refine.data.corpora import FSDKaggle2018, SyntheticSounds, fsdkaggle2018
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
