"""Commands that ``benchmarks/gpu.py`` runs from end to end, with what each must leave behind."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
import soundfile
import torch
from gpu_setting import Setting
from measuring import RATE, timed

from tse_refine.cli.main import main
from tse_refine.files.atomic import write_text
from tse_refine.files.tables import read_csv

_SMALL = """
trainer:
  max_epochs: 1
  devices: 1
  enable_progress_bar: false
  enable_model_summary: false
data:
  foregrounds:
    class_path: tse_refine.data.corpora.SyntheticSounds
    init_args: {train_instances: 2, val_instances: 2, test_instances: 2}
  backgrounds:
    class_path: tse_refine.data.corpora.SyntheticBackgrounds
    init_args: {train_instances: 1, val_instances: 1, test_instances: 1}
  mixture: {duration_seconds: 1.0, event_seconds: [0.5, 0.8]}
  num_workers: 0
  num_val: 4
  num_test: 4
"""


def commands(precision: str, compiled: bool, setting: Setting) -> list[dict[str, Any]]:
    """Run ``fit``, ``test`` and ``extract`` on the synthetic corpus, and return the seconds of each.

    Raises:
        RuntimeError: a command was rejected, or left no result.
    """
    folder = setting.folder / f"{precision}{'_compiled' * compiled}"
    run, config, sound, output = (folder / name for name in ("run", "small.yaml", "noise.wav", "extraction.wav"))
    write_text(config, _SMALL)
    soundfile.write(sound, 0.1 * np.random.default_rng(0).standard_normal(2 * RATE), RATE)
    gpu = setting.device != "cpu"
    options = [
        *("-c", "experiment/proposed", "-c", "model/small", "-c", str(config)),
        *("--trainer.accelerator", "gpu" if gpu else "cpu", "--trainer.precision", precision),
        *("--trainer.default_root_dir", str(run), "--data.cache_dir", str(setting.folder / "commands_cache")),
        *("--data.num_train", "64" if gpu else "16"),
        *(["--model.compile_stacks", "true"] if compiled else []),
    ]
    checkpoint = run / "checkpoints" / "best.ckpt"
    words = {
        "fit": options,
        "test": options,
        "extract": [
            *("--checkpoint", str(checkpoint), "--input", str(sound), "--output", str(output)),
            *("--query", "bell", "--threshold", "0", "--device", setting.device),
        ],
    }
    left = {"fit": checkpoint, "test": run / "test" / "summary.csv", "extract": output}
    rows = []
    for command, options_of_command in words.items():
        if compiled:
            torch.compiler.reset()  # PyTorch compiles a function for at most eight cases
        seconds = timed(lambda words=[command, *options_of_command]: _call(words), setting.device)
        if not left[command].exists():
            raise RuntimeError(f"{command} did not write {left[command].name}")
        rows.append({"command": command, "precision": precision, "compiled": compiled, "seconds": seconds})
    _check_results(left["test"], output)
    return rows


def _call(words: list[str]) -> None:
    """Run a command, and keep to itself what it prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            main(words)
    except SystemExit as stop:
        raise RuntimeError(f"{' '.join(words)}: status {stop.code}\n{printed.getvalue()[-1000:]}") from None


def _check_results(summary: Path, extraction: Path) -> None:
    """Reject a test without numbers, and an extraction that is silent or not finite."""
    if not read_csv(summary, ["snri_db"]):
        raise RuntimeError("test/summary.csv is empty")
    sound, _ = soundfile.read(extraction)
    if not (np.isfinite(sound).all() and sound.any()):
        raise RuntimeError("the extraction is silent or not finite")
