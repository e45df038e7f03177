import torch
import yaml

from tests.fixtures.tables import rows_of
from tse_refine.cli.main import main
from tse_refine.model.checkpoint import load_network, read_checkpoint
from tse_refine.training.calibrate import CANDIDATES


def calibrate(config, *words):
    main(["calibrate", "-c", str(config), *words])


def test_a_calibrated_checkpoint_differs_in_the_last_layer_and_the_recommendation_alone(
    tiny_config_file, tmp_path, capsys
):
    main(["fit", "-c", str(tiny_config_file)])
    capsys.readouterr()
    calibrate(tiny_config_file)
    printed = capsys.readouterr().out
    checkpoints = tmp_path / "run" / "checkpoints"
    before, after = (read_checkpoint(checkpoints / f"{name}.ckpt") for name in ("best", "calibrated"))
    changed = [name for name, weight in after.weights.items() if not torch.equal(weight, before.weights[name])]
    assert sorted(changed) == ["classifier.linear.bias", "classifier.linear.weight"]
    names = {rule.name for rule in CANDIDATES} | {"0.1", "0.3", "0.5"}
    assert f"{after.about.recommended_threshold}" in names
    assert all(name in printed for name in ("expected calibration error", "before", "after", "soft:0.05-0.3"))
    assert f"Written to {checkpoints / 'calibrated.ckpt'}" in printed

    main(["test", "-c", str(tiny_config_file), "--ckpt_path=calibrated", "--evaluation.thresholds=[none, oracle]"])
    tested = yaml.safe_load((tmp_path / "run" / "test" / "config.yaml").read_text())
    assert tested["ckpt_path"] == str(checkpoints / "calibrated.ckpt")
    recommended = after.about.recommended_threshold
    assert str(recommended) in {row["threshold"] for row in rows_of(tmp_path / "run" / "test" / "summary.csv")}
    main(["report", str(tmp_path / "run"), "--output", str(tmp_path / "report")])


def test_probabilities_after_calibration_are_closer_to_what_is_there(tiny_config_file, tmp_path, capsys):
    main(["fit", "-c", str(tiny_config_file)])
    capsys.readouterr()
    calibrate(tiny_config_file)
    lines = capsys.readouterr().out.splitlines()
    before, after = (
        float(next(line for line in lines if line.startswith(name)).split()[1]) for name in ("before", "after")
    )
    assert after < before


def test_a_classifier_alone_is_calibrated_too(tiny_config_file, tmp_path):
    classifier_alone = ["--model.extraction=false", "--checkpoint.monitor=val/map"]
    main(["fit", "-c", str(tiny_config_file), *classifier_alone])
    calibrate(tiny_config_file, *classifier_alone)
    trained = load_network(tmp_path / "run" / "checkpoints" / "calibrated.ckpt")
    assert not trained.extracts
    assert trained.recommended_threshold is None


def test_a_network_without_a_classifier_is_rejected(tiny_config_file, tmp_path, refusal):
    extraction_only = ["--model.network.classifier=null", "--checkpoint.monitor=val/loss"]
    main(["fit", "-c", str(tiny_config_file), *extraction_only])
    message = refusal(main, ["calibrate", "-c", str(tiny_config_file), *extraction_only])
    assert "has no classifier" in message
    assert not (tmp_path / "run" / "checkpoints" / "calibrated.ckpt").exists()
