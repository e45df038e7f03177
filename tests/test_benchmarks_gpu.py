"""The run of all GPU measurements, on the CPU at tiny sizes."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
PARTS = [
    "limits",
    "agreement",
    "commands_32-true",
    "commands_bf16-mixed",
    "steps_small",
    "largest_batch_small",
    "loader",
    "evaluation",
    "compiled_training_bfloat16",
    "commands_compiled",
    "compiled_training_float32",
    "compiled_inference_float32",
    "compiled_inference_bfloat16",
]


def run(output: Path) -> str:
    """Run the benchmark on the CPU, compiling nothing, and return what it prints."""
    options = ["--device", "cpu", "--tiny", "--repeats", "1", "--threads", "1", "--output", str(output)]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", *options],
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # a run sets it; restored after the test
    import gpu

    return gpu


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The file of a whole run, and what the run printed."""
    output = tmp_path_factory.mktemp("gpu") / "results" / "gpu.json"
    printed = run(output)
    return json.loads(output.read_text()), printed


@pytest.mark.long
def test_every_part_is_measured(measured):
    record, printed = measured
    assert list(record["parts"]) == PARTS
    for name, outcome in record["parts"].items():
        assert outcome["state"] == "done", name
        assert outcome["figures"], name
        assert name in printed


@pytest.mark.long
def test_tables_show_what_the_file_says(measured, module):
    record, printed = measured
    text = module.report_text(record)
    assert text in printed
    steps = record["parts"]["steps_small"]["figures"]
    peer, ours = (
        next(
            row["ms"]
            for row in steps
            if (row["work"], row["network"], row["precision"]) == ("training step", network, "float32")
        )
        for network in ("torchaudio", "tse_refine")
    )
    assert f"| `small` | training step | {peer:.1f} | {ours:.1f} ({peer / ours:.2f}) |" in text


@pytest.mark.long
def test_the_same_device_agrees_exactly_in_float32(measured):
    rows = {row["mode"]: row for row in measured[0]["parts"]["agreement"]["figures"]}
    for name in ("estimate", "probability", "gradient"):
        assert rows["float32 without TF32"][name] < 1e-5
        assert 1e-5 < rows["bfloat16"][name] < 0.2


@pytest.mark.long
def test_hours_follow_from_the_measured_steps(measured):
    record, _ = measured
    step = next(
        row["ms"]
        for row in record["parts"]["steps_small"]["figures"]
        if (row["work"], row["network"], row["precision"]) == ("training step", "tse_refine", "bfloat16")
    )
    hours = {row["mode"]: row["hours"] for row in record["hours"]["training"]}
    # 100 epochs of 50,000 mixtures in batches of 2: 2,500,000 steps, each of so many milliseconds
    assert hours["bfloat16"] == pytest.approx(2_500_000 * step / 3_600_000)
    loop = record["parts"]["loader"]["figures"][0]
    assert hours["float32, loop with 2 workers"] == pytest.approx(2_500_000 * loop["step_seconds"] / 3600)
    evaluated = record["parts"]["evaluation"]["figures"][0]["seconds_per_mixture"]
    assert record["hours"]["test"][0]["hours"] == pytest.approx(10_000 * evaluated / 3600)


def test_an_exhausted_budget_leaves_a_file_that_lists_what_was_skipped(module, tmp_path, monkeypatch, capsys):
    output = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--tiny", "--budget", "0", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    module.main()
    printed = capsys.readouterr().out
    record = json.loads(output.read_text())
    assert {name: outcome["state"] for name, outcome in record["parts"].items()} == dict.fromkeys(PARTS, "skipped")
    assert record["hours"] == {"training": [], "test": []}
    assert all(f"- {name}: skipped, 0 s of the budget were left" in printed for name in PARTS)


def test_a_part_beyond_the_budget_is_cut_off_and_a_failed_one_listed(module, tmp_path, capfd):
    setting = module.Setting("cpu", module.TINY, 1, tmp_path)
    slow = module.run_part(module.Part("slow", 1.0, lambda _: time.sleep(60)), setting, module.Budget(0.3))
    assert (slow["state"], slow["reason"]) == ("cut off", "the budget of 0 s ended")
    assert slow["seconds"] < 10
    failed = module.run_part(module.Part("failed", 1.0, lambda _: 1 / 0), setting, module.Budget(60.0))
    assert (failed["state"], failed["reason"]) == ("failed", "ZeroDivisionError: division by zero")
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.long
def test_chosen_parts_keep_the_others_of_the_same_machine(measured, module, tmp_path, monkeypatch):
    output = tmp_path / "gpu.json"
    output.write_text(json.dumps(measured[0]))
    words = ["--device", "cpu", "--tiny", "--budget", "0", "--parts", "loader", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *words])
    module.main()
    assert json.loads(output.read_text())["parts"] == measured[0]["parts"]
    monkeypatch.setattr(module, "machine", lambda device: "another")
    module.main()
    assert list(json.loads(output.read_text())["parts"]) == ["loader"]


@pytest.mark.parametrize(("most", "limit", "expected"), [(100, 512, 96), (5, 512, 5), (0, 512, 0), (512, 64, 64)])
def test_the_largest_batch_is_found_to_an_eighth(module, most, limit, expected):
    import gpu_parts

    batch, reason = gpu_parts.largest(lambda batch: "memory" if batch > most else "", 8, limit)
    assert batch == expected
    assert reason == ("" if most > limit else "memory")


@pytest.mark.long
def test_a_training_of_some_minutes_is_measured_trained_tested_and_kept(tiny_config_file, tmp_path):
    words = ["--device", "cpu", "--model", str(tiny_config_file), "--data", "", "--options", "--data.num_val 4"]
    words += ["--minutes", "0.02", "--batch-size", "4", "--trial-steps", "6", "--output", str(tmp_path / "out")]

    def train() -> str:
        done = subprocess.run(
            [sys.executable, BENCHMARKS / "gpu_train.py", *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    steps = int(re.search(r"s per step: (\d+) steps", train())[1])
    run = tmp_path / "out" / "run"
    assert json.loads((run / "trained.json").read_text())["steps"] == steps
    assert (run / "test" / "summary.csv").exists()
    written = (run / "checkpoints" / "last.ckpt").stat().st_mtime
    assert f"{steps} steps" in train()
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime == written
