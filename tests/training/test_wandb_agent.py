"""W&B's own agent runs a shipped sweep: it queries a server on this machine, and the runs themselves are offline."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fixtures.tables import rows_of
from tests.fixtures.wandb_files import offline_runs
from tse_refine.cli.options import find_config


class SweepAnswers:
    """What W&B's server answers the agent of a sweep: its configuration, then run after run, then that it may go.

    Args:
        sweep: content of the sweep file.
        settings: parameters of the runs, by name.
    """

    def __init__(self, sweep, settings):
        self.sweep = sweep
        self.commands = [
            {
                "type": "run",
                "run_id": name,
                "program": sweep["program"],
                "args": {option: {"value": value} for option, value in options.items()},
            }
            for name, options in settings.items()
        ]
        self.commands.append({"type": "exit"})

    def with_runs(self, _):
        sweep = {"id": "U3dlZXA=", "name": "abc", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def agent(self, _):
        return {"createAgent": {"agent": {"id": "agent"}}}

    def heartbeat(self, variables):
        commands = [] if json.loads(variables["runState"]) else [self.commands.pop(0)]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}


@pytest.fixture
def command_on_path(tmp_path, monkeypatch):
    """``tse-refine`` of this source, as the agent finds it."""
    program = tmp_path / "bin" / "tse-refine"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tse_refine "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.long
@pytest.mark.usefixtures("command_on_path")
def test_the_agent_trains_and_tests_each_run_of_a_shipped_sweep(wandb_server, tiny_config_file, tmp_path, monkeypatch):
    sweep = yaml.safe_load(find_config("loss_weight", "sweeps").read_text())
    tiny = ["-c", str(tiny_config_file), "--trainer.callbacks=null", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    sweep["command"][-1:] = [*tiny, sweep["command"][-1]]
    settings = {f"run{weight}": {"model.loss_weight": weight, "seed_everything": 1} for weight in (1.0, 1000.0)}
    answers = SweepAnswers(sweep, settings)
    queries = {"SweepWithRuns": answers.with_runs, "CreateAgent": answers.agent, "Heartbeat": answers.heartbeat}
    wandb_server.answers |= queries
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))  # where artifacts wait for their upload
    words = [sys.executable, "-m", "wandb", "agent", "me/project/abc"]
    agent = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert agent.returncode == 0, agent.stderr
    assert answers.commands == []

    runs = offline_runs(tmp_path / "runs")
    assert [run.id for run in runs] == list(settings), agent.stdout + agent.stderr
    for run in runs:
        weight = settings[run.id]["model.loss_weight"]
        assert run.name == f"Proposed, demo, seed 1, loss_weight={weight}"
        assert run.sweep == "abc"
        assert run.config["model"]["loss_weight"] == run.config["model.loss_weight"] == weight
        assert run.config["seed_everything"] == 1
        folder = tmp_path / "runs" / run.id
        assert (folder / "trained.json").exists()
        assert run.summary[sweep["metric"]["name"]]  # by which the sweep compares runs
        tested = {row["threshold"]: row for row in rows_of(folder / "test" / "summary.csv") if row["active"] == "2"}
        assert run.summary["test/snri_db/2a3i/none"] == pytest.approx(float(tested["none"]["snri_db"]), abs=1e-4)
        assert run.table("test/table")[0]["threshold"] == "none"
    assert "locked" not in agent.stderr + agent.stdout  # as W&B says where a swept option is set again
