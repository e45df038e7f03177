"""The commands ``extract`` and ``classes`` from end to end."""

import dataclasses
import io
import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.fixtures.tables import rows_of
from tse_refine.cli import extract as command
from tse_refine.cli.main import main
from tse_refine.model.network import Network


@pytest.fixture
def refusal(refusal):
    """The message of a rejected command, which must print nothing else."""
    return partial(refusal, stdout="")


@pytest.fixture
def extract(checkpoint):
    def call(*words: object) -> None:
        main(["extract", "--checkpoint", str(checkpoint), "--device", "cpu", *(str(word) for word in words)])

    return call


def test_a_table_lists_classes_with_their_probabilities_and_decisions(extract, record, tmp_path, capsys):
    path = record(rate=44_100, channels=2, samples=44_100)
    extract("--input", path, "--query", "Siren", "car horn", "--output", tmp_path / "out.flac", "--residual")
    printed = capsys.readouterr()
    assert printed.out == (
        f"{path}: threshold 0.5, decided per window\n"
        "class     queried  probability  windows  decision\n"
        "siren     yes            0.600    100 %      kept\n"
        "car_horn  yes            0.200      0 %   removed\n"
        "dog       no             0.900    100 %         -\n"
        f"Written to {tmp_path}/out.flac\n"
        f"Written to {tmp_path}/out.residual.flac\n"
    )
    assert printed.err == ""
    info = soundfile.info(tmp_path / "out.flac")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 2, 44_100, "PCM_24")


def test_json_has_the_same_for_programs(extract, record, tmp_path, capsys):
    first, second = record("first.wav"), record("second.wav")
    words = ("--query", "siren,car-horn", "--threshold", "0.25", "--refine", "file", "--json", "--each")
    extract("--input", first, second, *words, "--output", tmp_path / "out")
    entries = json.loads(capsys.readouterr().out)
    assert [entry["input"] for entry in entries] == [str(first), str(second)]
    assert (entries[0]["threshold"], entries[0]["refinement"], entries[0]["scope"]) == (0.25, "0.25", "file")
    assert entries[0]["query"] == ["siren", "car_horn"]
    assert entries[0]["refined_query"] == ["siren"]
    assert [(row["class"], row["queried"], row["kept"]) for row in entries[0]["classes"]] == [
        ("siren", True, True),
        ("car_horn", True, False),
        ("dog", False, None),
    ]
    assert entries[0]["classes"][2]["probability"] == pytest.approx(0.9)
    assert entries[0]["classes"][2]["window_share"] == 1.0
    assert entries[1]["each"] == {"siren": str(tmp_path / "out" / "second.siren.wav")}
    assert entries[1]["extraction"] is entries[1]["residual"] is None
    assert Path(entries[1]["each"]["siren"]).exists()


def test_a_soft_threshold_weakens_classes_and_is_reported_by_its_name(extract, record, tmp_path, capsys):
    words = ("--query", "all", "--threshold", "soft:0.1-0.8", "--output", tmp_path / "out.wav")
    extract("--input", record(), *words)
    assert capsys.readouterr().out.splitlines()[:5] == [
        f"{tmp_path}/in.wav: threshold soft:0.1-0.8, decided per window",
        "class     queried  probability  windows  decision",
        "dog       yes            0.900    100 %      kept",
        "car_horn  yes            0.200      0 %  weakened",
        "siren     yes            0.600    100 %      kept",
    ]
    extract("--input", record(), *words, "--overwrite", "--json")
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["threshold"], entry["refinement"]) == ("soft:0.1-0.8", "soft:0.1-0.8")
    assert entry["refined_query"] == ["dog", "siren"]
    assert [row["weight"] for row in entry["classes"]] == pytest.approx([1.0, 1 / 7, 5 / 7], abs=1e-5)


@pytest.mark.parametrize("threshold", ["none", "gate"])
def test_other_refinements_are_named_too(extract, record, tmp_path, capsys, threshold):
    extract("--input", record(), "--query", "dog", "siren", "--threshold", threshold, "--output", tmp_path / "out.wav")
    first_line = capsys.readouterr().out.splitlines()[0]
    decided = {"none": "not refined", "gate": "threshold gate, decided per window"}[threshold]
    assert first_line == f"{tmp_path}/in.wav: {decided}"


def test_events_of_queried_classes_are_written_for_tables_and_for_audacity(extract, record, tmp_path, capsys):
    first, second = record("first.wav", samples=4000), record("second.wav", samples=2000)
    words = ("--query", "siren", "car_horn", "--output", tmp_path / "out")
    extract("--input", first, second, *words, "--events", tmp_path / "events.csv", "--json")
    described, siren = json.loads(capsys.readouterr().out), {"class": "siren", "probability": "0.60000"}
    assert rows_of(tmp_path / "events.csv") == [
        {"recording": str(first), "onset": "0.00000", "offset": "1.00000", **siren},
        {"recording": str(second), "onset": "0.00000", "offset": "0.50000", **siren},
    ]
    assert described[0]["events"] == [{"onset": 0.0, "offset": 1.0, "class": "siren", "probability": 0.6}]
    extract("--input", first, *words, "--events", tmp_path / "events.txt", "--overwrite")
    assert (tmp_path / "events.txt").read_text() == "0.000\t1.000\tsiren\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("events.json", "'.json'; .csv or, for Audacity, .txt is expected"),
        ("events.txt", "holds the labels of one recording, not of 2; use .csv"),
        ("there.csv", "--events: .* exists"),
    ],
)
def test_files_of_events_that_cannot_be_written_are_rejected_first(extract, record, tmp_path, refusal, name, message):
    (tmp_path / "there.csv").touch()
    inputs = ("--input", record("first.wav"), record("second.wav"))
    words = ("--query", "siren", "--output", tmp_path / "out", "--events", tmp_path / name)
    assert re.search(message, refusal(extract, *inputs, *words))
    assert not (tmp_path / "out").exists()


def test_several_processes_and_parts_do_what_one_does(extract, record, tmp_path, capsys):
    names = [f"{number}.wav" for number in range(5)]
    inputs = ["--input", *(record(f"in/{name}", samples=900) for name in names), tmp_path / "missing.wav"]
    (tmp_path / "missing.wav").write_text("no sound")
    words = [*inputs, "--query", "siren", "dog", "--json", "--output"]

    def run(folder, *more):
        with pytest.raises(SystemExit):  # for the one that is no sound
            extract(*words, tmp_path / folder, *more)
        described = json.loads(capsys.readouterr().out.replace(f"/{folder}/", "/one/"))
        return described, {path.name: soundfile.read(path)[0].tolist() for path in (tmp_path / folder).iterdir()}

    described, files = run("one")
    assert sorted(files) == names
    assert run("two", "--workers", "2") == (described, files)
    extract(*words, tmp_path / "parts", "--shard", "1/2")
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["0.wav", "2.wav", "4.wav"]
    capsys.readouterr()
    assert run("parts", "--shard", "2/2")[1] == files


def test_recordings_whose_files_exist_can_be_left_out(extract, record, tmp_path, capsys):
    words = ["--input", record("a.wav"), record("b.wav"), "--query", "dog", "--output", tmp_path / "out"]
    extract(*words, "--residual")
    written = (tmp_path / "out" / "a.wav").stat().st_mtime_ns
    (tmp_path / "out" / "b.residual.wav").unlink()
    capsys.readouterr()
    extract(*words, "--residual", "--skip-existing")
    assert capsys.readouterr().out.count("Written to") == 2  # b.wav and its residual
    assert (tmp_path / "out" / "a.wav").stat().st_mtime_ns == written
    extract(*words, "--residual", "--skip-existing")
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "0"), "argument --workers: invalid number of processes value: '0'"),
        (("--shard", "3/2"), "argument --shard: invalid part, as in 1/8 value: '3/2'"),
        (("--skip-existing", "--overwrite"), "but --overwrite replaces them"),
        (("--skip-existing", "--each"), "but --each writes no file for classes that were removed"),
        (("--skip-existing", "--events", "events.csv"), "but --events would lack theirs"),
    ],
)
def test_wrong_numbers_of_processes_and_parts_are_rejected(extract, record, tmp_path, refusal, words, message):
    message_found = refusal(extract, "--input", record(), "--query", "dog", "--output", tmp_path / "out.wav", *words)
    assert message in message_found


def test_all_but_some_are_extracted(extract, record, tmp_path, capsys):
    extract("--input", record(), "--query", "all", "--except", "dog", "--output", tmp_path / "out.wav", "--json")
    assert json.loads(capsys.readouterr().out)[0]["query"] == ["car_horn", "siren"]


def test_silence_and_scaling_are_reported(extract, record, tmp_path, capsys):
    extract("--input", record(), "--query", "car_horn", "--output", tmp_path / "out.wav")
    assert "threshold 0.5 removes car_horn, so that the extraction is silent" in capsys.readouterr().err
    extract("--input", record("b.wav"), "--query", "car_horn", "--output", tmp_path / "out.wav", "--each")
    assert "threshold 0.5 removes car_horn, so that no file is written for them" in capsys.readouterr().err
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, np.full(4000, 100.0, np.float32), 4000, "FLOAT")
    extract("--input", loud, "--query", "dog", "--output", tmp_path / "out.flac")
    assert "would be clipped and were scaled by -" in capsys.readouterr().err
    extract("--input", loud, "--query", "dog", "siren", "--each", "--residual", "--output", tmp_path / "each.flac")
    assert capsys.readouterr().err.count("scaled by") == 1


@pytest.mark.parametrize("scope", ["window", "file"])
def test_the_progress_bar_ends_at_a_hundred_percent(extract, record, tmp_path, monkeypatch, scope):
    bars = []

    class Bar(command.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr(command, "tqdm", Bar)
    inputs = (record("a.wav", rate=8000, samples=40_000), record("b.wav", samples=3001))
    extract("--input", *inputs, "--query", "dog", "--output", tmp_path / "out", "--refine", scope)
    (bar,) = bars
    assert bar.n == pytest.approx(bar.total)
    assert "100%" in bar.fp.getvalue()


def test_a_network_without_a_classifier_is_reported(extract, record, checkpoint, trained, tmp_path, capsys):
    network = Network(3, 4000, dataclasses.replace(trained.network.config, classifier=None))
    dataclasses.replace(trained, network=network, recommended_threshold=None).save(checkpoint)
    extract("--input", record(), "--query", "dog", "--output", tmp_path / "out.wav", "--threshold", "0.9")
    printed = capsys.readouterr()
    assert "no classifier" in printed.err
    assert printed.err.count("\n") == 1
    assert "not refined" in printed.out
    assert "dog       yes                -        -      kept" in printed.out
    assert soundfile.read(tmp_path / "out.wav")[0].any()


def test_of_several_files_the_good_ones_are_extracted(extract, record, tmp_path, capsys):
    good, bad, last = record("good.wav"), tmp_path / "bad.wav", record("last.wav")
    bad.write_text("no sound")
    with pytest.raises(SystemExit) as stop:
        extract("--input", good, bad, last, "--query", "dog", "--output", tmp_path / "out", "--json")
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "bad.wav cannot be read as sound" in printed.err
    entries = json.loads(printed.out)
    assert "cannot be read" in entries[1]["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["good.wav", "last.wav"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--query", "dgo"], "did you mean 'dog'"),
        (["--query", ""], "query is empty"),
        (["--query", "dog", "--except", "dog"], "leaves nothing"),
        (["--query", "dog", "--threshold", "1.5"], "threshold is 1.5; a number from 0 to 1 is expected"),
        (["--query", "dog", "--threshold", "nan"], "threshold: 'nan' is not a valid refinement"),
        (["--query", "dog", "--threshold", "low"], "threshold: 'low' is not a valid refinement; expected are"),
        (["--query", "dog", "--threshold", "soft:0.6-0.2"], "two numbers from 0 to 1, the lower one first"),
        (["--query", "dog", "--threshold", "oracle"], "'oracle' needs the true activity"),
        (["--query", "dog", "--refine", "clip"], "--refine"),
        (["--query", "dog", "--device", "abacus"], "device 'abacus'"),
        (["--query", "dog", "--format", "falc"], "did you mean 'flac'"),
        (["--query", "dog", "--ouput", "x"], "--ouput"),
        (["--query"], "--query"),
    ],
)
def test_bad_options_are_rejected(extract, record, tmp_path, refusal, words, message):
    output = tmp_path / "new" / "out.wav"
    assert message in refusal(extract, "--input", record(), "--output", output, *words)
    assert not output.parent.exists()


@pytest.mark.parametrize("content", [None, b"", b"RIFF", b"PK\x03\x04 half a checkpoint"])
def test_a_bad_checkpoint_is_rejected(record, tmp_path, refusal, content):
    path = tmp_path / "bad.ckpt"
    if content is not None:
        path.write_bytes(content)
    words = ("--input", str(record()), "--query", "dog", "--output", str(tmp_path / "out.wav"))
    assert "bad.ckpt" in refusal(main, ["extract", "--checkpoint", str(path), *words])
    assert "bad.ckpt" in refusal(main, ["classes", "--checkpoint", str(path)])
    assert not (tmp_path / "out.wav").exists()


def test_a_checkpoint_of_another_program_is_rejected(record, tmp_path, refusal):
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "other.ckpt")
    words = ("--input", str(record()), "--query", "dog", "--output", str(tmp_path / "out.wav"))
    text = refusal(main, ["extract", "--checkpoint", str(tmp_path / "other.ckpt"), *words])
    assert "was not written by tse-refine" in text


def test_hostile_names_are_read_written_and_printed_in_one_line(extract, record, tmp_path, capsys, refusal):
    for name in ("two\nlines.wav", "\udcff.wav", "\x1b[31m.wav", "-x.wav"):
        path = record().rename(tmp_path / name)
        extract("--input", path, "--query", "dog", "--output", tmp_path / "out")
        assert soundfile.info(os.fsencode(tmp_path / "out" / name)).frames == 1500
        printed = capsys.readouterr()
        assert printed.out.count("\n") == 7
        assert "\x1b" not in printed.out
        text = refusal(extract, "--input", path, "--query", "dog", "--output", tmp_path / "out")
        assert "--overwrite" in text
        path.write_text("no sound")
        with pytest.raises(SystemExit):
            extract("--input", path, "--query", "dog", "--output", tmp_path / "out", "--overwrite")
        assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_reported(extract, record, tmp_path, refusal):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "out.wav"
    assert "cannot be written" in refusal(extract, "--input", record(), "--query", "dog", "--output", output)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "out", "--threshold", "7"], "threshold is 7; a number from 0 to 1 is expected"),
        (["--output", "text.wav/x"], "cannot be written because text.wav is not a folder"),
    ],
)
def test_wrong_options_are_reported_once_for_all_recordings(
    extract, record, tmp_path, refusal, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.wav").write_text("")
    assert message in refusal(extract, "--input", record("a.wav"), record("b.wav"), "--query", "dog", *words)
    assert not (tmp_path / "out").exists()


def test_extracting_imports_no_lightning(checkpoint, record, tmp_path):
    program = f"""
import sys
from tse_refine import Extractor
from tse_refine.cli.main import main
from tse_refine.model.network import Network
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


def test_precision_and_compilation_reach_the_network(extract, record, tmp_path, monkeypatch, capsys):
    path, query = record(), ("--query", "dog", "--threshold", "0")
    for precision in ("32-true", "bf16-mixed"):
        extract("--input", path, *query, "--output", tmp_path / f"{precision}.wav", "--precision", precision)
    exact, rounded = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("32-true", "bf16-mixed"))
    assert np.allclose(exact, rounded, atol=0.02)
    assert not np.array_equal(exact, rounded)
    monkeypatch.setenv("CXX", "no-such-compiler")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        extract("--input", path, *query, "--output", tmp_path / "out.wav", "--compile")
    assert "Compilation needs a C++ compiler" in capsys.readouterr().err
