"""The notebooks run from top to bottom on real results, and are committed as they ran."""

import json
import re
import shutil
import sys
from pathlib import Path

import matplotlib as mpl
import nbformat
import pytest
from nbclient import NotebookClient

from tse_refine.analysis.choices import best_value
from tse_refine.analysis.sweeps import read_sweep_folder
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import PARTIAL
from tse_refine.evaluation.metrics import SNRI
from tse_refine.refinement import NoRefinement

NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))
PER_CONDITION, SWEEP = Path("notebooks/per_condition_snri.ipynb"), Path("notebooks/sweep_analysis.ipynb")


def with_parameters(path, **parameters):
    """Return the notebook without outputs; further lines of its parameters' cell set other values."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for name, value in parameters.items():
        assert re.search(rf"^{name} = ", cell.source, re.MULTILINE), f"{path} has no parameter {name}"
        cell.source += f"\n{name} = {value!r}"
    return notebook


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a notebook in a kernel of this interpreter, whichever one a user's own python3 kernel may start."""
    spec = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": words, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # no start-up files

    def run_in(path, folder, **parameters):
        folder.mkdir(exist_ok=True)
        notebook = with_parameters(path, **parameters)
        client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}})
        return client.execute()

    return run_in


@pytest.fixture
def run_here(monkeypatch, capsys, tmp_path):
    """Run a notebook's code in this process, which is quicker than a kernel; return what it printed."""

    def run_in_place(path, folder=tmp_path, **parameters):
        monkeypatch.chdir(folder)
        namespace = {}
        with mpl.rc_context():
            for cell in with_parameters(path, **parameters).cells:
                if cell.cell_type == "code":
                    exec(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE), namespace)
        return capsys.readouterr().out

    # relative to the tests' own folder, not to the one that is entered
    return lambda path, **parameters: run_in_place(path.resolve(), **parameters)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def printed(notebook):
    """Return the text of a notebook's outputs: streams and tables."""
    texts = [output.get("text") or output.get("data", {}).get("text/html", "") for output in outputs(notebook)]
    return "\n".join(texts)


def count_figures(notebook):
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


def test_conditions_of_real_runs_from_the_notebooks_folder(run, tiny_runs):
    root = tiny_runs.parent.parent
    folders = sorted(path.parent for path in tiny_runs.glob("*/config.yaml"))
    notebook = run(PER_CONDITION, root / "notebooks", RUNS=[str(folder.relative_to(root)) for folder in folders])
    assert {output.output_type for output in outputs(notebook)} <= {"stream", "display_data", "execute_result"}
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    text = printed(notebook)
    measured = [TestedRun(folder) for folder in folders]
    for weight, pair in (("1", measured[:2]), ("100", measured[2:])):
        name = f"Proposed (λ = {weight})"
        mean = sum(run.grid.cell(SNRI, PARTIAL, NoRefinement()).mean() for run in pair) / 2
        assert re.search(rf"{re.escape(name)}: raw query .* dB at \(1:0\), silence -?\d", text)
        assert f"{mean:.2f} [" in text
        for run_ in pair:
            assert re.search(rf"Validation recommended {run_.recommended.name} in [12] of 2 runs", text)
    assert count_figures(notebook) == 2 + 1 + 2 + 1 + 2  # conditions, trade-off, classes, attenuation, expectation


def test_a_real_sweep_from_the_repositorys_root(run, tiny_runs):
    notebook = run(SWEEP, tiny_runs.parent.parent, SOURCE="runs/sweep")
    assert {output.output_type for output in outputs(notebook)} <= {"stream", "display_data", "execute_result"}
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    text = printed(notebook)
    best = best_value(read_sweep_folder(tiny_runs), "model.loss_weight", "val/snri_db/1a3i/refined")
    assert f"Best by val/snri_db/1a3i/refined: model.loss_weight = {best.best}" in text
    assert f"Next: {best.runner_up}, {best.lead:.2f} dB behind." in text
    assert f"{'larger than' if best.beyond_chance else 'within'} the spread of seeds, {best.spread:.2f} dB" in text
    assert re.search(rf"On the test mixtures, {best.best} - {best.runner_up}: [+-]\d.*\]", text)
    assert count_figures(notebook) == 2  # validation and test


def test_known_differences_are_printed(run_here, make_run):
    """One run that loses 0.25 dB at (1:0) and gains 4.25 dB at (1:3) in every mixture."""
    text = run_here(PER_CONDITION, RUNS=[str(make_run("p"))], SHARES=[0.0, 0.5])
    assert "thresholds whose cost at (1:0) may be zero here: none." in text
    assert "-0.25 [-0.25, -0.25]" in text
    assert "+4.25 [+4.25, +4.25]" in text
    assert "none for w from 0.00 to 0.06; 0.3 for w from 0.06 to 1.00" in text
    assert "Of w = 0, 0.5, it is as good as the best on the test mixtures for w = 0.5; at most it is 0.25 dB" in text


def test_baselines_alone_have_conditions_but_no_thresholds(run_here, make_run):
    text = run_here(PER_CONDITION, RUNS=[str(make_run("b1", refines=False))])
    assert "Baseline 1: 1: 2.00 [2.00, 2.00] dB; 3: 6.00 [6.00, 6.00] dB" in text
    assert "None of these runs has a classifier" in text


def test_soft_thresholds_are_in_the_tables(run_here, make_run):
    run = make_run("p", falls={"none": 2.0, 0.3: 0.5, "soft:0.2-0.6": 0.25, "oracle": 0.0, "gate": 2.0})
    text = run_here(PER_CONDITION, RUNS=[str(run)], THRESHOLD="soft:0.2-0.6", SHARES=[1.0])
    assert "Proposed, δ = 0.2 to 0.6, at (1:3), by intervals without 0:" in text
    assert "soft:0.2-0.6 for w from 0.05 to 1.00" in text


def test_another_threshold_and_condition_can_be_shown(run_here, make_run):
    text = run_here(PER_CONDITION, RUNS=[str(make_run("p"))], THRESHOLD=0.3, PARTIAL=(1, 1))
    assert "+1.25 [+1.25, +1.25]" in text  # 2 dB gained, 0.75 dB lost


def test_what_a_run_was_not_tested_with_is_rejected_at_once(run_here, make_run):
    with pytest.raises(InputError, match=r"p was not tested with \(2:2\), 0\.4; test it again"):
        run_here(PER_CONDITION, RUNS=[str(make_run("p"))], PARTIAL=(2, 2), THRESHOLD=0.4)


def test_a_sweep_that_was_not_tested_is_compared_by_validation_and_seeds(run_here, tiny_runs, tmp_path):
    folder = shutil.copytree(tiny_runs, tmp_path / "sweep", ignore=shutil.ignore_patterns("test"))
    text = run_here(SWEEP, SOURCE=str(folder))
    assert "Not every run was tested at (1:0)." in text
    assert "there are no pairs" in text
    assert "the spread of seeds" in text


def test_a_sweep_without_repeats_has_no_spread_of_seeds(run_here, tiny_runs, tmp_path):
    folder = shutil.copytree(tiny_runs, tmp_path / "sweep", ignore=shutil.ignore_patterns("*everything=1"))
    text = run_here(SWEEP, SOURCE=str(folder), METRIC="val/map")
    assert "Every value was run once: the effect of the seed is not known." in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebooks_are_committed_as_they_ran(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = [output.output_type for output in outputs(notebook)]
    assert "error" not in kinds
    assert len(kinds) > 5
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert count_figures(notebook) >= 2
    assert path.stat().st_size < 400_000
    for output in outputs(notebook):  # in base64, any letters may follow a slash
        output.get("data", {}).pop("image/png", None)
    assert not re.search(r"/(work|tmp|root|home)\b", nbformat.writes(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_they_are_committed_as_they_ran_on_the_results_that_come_with_them(run_here, path):
    stored = [output.text for output in outputs(nbformat.read(path, as_version=4)) if output.output_type == "stream"]
    text = run_here(path, folder=path.parent)
    assert stored
    for output in stored:
        assert output.strip() in text


def test_both_notebooks_are_there():
    assert {PER_CONDITION, SWEEP} == set(NOTEBOOKS)
