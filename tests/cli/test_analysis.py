"""``compare`` from end to end."""

import functools
from pathlib import Path

import pytest
import yaml

from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.training import runs


@pytest.fixture
def here(monkeypatch):
    """Run trainings and tests in this process, which has imported everything; keep their command lines."""
    commands = []

    def run(words):
        commands.append(words)
        main(words[1:])

    monkeypatch.setattr(runs, "train_systems", functools.partial(runs.train_systems, run=run))
    return commands


def test_all_systems_are_trained_tested_and_reported(tiny_config_file, here, tmp_path, capsys):
    config = yaml.safe_load(tiny_config_file.read_text())
    network = config["model"]["network"]
    del network["classifier"]  # the experiments decide on it
    parts = {"model": {"model": {"network": network}}, "data": {"data": config["data"]}}
    parts["budget"] = {"trainer": config["trainer"]}
    words = []
    for kind, part in parts.items():
        (tmp_path / f"{kind}.yaml").write_text(yaml.safe_dump(part))
        words += [f"--{kind}", str(tmp_path / f"{kind}.yaml")]
    (tmp_path / "own.yaml").write_text("name: Own\nmodel: {network: {classifier: {input: mel, channels: [4, 4]}}}")
    words += ["--experiments", "baseline1", "proposed", str(tmp_path / "own.yaml")]
    words = ["compare", *words, "--output", str(tmp_path / "out"), "--seeds", "3"]
    main([*words, "--model.loss_weight", "7"])
    written = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "out" / "report" / "table1.md") in written
    table = (tmp_path / "out" / "report" / "table1.md").read_text()
    assert all(name in table for name in ("Baseline 1", "Own", "Proposed"))
    saved = [yaml.safe_load(path.read_text()) for path in sorted((tmp_path / "out").glob("*-seed3/config.yaml"))]
    assert [one["name"] for one in saved] == ["Baseline 1", "Own", "Proposed"]
    assert {(one["model"]["loss_weight"], one["seed_everything"]) for one in saved} == {(7.0, 3)}
    assert len(here) == 6
    main(words)
    assert len(here) == 6  # nothing is done again


def test_configs_are_checked_before_anything_is_trained(tmp_path, here, refusal):
    text = refusal(main, ("compare", "--model", "papr", "--output", str(tmp_path / "out")))
    assert "did you mean model/paper" in text
    assert not here


def test_the_defaults_are_the_demos(monkeypatch, tmp_path):
    def stop(experiments, options, seeds, output):
        assert [word.rsplit("configs/", 1)[-1] for word in options] == [
            *("-c", "model/small.yaml", "-c", "data/synthetic.yaml", "-c", "budget/demo.yaml"),
            *("--data.root", "somewhere"),
        ]
        assert [Path(experiment).stem for experiment in experiments] == ["baseline1", "baseline2", "proposed"]
        assert (seeds, output) == ([0, 1], tmp_path)
        raise InputError("enough")

    monkeypatch.setattr(runs, "train_systems", stop)
    with pytest.raises(SystemExit):
        main(["compare", "--output", str(tmp_path), "--data.root", "somewhere"])
