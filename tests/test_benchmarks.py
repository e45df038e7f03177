"""The benchmarks still run, at their smallest sizes; what they measure is not judged here."""

import importlib
import json
import sys

import pytest
import torch

from tse_refine.cli.main import main
from tse_refine.evaluation.callback import TEST_THRESHOLDS
from tse_refine.files.tables import Table


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a benchmark with options, and return what it wrote with ``--output``."""
    monkeypatch.syspath_prepend("benchmarks")

    def run(name, *options):
        output = tmp_path / f"{name}.json"
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options, "--output", str(output)])
        importlib.import_module(name).main()
        return json.loads(output.read_text())

    return run


@pytest.fixture
def small_limits(run, monkeypatch):
    """Take the machine's limits for known: they are seconds of large matrices."""
    limits = {"float32": 100.0, "bfloat16": 200.0, "copy": 10.0}
    for name in ("training_step", "extraction"):
        monkeypatch.setattr(importlib.import_module(name), "machine_limits", lambda *_: limits)


@pytest.mark.usefixtures("small_limits")
def test_training_step(run):
    found = run("training_step", "--model=small", "--seconds=0.2", "--repeats=1", "--threads=1")
    (table,) = found["tables"]
    networks = {(work, network) for _, work, network, *_ in table["rows"]}
    assert {
        (work, network)
        for work in ("training step", "inference")
        for network in ("torchaudio", "tse_refine", "without classifier")
    } <= networks
    assert all(row["ms"] > 0 for row in found["rows"])


@pytest.mark.usefixtures("small_limits")
def test_extraction(run, monkeypatch):
    """Each network extracts in a process of its own, which takes seconds to start."""
    monkeypatch.setattr("extraction.OURS", {"tse_refine": True})
    found = run("extraction", "--model=small", "--seconds=1", "--repeats=1", "--threads=1")
    rows = {row["network"]: row for row in found["rows"]}
    assert rows.keys() >= {"torchaudio", "tse_refine"}
    assert all(row["real_time_factor"] > 0 and row["peak_mb"] > 0 for row in rows.values())


def test_a_peer_in_the_place_of_the_network_extracts_what_it_separates(run, tmp_path):
    extraction, measuring = (importlib.import_module(name) for name in ("extraction", "measuring"))
    sizes = measuring.network_config("small")
    for name, peer in measuring.peers(sizes).items():
        network = extraction.untrained(extraction.PeerNetwork(peer, 80)).network
        mixture = torch.randn(2, 8000)
        with torch.no_grad():
            estimate = network.extract(network.features(mixture), torch.ones(2, 1))
            separated = peer(mixture).reshape(2, -1)[:, :8000]
        assert torch.equal(estimate, separated), name


def test_evaluation(run, monkeypatch):
    monkeypatch.setattr("evaluation.MODELS", ("small",))
    monkeypatch.setattr("evaluation.TEST_CONDITIONS", [[1, 1], [0, 2]])
    (row,) = run("evaluation", "--mixtures=1", "--repeats=1")["rows"]
    assert row["distinct"] <= row["cells"] == 2 * (len(TEST_THRESHOLDS) - 1)  # all but the gate
    assert row["plain"] > 0


def test_growth(run, monkeypatch, tmp_path):
    few = {"batch": (1, 2), "classes": (10, 20), "conditions": (1, 2)}
    monkeypatch.setattr("growth.AXES", few)
    found = run("growth", "--repeats=1")
    assert [(axis, value) for axis, value, _ in found["rows"]] == [(axis, value) for axis in few for value in few[axis]]
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_mixing(run):
    found = run("mixing", "--repeats=1", "--batches=1", "--instances=1")
    assert found["per_second"].keys() >= {"complete mixtures", "from files", "memory: copy", "memory: write"}
    assert all(rate > 0 for rate in found["per_second"].values())


@pytest.mark.long
def test_many_recordings(run):
    found = run("many_recordings", "--recordings=4", "--threads=1")
    (one, thread, workers, *others) = found["rows"]
    assert one[2] == thread[2] == workers[2] == 0  # all with one thread
    assert len(others) == 3
    assert all(seconds > 0 for _, seconds, _ in found["rows"])


def test_startup(run, monkeypatch):
    startup = importlib.import_module("startup")
    few = {
        name: words for name, words in startup.PROGRAMS.items() if name.startswith("tse-refine") and "fit" not in name
    }
    few[startup.TORCH] = ("-c", "")  # torch takes seconds
    monkeypatch.setattr(startup, "PROGRAMS", few)
    found = run("startup", "--repeats=1")
    assert found["seconds"].keys() == few.keys()


def test_the_page_of_all_tables_has_each_with_its_command(run, tmp_path):
    measuring, summary = (importlib.import_module(name) for name in ("measuring", "summary"))
    options = measuring.parser(None).parse_args(["--output", str(tmp_path / "steps.json")])
    tables = [Table(("a",), [("1",)], "of one"), Table(("b",), [("2",)])]
    measuring.report(tables, options)
    section = summary.section(tmp_path / "steps.json")
    assert section.startswith("\n## steps\n\n    python ")
    assert section.endswith("\n".join(table.markdown() for table in tables))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_endurance(run, tiny_config_file, tmp_path):
    words = ("--minutes=0.05", "--every=0.5", "--threads=1", f"--training=-c {tiny_config_file} --data.num_workers=1")
    found = run("endurance", *words)
    assert [row[0] for row in found["tables"][0]["rows"]] == ["memory (MiB)", "open files", "steps per minute"]
    assert all(sample["memory_mib"] > 50 and sample["files"] > 3 for sample in found["samples"])
    assert (tmp_path / "endurance.png").exists()


def test_fine_tuning(run):
    few = ("--first-steps=1", "--steps=1", "--seeds=0", "--clips=1", "--new-clips=1", "--mixtures=12", "--threads=1")
    (table,) = run("fine_tuning", *few)["tables"]
    assert [row[:2] for row in table["rows"]] == [["1", "scratch"], ["1", "ten classes"], ["1", "difference"]]
    assert all(float(cell) for row in table["rows"][:2] for cell in row[2:])


def test_robustness(run, tiny_config_file, tmp_path):
    main(["fit", "-c", str(tiny_config_file)])
    found = run("robustness", str(tmp_path / "run"), "--mixtures", "6", "--threads", "1")
    rows = {row[0]: row[1:] for row in found["tables"][0]["rows"]}
    tested = rows.pop("as tested")
    assert all(float(cell) < 30 for cell in tested[:6])
    assert all(cells[0] not in ("–", tested[0]) for name, cells in rows.items() if name != "background alone")
    assert rows["background alone"][:6] == ["–"] * 6
