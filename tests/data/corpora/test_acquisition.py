import hashlib
import io
import json
import shutil
import zipfile

import pytest
import yaml

from tse_refine.cli.main import main
from tse_refine.data.corpora import FSDKaggle2018, SyntheticSounds, fsdkaggle2018
from tse_refine.data.corpora.acquisition import complete
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


def test_tables_come_first_then_what_they_list(corpus, server, published):
    complete(corpus, show_progress=False)
    assert names(server)[0] == "FSDKaggle2018.meta.zip"
    assert sorted(names(server)) == [f"FSDKaggle2018.{part}.zip" for part in ("audio_test", "audio_train", "meta")]
    assert corpus.missing() == []
    assert all((corpus.root / path).read_bytes() == data for path, data in published.items())
    complete(corpus, show_progress=False)
    assert len(server.gets) == 3


def test_only_what_is_missing_is_fetched(corpus, server, published):
    for path, data in published.items():
        if path.parts[0] != "FSDKaggle2018.audio_test":
            (corpus.root / path).parent.mkdir(parents=True, exist_ok=True)
            (corpus.root / path).write_bytes(data)
    complete(corpus, show_progress=False)
    assert names(server) == ["FSDKaggle2018.audio_test.zip"]


def test_what_no_archive_brings_is_named(corpus, server):
    complete(corpus, show_progress=False)
    lost = next((corpus.root / "FSDKaggle2018.audio_train").iterdir())
    lost.unlink()
    with pytest.raises(InputError, match=rf"{lost.name} .*still missing .*\.installed"):
        complete(corpus, show_progress=False)
    shutil.rmtree(corpus.root / ".installed")
    complete(corpus, show_progress=False)
    assert lost.exists()


def test_a_corpus_without_archives_is_left_alone(server):
    complete(SyntheticSounds())
    assert server.gets == []


def test_prepare_downloads_resumes_verifies_and_others_never_download(
    corpus, server, tau2019_root, tiny_config_file, tmp_path, capsys
):
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

    with pytest.raises(SystemExit):
        main(["fit", "-c", str(path)])
    assert "`tse-refine prepare`" in capsys.readouterr().err
    assert server.gets == []

    audio = server.files["FSDKaggle2018.audio_train.zip"]
    server.files["FSDKaggle2018.audio_train.zip"] = audio[:-100] + bytes(100)
    with pytest.raises(SystemExit) as stop:
        main(["prepare", "-c", str(path)])
    assert stop.value.code == 2
    assert "md5" in capsys.readouterr().err.lower()
    assert not list(corpus.root.glob("FSDKaggle2018.audio_train/*"))

    server.files["FSDKaggle2018.audio_train.zip"] = audio
    server.break_after = [50_000]
    server.gets.clear()
    main(["prepare", "-c", str(path)])
    assert "foregrounds  train" in capsys.readouterr().out
    first, second = [asked for asked in server.gets if "audio_train" in asked[0]]
    assert first[2] == 50_000
    assert second[1] == "bytes=50000-"
