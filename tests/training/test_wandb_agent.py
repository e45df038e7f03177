"""W&B's own agent runs a shipped sweep: it queries a server on this machine, and the runs themselves are offline."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.fixtures.tables import rows_of
from tests.fixtures.wandb_files import offline_runs
from tse_refine.cli.options import find_config


class SweepServer(ThreadingHTTPServer):
    """Answers the queries of W&B's agent for one sweep: its configuration, and runs until there is none left.

    Attributes:
        sweep: content of the sweep file.
        runs: parameters of the runs to come, by name.
        queries: names of the queries so far.
    """

    def __init__(self, sweep, runs):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sweep = sweep
        self.runs = list(runs.items())
        self.queries = []

    def answer(self, query, variables):
        if query == "SweepWithRuns":
            sweep = {"id": "U3dlZXA=", "name": "abc", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if query == "CreateAgent":
            return {"createAgent": {"agent": {"id": "agent"}}}
        if query == "Heartbeat":
            commands = [] if json.loads(variables["runState"]) else [self.next_command()]
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}
        assert query == "Viewer"
        return {"viewer": {"id": "id", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def next_command(self):
        if not self.runs:
            return {"type": "exit"}
        name, settings = self.runs.pop(0)
        args = {option: {"value": value} for option, value in settings.items()}
        return {"type": "run", "run_id": name, "program": self.sweep["program"], "args": args}


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        query = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])[1]
        self.server.queries.append(query)
        content = json.dumps({"data": self.server.answer(query, body.get("variables"))}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Start a server that ends with the test."""
    servers = []

    def start(sweep, runs):
        servers.append(SweepServer(sweep, runs))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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
def test_the_agent_trains_and_tests_each_run_of_a_shipped_sweep(serve, tiny_config_file, tmp_path, monkeypatch):
    sweep = yaml.safe_load(find_config("loss_weight", "sweeps").read_text())
    tiny = ["-c", str(tiny_config_file), "--trainer.callbacks=null", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    sweep["command"][-1:] = [*tiny, sweep["command"][-1]]
    settings = {f"run{weight}": {"model.loss_weight": weight, "seed_everything": 1} for weight in (1.0, 1000.0)}
    server = serve(sweep, settings)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))  # where artifacts wait for their upload
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "120")  # seconds until its process is there, on a machine under load
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    words = [sys.executable, "-m", "wandb", "agent", "me/project/abc"]
    agent = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert agent.returncode == 0, agent.stderr
    assert server.queries[-1] == "Heartbeat"
    assert server.runs == []

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
