"""The package as it is installed from a wheel: without the repository, from another folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# the sizes of a demo of seconds
TINY = [
    *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--data.num_workers=0", "--data.batch_size=4"),
    *("--data.num_train=8", "--data.num_val=4", "--data.num_test=4", "--data.sample_rate=4000"),
    *("--data.mixture.duration_seconds=1", "--data.mixture.event_seconds=[0.5, 0.8]"),
]


@pytest.mark.long
def test_a_wheel_trains_tests_and_extracts_alone(tmp_path):
    def run(*words, **environment):
        return subprocess.run(
            words, cwd=tmp_path, env=os.environ | environment, capture_output=True, text=True, check=True
        ).stdout

    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "dist", str(ROOT))
    (wheel,) = (tmp_path / "dist").glob("tse_refine-*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", "site", str(wheel))

    def tse_refine(*words):
        return run(sys.executable, "-m", "tse_refine", *words, PYTHONPATH=str(tmp_path / "site"))

    place = run(
        sys.executable, "-c", "import tse_refine; print(tse_refine.__file__)", PYTHONPATH=str(tmp_path / "site")
    )
    assert Path(place.strip()).is_relative_to(tmp_path)
    demo = ["-c", "experiment/proposed", "-c", "model/small", "-c", "data/synthetic", "-c", "budget/demo", *TINY]
    tse_refine("fit", *demo)
    tse_refine("test", *demo)
    tse_refine("report", "runs/demo", "--output", "report")
    assert (tmp_path / "report" / "index.html").exists()
    tse_refine("preview", "-c", "data/synthetic", "--split", "test", "--output", "look")
    extract = ["--input", "look/mixture.wav", "--query", "dog", "--output", "dog.wav"]
    tse_refine("extract", "--checkpoint", "real53-small", *extract)
    assert (tmp_path / "dog.wav").exists()
    assert "real53-small" in tse_refine("models")
