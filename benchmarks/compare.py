r"""The three systems of the paper on one budget: baseline 1, baseline 2 and proposed, several seeds, then the report.

On the synthetic corpus each training takes about five minutes on two CPU cores. What is finished is not done again::

    python benchmarks/compare.py --output runs/compare --seeds 0 1

Other data and budgets come as further configs and options, given to every training after ``--``::

    python benchmarks/compare.py --output runs/compare_esc10 --seeds 0 -- -c configs/data/esc50.yaml \
        -c configs/esc10_cpu.yaml --data.foregrounds.init_args.root ROOT --data.backgrounds.init_args.root ROOT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tse_refine.cli.main import main as tse_refine
from tse_refine.evaluation.run_folder import RunFolder

EXPERIMENTS = ("baseline1", "baseline2", "proposed")
CONFIGS = Path(__file__).parent.parent / "configs"
DEMO = ["-c", str(CONFIGS / "data" / "embedded.yaml"), "-c", str(CONFIGS / "demo.yaml")]


def train_and_test(run: Path, options: list[str]) -> None:
    """Train and test one run, unless that has been done; an interrupted training goes on."""
    folder = RunFolder(run)
    options = [*options, "--trainer.default_root_dir", str(run)]
    if not (folder.path / "trained").exists():
        last = folder.checkpoints / "last.ckpt"
        resume = ["--ckpt_path", str(last)] if last.exists() else ["--overwrite"]
        tse_refine(["fit", *options, *resume])
        (folder.path / "trained").touch()
    if not (folder.test / "results.csv").exists():
        tse_refine(["test", *options])


def main() -> None:
    """Run what is missing, then draw the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs and the report")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    options, budget = parser.parse_args(words[:end]), words[end + 1 :] or DEMO
    runs = []
    for seed in options.seeds:
        for experiment in EXPERIMENTS:
            run = options.output / f"{experiment}-seed{seed}"
            stack = ["-c", str(CONFIGS / f"{experiment}.yaml"), "-c", str(CONFIGS / "model" / "small.yaml"), *budget]
            train_and_test(run, [*stack, "--seed_everything", str(seed)])
            runs.append(str(run))
    tse_refine(["report", *runs, "--output", str(options.output / "report")])


if __name__ == "__main__":
    main()
