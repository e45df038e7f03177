"""Shipped configs are found by name from every folder, and unknown names are rejected with the nearest."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tse_refine.cli.options import CONFIGS, CommandParser, config_names, find_config
from tse_refine.errors import InputError


@pytest.mark.parametrize(
    "name", ["experiment/proposed", "experiment/proposed.yaml", "configs/experiment/proposed.yaml"]
)
def test_a_shipped_config_is_found_from_every_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == CONFIGS / "experiment" / "proposed.yaml"


def test_an_existing_file_wins_over_a_shipped_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("experiment/proposed")
    own.parent.mkdir()
    own.write_text("name: Mine")
    assert find_config("experiment/proposed") == own
    assert find_config("experiment/proposed.yaml") == CONFIGS / "experiment" / "proposed.yaml"


def test_a_kind_may_be_left_out_where_only_one_is_expected():
    assert find_config("paper", kind="model") == find_config("model/paper", kind="model") == find_config("model/paper")
    with pytest.raises(InputError, match=r"budget/paper.*did you mean model/paper"):
        find_config("budget/paper", kind="model")


def test_sweeps_are_no_configs_of_fit():
    assert "sweeps/loss_weight" in config_names("sweeps")
    assert "sweeps/loss_weight" not in config_names()
    with pytest.raises(InputError, match="no shipped config"):
        find_config("sweeps/loss_weight")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("experiment/propsed", "did you mean experiment/proposed"),
        ("data/proposed", "did you mean experiment/proposed"),
        ("small", "did you mean model/small?"),
        ("/nowhere/esc05.yaml", "did you mean data/esc10 or data/esc50?"),
        ("xylophone", "shipped are: budget/demo, "),
    ],
)
def test_an_unknown_name_is_rejected_with_the_nearest(name, hint):
    with pytest.raises(InputError) as rejected:
        find_config(name)
    assert str(rejected.value).startswith(f"{name}: there is no such file")
    assert hint in str(rejected.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("configs/proposed.yaml", "experiment/proposed"),
        ("configs/baseline1.yaml", "experiment/baseline1"),
        ("configs/baseline2.yaml", "experiment/baseline2"),
        ("configs/demo.yaml", "budget/demo"),
        ("configs/esc10_cpu.yaml", "budget/esc10_cpu"),
        ("configs/data/embedded.yaml", "data/synthetic"),
        ("data/embedded", "data/synthetic"),
    ],
)
def test_an_old_name_is_rejected_with_the_new_one(old, new):
    assert new in config_names()
    with pytest.raises(InputError, match=f"{old} is now called {new}"):
        find_config(old)


def test_words_are_rejected_in_one_sentence():
    parser = CommandParser("report", "Report.")
    parser.add_argument("--output", required=True)
    with pytest.raises(InputError, match=r"--output\. `tse-refine report --help` explains every option\."):
        parser.parse_args([])


def test_a_wheel_holds_every_package_and_every_config():
    """Packages are listed in pyproject.toml, since packages that are found cannot be mapped."""
    text = Path("pyproject.toml").read_text()
    listed = re.findall(r'"([\w.]+)"', re.search(r"^packages = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)[1])
    rooms = [".".join(path.parent.parts) for path in Path("tse_refine").rglob("__init__.py")]
    assert sorted(listed) == sorted([*rooms, "tse_refine.configs"])
    pattern = re.search(r'"tse_refine.configs" = \["(.*)"\]', text)[1]
    assert set(Path("configs").glob(pattern)) == set(Path("configs").rglob("*.yaml"))


def test_a_wheel_finds_its_configs(tmp_path):
    """As it is installed: the package with the configs inside, and the repository nowhere near."""
    shutil.copytree("tse_refine", tmp_path / "site" / "tse_refine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree("configs", tmp_path / "site" / "tse_refine" / "configs")
    script = "from tse_refine.cli.options import find_config; print(find_config('model/small'))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == str(tmp_path / "site" / "tse_refine" / "configs" / "model" / "small.yaml")
