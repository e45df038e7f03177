"""Fine-tuning beside training from scratch: ten classes of the synthetic corpus, then two more of which clips are few.

::

    python benchmarks/fine_tuning.py

A network is trained on ten classes. Then ``model.init_from`` starts trainings on all twelve from it, and others of as
many steps on the same mixtures start from scratch. Both are tested on the same mixtures, of other clips. SNRi is that
of the raw query at (1:0), where the query is one class: one of the new ones, or any. Differences are paired, with 95 %
intervals over mixtures and seeds.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

import checkout  # noqa: F401
import numpy as np
import torch
import yaml
from measuring import machine, parser, report

from tse_refine.analysis.comparison_tables import interval_text
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.cli.main import main as command
from tse_refine.data.corpora import SyntheticSounds
from tse_refine.data.corpora.base import Clip
from tse_refine.evaluation.conditions import MATCHED
from tse_refine.evaluation.metrics import SNRI
from tse_refine.evaluation.statistics import paired_difference
from tse_refine.files.tables import Table
from tse_refine.refinement import NoRefinement

NEW = ("bell", "dog")  # one that is easy to learn, and one that is not
BATCH = 8
INSTANCES = ("train_instances", "val_instances", "test_instances")
STACK = ("experiment/proposed", "model/small", "data/synthetic", "budget/demo")


class UnevenSounds(SyntheticSounds):
    """The synthetic corpus with fewer training clips of the new classes.

    Args:
        new_clips: training clips of each new class; 0 leaves these classes out.
        train_instances: training clips of each other class.
        val_instances: validation clips of each class.
        test_instances: test clips of each class.
    """

    def __init__(self, new_clips: int, train_instances: int, val_instances: int, test_instances: int) -> None:
        super().__init__(train_instances, val_instances, test_instances)
        self.new_clips = new_clips

    def clips(self) -> list[Clip]:
        """Return the clips of the synthetic corpus that are left."""
        return [clip for clip in super().clips() if clip.label not in NEW or self._is_left(clip)]

    def _is_left(self, clip: Clip) -> bool:
        number = int(clip.name.rsplit("/", 1)[1])
        return number < self.new_clips or (clip.split != "train" and self.new_clips > 0)


def main() -> None:
    """Train, test and print a table."""
    made = parser(__doc__, repeats=None)
    made.add_argument("--first-steps", type=int, default=160, help="steps on ten classes")
    made.add_argument("--steps", type=int, nargs="+", default=[60], help="steps on twelve classes")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="seeds of the trainings on twelve classes")
    made.add_argument("--clips", type=int, default=30, help="training clips of each of the ten classes")
    made.add_argument("--new-clips", type=int, default=5, help="training clips of each new class")
    made.add_argument("--mixtures", type=int, default=120, help="of the test")
    options = made.parse_args()
    torch.set_num_threads(options.threads)
    with TemporaryDirectory() as folder:
        report(measure(Path(folder), options), options)


def measure(folder: Path, options: Namespace) -> Table:
    """Return the scores of every training."""
    first = train(folder / "first", options, options.first_steps, new_clips=0)
    rows = []
    for steps in options.steps:
        scores = {}
        for start, words in (("scratch", []), ("ten classes", [f"--model.init_from={first}"])):
            runs = []
            for seed in options.seeds:
                run = folder / f"{start}-{steps}-{seed}"
                train(run, options, steps, options.new_clips, f"--seed_everything={seed}", *words)
                command(["test", "-c", str(run / "config.yaml")])
                runs.append(TestedRun(run))
            scores[start] = matched_snri(runs)
            new = scores[start][:, is_new(runs[0])].mean()
            mean_precision = np.mean([run.classifier.mean_average_precision for run in runs if run.classifier])
            rows.append((f"{steps}", start, f"{new:.2f}", f"{scores[start].mean():.2f}", f"{mean_precision:.2f}"))
        found = [
            paired_difference(scores["ten classes"][:, which, None], scores["scratch"][:, which, None])
            for which in (is_new(runs[0]), slice(None))
        ]
        rows.append((f"{steps}", "difference", *(interval_text(interval, "+") for interval in found), ""))
    head = ("steps", "start", "SNRi of new classes (dB)", "of all (dB)", "mAP")
    note = (
        f"{machine()}; {options.first_steps} steps on ten classes with {options.clips} clips each, then two more with "
        f"{options.new_clips} each; {len(options.seeds)} seeds, {options.mixtures} test mixtures."
    )
    return Table(head, rows, note, num_left=2)


def train(folder: Path, options: Namespace, steps: int, new_clips: int, *words: str) -> Path:
    """Train for some steps, and return the checkpoint."""
    sounds = dict(zip(INSTANCES, (options.clips, max(1, options.clips // 4), max(1, options.clips // 2)), strict=True))
    noises = dict(zip(INSTANCES, (min(number, options.clips) for number in (20, 5, 8)), strict=True))
    changes = {
        "plugins": ["fine_tuning"],
        "trainer": {
            "default_root_dir": str(folder),
            "max_epochs": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "data": {
            "foregrounds": {
                "class_path": "fine_tuning.UnevenSounds",
                "init_args": {"new_clips": new_clips, **sounds},
            },
            "backgrounds": {"class_path": "tse_refine.data.corpora.SyntheticBackgrounds", "init_args": noises},
            "num_train": BATCH * steps,
            "num_val": min(60, options.mixtures),
            "num_test": options.mixtures,
            "num_workers": 0,
            "cache_dir": str(folder.parent / "cache"),
        },
        "evaluation": {"conditions": [[1, 0]], "thresholds": ["none", 0.3]},
    }
    folder.mkdir()
    config = folder / "changes.yaml"
    config.write_text(yaml.safe_dump(changes))
    command(["fit", *(word for name in (*STACK, str(config)) for word in ("-c", name)), *words])
    return folder / "checkpoints" / "best.ckpt"


def matched_snri(runs: list[TestedRun]) -> np.ndarray:
    """Return SNRi of the raw query at (1:0), ``[runs, mixtures]``."""
    return np.stack([run.grid.cell(SNRI, MATCHED, NoRefinement()) for run in runs])


def is_new(run: TestedRun) -> np.ndarray:
    """Return which mixtures have a new class as the query at (1:0), ``[mixtures]``."""
    return np.isin(run.grid.query_active[:, run.grid.conditions.index(MATCHED)], NEW)


if __name__ == "__main__":
    main()
