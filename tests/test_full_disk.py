"""A disk that fills up: every command names the file in one paragraph, and leaves nothing half-written."""

import sys

import numpy as np
import pytest
import soundfile

from tests.fixtures.disk import full_disk
from tse_refine.cli.main import main


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit ends the process")
@pytest.mark.parametrize("command", ["fit", "test", "predict", "preview", "extract"])
def test_a_full_disk_is_reported_with_the_name_of_the_file(tiny_runs, tmp_path, refusal, command):
    run, new = next(tiny_runs.glob("loss*")), tmp_path / "new"
    options = ("-c", str(run / "config.yaml"))
    into = ("--trainer.default_root_dir", str(new), "--ckpt_path", str(run / "checkpoints" / "best.ckpt"))
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(4000), 4000)
    extraction = ("--checkpoint", into[-1], "--input", str(tmp_path / "a.wav"), "--query", "all", "--threshold", "0")
    words, name = {
        "fit": (("fit", *options, *into[:2]), new / "config.yaml"),
        "test": (("test", *options, *into), new / "test"),
        "predict": (("predict", *options, *into), new / "predict" / "00000"),
        "preview": (("preview", *options, "--output", str(new)), new),
        "extract": (("extract", *extraction, "--output", str(new / "b.wav")), new / "b.wav"),
    }[command]
    before = sorted(run.rglob("*"))
    with full_disk(3_000):
        text = refusal(main, words)
    assert str(name) in text
    assert ".part" not in text
    assert "too large" in text or "space" in text
    assert sorted(run.rglob("*")) == before
    assert not [path for path in new.rglob("*") if ".part" in path.name or path.stat().st_size == 3_000]
