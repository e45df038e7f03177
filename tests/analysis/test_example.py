import shutil

import numpy as np
import pytest
import torch
import yaml

from tse_refine.analysis.example import choose_mixture, extract_example
from tse_refine.analysis.figures import plot_example
from tse_refine.analysis.measurements import MeasuredGrid
from tse_refine.analysis.report import write_report
from tse_refine.analysis.tested_run import TestedRun
from tse_refine.cli.main import main
from tse_refine.errors import InputError
from tse_refine.evaluation.conditions import MATCHED, Condition
from tse_refine.files.tables import read_csv
from tse_refine.refinement import NoRefinement, SoftThreshold, Threshold

REFINED = Threshold(0.5)  # the tiny networks give about this probability to every class, so that it splits queries


@pytest.fixture
def run(tiny_runs, tmp_path):
    """A copy of a run that was trained and tested."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_runs / "loss_weight=1.0,seed_everything=0", folder)
    return folder


def grid(gain, kept):
    """Five mixtures at (1:0) and (1:2), raw and at 0.3, with these gains and numbers of kept classes."""
    shape = (5, 2, 2)
    snri, kept_active = np.zeros(shape), np.ones(shape)
    snri[:, 1, 1] = gain
    kept_inactive = np.zeros(shape)
    kept_active[:, 1, 1] = np.minimum(kept, 1)
    kept_inactive[:, 1, 1] = np.maximum(np.array(kept) - 1, 0)
    queries = np.full((5, 2), "", object)
    return MeasuredGrid(
        np.arange(10, 15),
        (MATCHED, Condition(1, 2)),
        (NoRefinement(), Threshold(0.3)),
        {"snri_db": snri},
        snri[:, :, 0],
        kept_active,
        kept_inactive,
        queries,
        queries,
    )


def test_the_median_gain_of_the_changed_queries_is_shown():
    assert choose_mixture(grid([5.0, 1.0, 3.0, 9.0, -1.0], [1, 1, 1, 0, 3]), Threshold(0.3)) == (12, (1, 2))


def test_where_refinement_changes_nothing_there_is_nothing_to_show():
    with pytest.raises(InputError, match=r"With the threshold 0\.3 refinement changed no query"):
        choose_mixture(grid([0.0] * 5, [3, 3, 0, 3, 3]), Threshold(0.3))


def test_the_example_is_what_was_tested(run):
    example = extract_example(TestedRun(run), REFINED)
    rows = read_csv(run / "test" / "results.csv", ())
    rows = {
        row["threshold"]: row
        for row in rows
        if int(row["mixture"]) == example.index and (int(row["active"]), int(row["inactive"])) == example.condition
    }
    assert example.raw_db == pytest.approx(float(rows["none"]["snri_db"]), abs=0.01)
    assert example.refined_db == pytest.approx(float(rows[REFINED.name]["snri_db"]), abs=0.01)
    row = rows[REFINED.name]
    assert example.query == (*row["query_active"].split("|"), *row["query_inactive"].split("|"))
    assert set(example.query[: example.condition[0]]) <= set(example.active)
    assert not set(example.query[example.condition[0] :]) & set(example.active)
    assert 0 < len(example.refined_query) < len(example.query)
    assert len(example.refined_query) == int(row["n_kept_active"]) + int(row["n_kept_inactive"])
    kept = {name for name in example.query if example.probability[name] >= REFINED.delta}
    assert set(example.refined_query) == kept
    assert all(len(signal) == 4000 for signal in (example.mixture, example.target, example.raw, example.refined))


def test_results_of_another_checkpoint_make_no_example(run):
    path = run / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["network.decoder.weight"] *= 3.0
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match="are not those that were tested"):
        extract_example(TestedRun(run), REFINED)


def test_the_figure_has_four_spectrograms_on_one_scale(run):
    example = extract_example(TestedRun(run), REFINED)
    panels = [panel for panel in plot_example(example).axes if panel.images]
    assert len(panels) == 4
    assert len({panel.images[0].get_clim() for panel in panels}) == 1
    titles = [panel.get_title(loc="left").replace("\n", " ") for panel in panels]
    assert all(name in titles[2] for name in example.query)
    assert f"SNRi {example.refined_db:.1f} dB" in titles[3]


def test_the_page_of_a_real_run_plays_the_example(run, tmp_path):
    write_report([run], tmp_path / "report", REFINED)
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<audio controls") == 4
    assert page.count("data:audio/wav;base64,") == 4
    assert (tmp_path / "report" / "example.png").exists()


def test_the_example_is_of_the_test_also_where_that_had_options_of_its_own(run, tmp_path):
    words = ["test", "-c", str(run / "config.yaml"), "--trainer.default_root_dir", str(run)]
    words += ["--evaluation.thresholds", "[none, 0.5, 'soft:0.45-0.55']"]
    main([*words, "--data.seed", "5", "--data.num_test", "12", "--ckpt_path", "last"])
    shutil.move(run, tmp_path / "moved")
    for refinement in (REFINED, SoftThreshold(0.45, 0.55)):
        example = extract_example(TestedRun(tmp_path / "moved"), refinement)
        assert 0 < len(example.refined_query) < len(example.query)


def break_run(run, breakage, nowhere):
    for config in (run / "config.yaml", run / "test" / "config.yaml"):
        break_config(config, run, breakage, nowhere)


def break_config(path, run, breakage, nowhere):
    config = yaml.safe_load(path.read_text())
    if breakage == "checkpoint":
        config["ckpt_path"] = str(run / "checkpoints" / "best.ckpt")
        (run / "checkpoints" / "best.ckpt").unlink(missing_ok=True)
    elif breakage == "recordings":
        config["data"]["foregrounds"] = {
            "class_path": "tse_refine.data.corpora.LabelFolders",
            "init_args": {"root": str(nowhere)},
        }
    else:
        config["data"]["foregrounds"]["class_path"] = "no.such.Corpus"
    path.write_text(yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("breakage", "found"),
    [
        ("checkpoint", r"best\.ckpt does not exist"),
        ("recordings", "gone"),
        ("options", "data options of the configuration cannot be used"),
    ],
)
def test_without_what_was_tested_there_is_no_example(run, breakage, found, tmp_path):
    break_run(run, breakage, tmp_path / "gone")
    with pytest.raises(InputError, match=found):
        extract_example(TestedRun(run), REFINED)


def test_a_report_without_its_example_says_so_and_is_made(run, tmp_path, capsys):
    break_run(run, "recordings", tmp_path / "gone")
    paths = write_report([run], tmp_path / "report", REFINED)
    assert "the report has no worked example" in capsys.readouterr().err
    assert "index.html" in {path.name for path in paths}
    assert not (tmp_path / "report" / "example.png").exists()
