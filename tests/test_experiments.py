"""Every experiment runs as it is shipped, at the smallest size: trained and tested on the synthetic corpus."""

import csv

import pytest

from tse_refine.cli.main import main
from tse_refine.cli.options import config_names
from tse_refine.model.checkpoint import load_network


@pytest.mark.parametrize("experiment", config_names("experiment"))
def test_an_experiment_is_trained_and_tested(experiment, tiny_config_file, tmp_path):
    words = ["-c", str(tiny_config_file), "-c", experiment, "--evaluation.queries_per_pass=64"]
    main(["fit", *words])
    trained = load_network(tmp_path / "run" / "checkpoints" / "best.ckpt")
    main(["test", *words])
    with (tmp_path / "run" / "test" / "summary.csv").open(encoding="utf-8") as file:
        refinements = {row["threshold"] for row in csv.DictReader(file)}
    assert trained.extracts == bool(refinements)
    if trained.extracts:
        assert ("0.1" in refinements) == (trained.network.classifier is not None)
