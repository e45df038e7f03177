"""Commands that compare runs: ``report`` on tested ones, ``compare`` and ``sweep``, which train and test them first."""

from __future__ import annotations

from pathlib import Path

from tse_refine.cli.options import CommandParser, find_config


def report(words: list[str]) -> None:
    """Plot figures and write tables of tested runs."""
    parser = CommandParser("report", report.__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run that `test` has evaluated")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder of figures and tables")
    parser.add_argument("--threshold", metavar="P", help="threshold of figures, or another refinement such as "
        "soft:0.2-0.6; by default the recommended one")  # fmt: skip
    options = parser.parse_args(words)
    from tse_refine.analysis.report import write_report

    for path in write_report(options.runs, options.output, options.threshold):
        print(path)


def compare(words: list[str]) -> None:
    """Train, test and report several systems, such as the proposed and the baselines, on one model, data and budget."""
    parser = CommandParser(
        "compare",
        compare.__doc__,
        "Further options go to every training, such as --data.root DIR or --trainer.accelerator gpu. Finished runs are "
        "kept and interrupted ones resumed when the command is started again.",
    )
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="DIR", help="folder of all runs and the report")
    add("--model", default="small", metavar="NAME", help="config of the network; by default small")
    add("--data", default="synthetic", metavar="NAME", help="config of the data; by default synthetic")
    add("--budget", default="demo", metavar="NAME", help="config of the budget; by default demo")
    add("--experiments", nargs="+", default=["baseline1", "baseline2", "proposed"], metavar="NAME",
        help="configs of the systems; by default those of the paper, baseline1 baseline2 proposed")  # fmt: skip
    add("--seeds", type=int, nargs="+", default=[0, 1], metavar="N", help="seeds of every system; by default 0 1")
    own, options = parser.parse_known_args(words)
    stacked = {kind: str(find_config(getattr(own, kind), kind)) for kind in ("model", "data", "budget")}
    experiments = [str(find_config(name, "experiment")) for name in own.experiments]
    from tse_refine.analysis.report import write_report
    from tse_refine.training.runs import train_systems

    options = [*(word for path in stacked.values() for word in ("-c", path)), *options]
    runs = train_systems(experiments, options, own.seeds, own.output)
    for path in write_report(runs, own.output / "report"):
        print(path)


def sweep(words: list[str]) -> None:
    """Run a W&B sweep file here, without W&B."""
    parser = CommandParser("sweep", sweep.__doc__)
    parser.add_argument("file", help="path, or name of a shipped sweep, such as sweeps/loss_weight")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of a random search")
    options = parser.parse_args(words)
    path = find_config(options.file, "sweeps")
    from tse_refine.training.sweep import run_sweep

    print(run_sweep(path, options.seed))
