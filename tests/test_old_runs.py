"""A run of version 0.1.0 still loads: its saved configuration, its checkpoint, its results."""

import gzip
import shutil
from pathlib import Path

import pytest

from tests.fixtures.tables import rows_of
from tse_refine import Extractor
from tse_refine.analysis.report import write_report
from tse_refine.cli.main import main
from tse_refine.evaluation import run_config

OLD_RUN = Path(__file__).parent / "fixtures" / "run_of_0.1.0"


@pytest.fixture
def run(tmp_path):
    """A copy of the run's folder, with its checkpoint unpacked."""
    folder = tmp_path / "run"
    shutil.copytree(OLD_RUN, folder)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "best.ckpt").write_bytes(gzip.decompress((folder / "best.ckpt.gz").read_bytes()))
    (folder / "best.ckpt.gz").unlink()
    return folder


@pytest.fixture
def call(run, cache_dir):
    def call(command, *words):
        main([command, "-c", str(run / "config.yaml"), f"--data.cache_dir={cache_dir}", *map(str, words)])

    return call


def test_a_test_of_the_old_checkpoint_repeats_the_old_results(run, call, tmp_path, capsys, monkeypatch):
    """The sums of another processor round differently."""
    monkeypatch.setattr(run_config, "hinted", set())  # other tests read old configurations too
    new = tmp_path / "new"
    call(
        "test",
        f"--trainer.default_root_dir={new}",
        f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}",
        "--evaluation.conditions=[[1, 0], [1, 1], [1, 3], [0, 1]]",
        "--evaluation.thresholds=[none, 0.3, 0.5, oracle, gate]",
    )
    assert "tse_refine.RunCSVLogger" in capsys.readouterr().err  # the hint at the new name
    for name in ("results.csv", "summary.csv", "probabilities.csv", "classification.csv", "per_class.csv", "cost.csv"):
        old_rows, new_rows = rows_of(run / "test" / name), rows_of(new / "test" / name)
        assert len(old_rows) == len(new_rows)
        for old_row, new_row in zip(old_rows, new_rows, strict=True):
            for column, value in old_row.items():
                try:
                    assert float(new_row[column]) == pytest.approx(float(value), abs=2e-3), (name, column)
                except ValueError:
                    assert new_row[column] == value


def test_the_old_training_is_resumed(run, call):
    call(
        "fit",
        f"--trainer.default_root_dir={run}",
        f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}",
        "--trainer.max_epochs=2",
    )
    assert {row["epoch"] for row in rows_of(run / "validation.csv")} == {"0", "1"}


def test_the_old_results_are_reported(run, tmp_path):
    written = write_report([run], tmp_path / "report")
    assert {"index.html", "table1.csv"} <= {path.name for path in written}
    (none, *_) = rows_of(tmp_path / "report" / "table1.csv")
    assert float(none["snri_db_1a0i"]) == pytest.approx(
        float(rows_of(run / "test" / "summary.csv")[0]["snri_db"]), abs=1e-4
    )


def test_the_old_checkpoint_extracts(run):
    extractor = Extractor.load(run / "checkpoints" / "best.ckpt", "cpu")
    assert len(extractor.class_names) == 12
    assert extractor.recommended_refinement.option in (0.1, 0.3, 0.5)
