import shutil

import pytest
import yaml

from tse_refine.analysis.tested_run import TestedRun
from tse_refine.errors import InputError
from tse_refine.model.cost import Cost
from tse_refine.refinement import Gate, SoftThreshold, Threshold


def change_config(path, **options):
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | options))


def test_a_foreign_configuration_is_rejected(make_run):
    run = make_run("a")
    (run / "config.yaml").write_text(yaml.safe_dump({"model": {}}))
    with pytest.raises(InputError, match=r"config\.yaml: is not the configuration of a run"):
        _ = TestedRun(run).config
    (run / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"config\.yaml does not exist"):
        _ = TestedRun(run).config


def test_the_operating_refinement_is_that_of_the_test(make_run):
    run = make_run("a")
    assert TestedRun(run).operating == Threshold(0.3)
    shutil.copy(run / "config.yaml", run / "test" / "config.yaml")
    change_config(run / "test" / "config.yaml", evaluation={"threshold": "soft:0.2-0.6"})
    tested = TestedRun(run)
    assert tested.operating == SoftThreshold(0.2, 0.6)
    assert tested.grid.refinements[-1] == Gate(0.2)  # the lower end of the operating refinement
    assert tested.recommended == Threshold(0.3)  # without a checkpoint, the training's


def test_an_operating_threshold_that_is_not_one_is_rejected(make_run):
    run = make_run("a", evaluation={"threshold": "most"})
    with pytest.raises(InputError, match=r"a/config\.yaml: is not the configuration of a run .*'most' is not a valid"):
        _ = TestedRun(run).operating


def test_the_recommended_refinement_is_that_of_the_best_checkpoint(tiny_runs):
    run = TestedRun(next(tiny_runs.glob("*/config.yaml")).parent)
    assert run.recommended.name in {rule.name for rule in run.grid.refinements}
    assert run.data.class_names == list(run.classifier.class_names)


def test_a_run_without_checkpoints_recommends_what_its_last_validation_did(tiny_runs, tmp_path):
    folder = next(tiny_runs.glob("*/config.yaml")).parent
    passed_on = shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    assert TestedRun(passed_on).recommended == TestedRun(folder).recommended
    rows = (passed_on / "validation.csv").read_text().replace("1,0,0.5,", "1,0,none,", 1)
    (passed_on / "validation.csv").write_text(rows)
    with pytest.raises(InputError, match=r"validation\.csv.*It is damaged"):
        _ = TestedRun(passed_on).recommended


def test_the_cost_is_that_of_the_file(make_run):
    assert TestedRun(make_run("a")).cost == Cost(500_000, 100_000, 0.07, 0.01)


def test_plugins_of_a_run_are_imported(make_run, tmp_path, monkeypatch):
    (tmp_path / "halving.py").write_text("imported = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = make_run("a", plugins=["halving"])
    assert TestedRun(run).operating == Threshold(0.3)
    change_config(run / "config.yaml", plugins=["missing_plugin"])
    with pytest.raises(InputError, match="plugins: the module 'missing_plugin' cannot be imported"):
        _ = TestedRun(run).config


def test_classes_of_earlier_versions_have_their_present_names(make_run):
    data = {"seed": 0, "queries": {"inactive_sample_rate": 0.0}}
    old, new = (
        TestedRun(make_run(name, data=data | {"foregrounds": {"class_path": f"tse_refine.data.corpora.{name}"}}))
        for name in ("EmbeddedSounds", "SyntheticSounds")
    )
    assert old.training_fingerprint == new.training_fingerprint


def test_the_fingerprint_of_a_training_does_not_depend_on_its_seed(make_run):
    runs = [TestedRun(make_run(str(seed), seed=seed)) for seed in (0, 1)]
    other = TestedRun(make_run("other", loss_weight=1.0))
    assert runs[0].training_fingerprint == runs[1].training_fingerprint != other.training_fingerprint
