"""The commands from end to end."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tse_refine.cli import extract as command
from tse_refine.cli.main import main


@pytest.fixture
def extract(checkpoint):
    def call(*words: object) -> None:
        main(["extract", "--checkpoint", str(checkpoint), "--device", "cpu", *(str(word) for word in words)])

    return call


def refusal(capsys: pytest.CaptureFixture, call, *words: object) -> str:
    """Return what a refused command says: one line on stderr, with status 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        call(*words)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("tse-refine: ")
    assert said.err.count("\n") == 1
    return said.err


def test_classes_are_listed_and_nothing_else(checkpoint, capsys):
    main(["classes", "--checkpoint", str(checkpoint)])
    assert capsys.readouterr() == ("dog\ncar_horn\nsiren\n", "")


def test_a_table_says_what_was_asked_believed_and_kept(extract, record, tmp_path, capsys):
    path = record(rate=44_100, channels=2, samples=44_100)
    extract("--input", path, "--query", "Siren", "car horn", "--output", tmp_path / "out.flac", "--residual")
    said = capsys.readouterr()
    assert said.out == (
        f"{path}: threshold 0.5, decided for each window\n"
        "class     asked  probability  windows  decision\n"
        "siren     yes          0.600    100 %      kept\n"
        "car_horn  yes          0.200      0 %   removed\n"
        "dog       no           0.900    100 %         -\n"
        f"Written to {tmp_path}/out.flac\n"
        f"Written to {tmp_path}/out.residual.flac\n"
    )
    assert said.err == ""
    info = soundfile.info(tmp_path / "out.flac")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 2, 44_100, "PCM_24")


def test_json_says_the_same_to_programs(extract, record, tmp_path, capsys):
    one, other = record("one.wav"), record("other.wav")
    words = ("--query", "siren,car-horn", "--threshold", "0.25", "--refine", "file", "--json", "--each")
    extract("--input", one, other, *words, "--output", tmp_path / "out")
    found = json.loads(capsys.readouterr().out)
    assert [entry["input"] for entry in found] == [str(one), str(other)]
    assert found[0]["threshold"] == 0.25
    assert found[0]["refinement"] == "file"
    assert found[0]["query"] == ["siren", "car_horn"]
    assert found[0]["refined_query"] == ["siren"]
    assert [(row["class"], row["asked"], row["kept"]) for row in found[0]["classes"]] == [
        ("siren", True, True),
        ("car_horn", True, False),
        ("dog", False, None),
    ]
    assert found[0]["classes"][2]["probability"] == pytest.approx(0.9)
    assert found[0]["classes"][2]["window_share"] == 1.0
    assert found[1]["each"] == {"siren": str(tmp_path / "out" / "other.siren.wav")}
    assert found[1]["extraction"] is found[1]["residual"] is None
    assert Path(found[1]["each"]["siren"]).exists()


def test_all_but_some_are_extracted(extract, record, tmp_path, capsys):
    extract("--input", record(), "--query", "all", "--except", "dog", "--output", tmp_path / "out.wav", "--json")
    assert json.loads(capsys.readouterr().out)[0]["query"] == ["car_horn", "siren"]


def test_silence_and_scaling_are_said(extract, record, tmp_path, capsys):
    extract("--input", record(), "--query", "car_horn", "--output", tmp_path / "out.wav")
    assert "no probability of car_horn reaches 0.5, so that the extraction is silent" in capsys.readouterr().err
    extract("--input", record("b.wav"), "--query", "car_horn", "--output", tmp_path / "out.wav", "--each")
    assert "nothing is written of them" in capsys.readouterr().err
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(4000, 100.0, np.float32), 4000, "FLOAT")
    extract("--input", loud, "--query", "dog", "--output", tmp_path / "out.flac")
    assert "would have been clipped and was scaled by -" in capsys.readouterr().err
    extract("--input", loud, "--query", "dog", "siren", "--each", "--residual", "--output", tmp_path / "each.flac")
    assert capsys.readouterr().err.count("scaled by") == 1


@pytest.mark.parametrize("refinement", ["window", "file"])
def test_the_progress_bar_ends_at_a_hundred_percent(extract, record, tmp_path, monkeypatch, refinement):
    bars = []

    class Bar(command.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr(command, "tqdm", Bar)
    inputs = (record("a.wav", rate=8000, samples=40_000), record("b.wav", samples=3001))
    extract("--input", *inputs, "--query", "dog", "--output", tmp_path / "out", "--refine", refinement)
    (bar,) = bars
    assert bar.n == pytest.approx(bar.total)
    assert "100%" in bar.fp.getvalue()


def test_a_network_without_a_classifier_says_so(extract, record, checkpoint, tmp_path, capsys):
    content = torch.load(checkpoint, weights_only=True)
    content["tse_refine"]["network"]["classifier"] = None
    weights = content["state_dict"].items()
    content["state_dict"] = {name: value for name, value in weights if "classifier" not in name}
    torch.save(content, checkpoint)
    extract("--input", record(), "--query", "dog", "--output", tmp_path / "out.wav", "--threshold", "0.9")
    said = capsys.readouterr()
    assert "no classifier" in said.err
    assert said.err.count("\n") == 1
    assert "not refined" in said.out
    assert "dog       yes              -        -      kept" in said.out
    assert soundfile.read(tmp_path / "out.wav")[0].any()


def test_of_several_files_the_good_ones_are_extracted(extract, record, tmp_path, capsys):
    good, bad, last = record("good.wav"), tmp_path / "bad.wav", record("last.wav")
    bad.write_text("no sound")
    with pytest.raises(SystemExit) as stop:
        extract("--input", good, bad, last, "--query", "dog", "--output", tmp_path / "out", "--json")
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "bad.wav cannot be read as sound" in said.err
    entries = json.loads(said.out)
    assert "cannot be read" in entries[1]["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.wav", "last.wav"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--query", "dgo"], "did you mean 'dog'"),
        (["--query", ""], "query is empty"),
        (["--query", "dog", "--except", "dog"], "leaves nothing"),
        (["--query", "dog", "--threshold", "1.5"], "threshold is 1.5"),
        (["--query", "dog", "--threshold", "nan"], "threshold is nan"),
        (["--query", "dog", "--threshold", "low"], "--threshold"),
        (["--query", "dog", "--refine", "clip"], "--refine"),
        (["--query", "dog", "--device", "abacus"], "device 'abacus'"),
        (["--query", "dog", "--format", "falc"], "did you mean 'flac'"),
        (["--query", "dog", "--ouput", "x"], "--ouput"),
        (["--query"], "--query"),
    ],
)
def test_bad_options_are_refused(extract, record, tmp_path, capsys, words, said):
    output = tmp_path / "new" / "out.wav"
    assert said in refusal(capsys, extract, "--input", record(), "--output", output, *words)
    assert not output.parent.exists()


@pytest.mark.parametrize("content", [None, b"", b"RIFF", b"PK\x03\x04 half a checkpoint"])
def test_a_bad_checkpoint_is_refused(record, tmp_path, capsys, content):
    path = tmp_path / "bad.ckpt"
    if content is not None:
        path.write_bytes(content)
    words = ("--input", str(record()), "--query", "dog", "--output", str(tmp_path / "out.wav"))
    assert "bad.ckpt" in refusal(capsys, main, ["extract", "--checkpoint", str(path), *words])
    assert "bad.ckpt" in refusal(capsys, main, ["classes", "--checkpoint", str(path)])
    assert not (tmp_path / "out.wav").exists()


def test_another_programs_checkpoint_is_refused(record, tmp_path, capsys):
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "other.ckpt")
    words = ("--input", str(record()), "--query", "dog", "--output", str(tmp_path / "out.wav"))
    text = refusal(capsys, main, ["extract", "--checkpoint", str(tmp_path / "other.ckpt"), *words])
    assert "was not written by tse-refine" in text


def test_hostile_names_are_read_written_and_said_in_one_line(extract, record, tmp_path, capsys):
    for name in ("two\nlines.wav", "\udcff.wav", "\x1b[31m.wav", "-x.wav"):
        path = record().rename(tmp_path / name)
        extract("--input", path, "--query", "dog", "--output", tmp_path / "out")
        assert soundfile.info(os.fsencode(tmp_path / "out" / name)).frames == 1500
        said = capsys.readouterr()
        assert said.out.count("\n") == 6
        assert "\x1b" not in said.out
        text = refusal(capsys, extract, "--input", path, "--query", "dog", "--output", tmp_path / "out")
        assert "--overwrite" in text
        path.write_text("no sound")
        with pytest.raises(SystemExit):
            extract("--input", path, "--query", "dog", "--output", tmp_path / "out", "--overwrite")
        assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said(extract, record, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "out.wav"
    assert "cannot be written" in refusal(capsys, extract, "--input", record(), "--query", "dog", "--output", output)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "out", "--threshold", "7"], "threshold is 7.0; a number from 0 to 1 is expected"),
        (["--output", "text.wav/x"], "text.wav/x/a.wav cannot be written because text.wav is not a folder"),
    ],
)
def test_wrong_options_are_said_once_however_many_recordings_there_are(
    extract, record, tmp_path, capsys, monkeypatch, words, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.wav").write_text("")
    assert said in refusal(capsys, extract, "--input", record("a.wav"), record("b.wav"), "--query", "dog", *words)
    assert not (tmp_path / "out").exists()


def test_extracting_imports_no_lightning(checkpoint, record, tmp_path):
    program = f"""
import sys
from tse_refine import Extractor
from tse_refine.cli.main import main
Extractor.load({str(checkpoint)!r})
main(["classes", "--checkpoint", {str(checkpoint)!r}])
main(["extract", "--checkpoint", {str(checkpoint)!r}, "--input", {str(record())!r}, "--query", "dog",
      "--output", {str(tmp_path / "out.wav")!r}])
print([name for name in sys.modules if name.split(".")[0] in ("lightning", "pytorch_lightning", "wandb")])
from tse_refine import *
print(ExtractionModule.__name__, "lightning" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "ExtractionModule True"]
