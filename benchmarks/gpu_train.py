"""Train the published network on a GPU for as many minutes as there are, and test it.

::

    python benchmarks/gpu_train.py --minutes 8 --data "-c data/manifest --data.sample_rate 16000"  # or `make gpu-train`
    python benchmarks/gpu_train.py --device cpu --model model/small --minutes 0.2 --batch-size 4    # a rehearsal

The learning rate falls to 0 at the last step, so that the number of steps must be known beforehand: a short trial
measures a step, compilation left out, and its compiled code is found again by the training. A checkpoint is written
every minute. Started again with the same ``--output``, what is done is kept and a training that was cut off is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from lightning import Callback

from tse_refine.evaluation.run_folder import RunFolder
from tse_refine.files.atomic import write_text

ROOT = Path(__file__).parent.parent
DATA = "-c data/synthetic"
_RESERVE = 0.9  # of the minutes goes into steps, the rest into validations


class StepClock(Callback):
    """Writes the median seconds of a training step, the first half left out, into ``step.json`` in the run's folder."""

    def on_train_start(self, *_: Any) -> None:
        """Start."""
        self.times = [perf_counter()]

    def on_train_batch_end(self, *_: Any) -> None:
        """Note a step's end."""
        self.times.append(perf_counter())

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """Write the median."""
        seconds = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        write_text(Path(trainer.default_root_dir) / "step.json", json.dumps(median(seconds[len(seconds) // 2 :])))


def main() -> None:
    """Measure a step, train and test."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=8.0, help="length of the training, validations included")
    made.add_argument("--data", default=DATA, help="options of the data")
    made.add_argument("--experiment", default="experiment/proposed_mel")
    made.add_argument("--model", default="model/paper")
    made.add_argument("--batch-size", type=int, default=32)
    made.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    made.add_argument("--trial-steps", type=int, default=60, help="steps of which the second half is measured")
    made.add_argument("--validations", type=int, default=4, help="number of validations")
    made.add_argument("--options", default="", help="further options of training and test")
    made.add_argument("--output", type=Path, default=Path("runs/gpu_train"))
    options = made.parse_args()
    words = ["-c", options.experiment, "-c", options.model, *shlex.split(options.data), *shlex.split(options.options)]
    words += [f"--data.batch_size={options.batch_size}", f"--trainer.accelerator={options.device}"]
    if options.device == "gpu":
        words += ["--trainer.precision=bf16-mixed", "--model.compile_stacks=true"]
    trial, run = RunFolder(options.output / "trial"), RunFolder(options.output / "run")
    if not (trial.path / "step.json").exists():
        length = [f"--trainer.max_steps={options.trial_steps}", "--trainer.limit_val_batches=1"]
        clock = f"--trainer.callbacks+={Path(__file__).stem}.StepClock"
        _run(["fit", *words, *length, clock, "--overwrite", f"--trainer.default_root_dir={trial.path}"])
    seconds = json.loads((trial.path / "step.json").read_text(encoding="utf-8"))
    steps = max(options.validations, int(60 * _RESERVE * options.minutes / seconds))
    print(f"{seconds:.3f} s per step: {steps} steps in {options.minutes:g} minutes", flush=True)
    place = f"--trainer.default_root_dir={run.path}"
    epoch = steps // options.validations * options.batch_size
    last = run.checkpoints / "last.ckpt"
    length = ["--trainer.max_epochs=-1", f"--trainer.max_steps={steps}", f"--data.num_train={epoch}"]
    length.append("--checkpoint.train_time_interval=00:01:00")
    if not run.trained.exists():
        _run(["fit", *words, *length, place, f"--ckpt_path={last}" if last.exists() else "--overwrite"])
    _run(["test", *words, *length, place])


def _run(words: list[str]) -> None:
    """Run a command of the package, in which this file can be imported."""
    paths = [str(Path(__file__).parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if subprocess.run([sys.executable, "-m", "tse_refine", *words], env=environment, check=False).returncode:
        raise SystemExit(f"tse-refine {words[0]} failed; start this again to go on from what is done.")


if __name__ == "__main__":
    main()
