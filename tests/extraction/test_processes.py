import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tse_refine.errors import InputError
from tse_refine.extraction.outputs import plan_outputs
from tse_refine.extraction.processes import FileTask, extract_in_processes
from tse_refine.refinement import Threshold


def test_a_killed_process_is_reported_with_the_way_to_go_on(record, tmp_path):
    plans = plan_outputs([record()], tmp_path / "out.wav", ["dog"])
    task = FileTask(("dog",), Threshold(0.5), "window", overwrite=False)
    with pytest.raises(InputError, match=r"--workers: one of 1 processes ended.* --skip-existing"):
        list(extract_in_processes(plans, task, partial(os._exit, 1), workers=1))
    assert not Path(tmp_path / "out.wav").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals that a process could clean up after")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.long)]
)
def test_processes_end_with_their_parent_and_leave_nothing_half_written(tmp_path, number, status):
    noise = 0.1 * np.random.default_rng(0).standard_normal(120 * 16_000)
    soundfile.write(tmp_path / "long.wav", noise, 16_000)
    output = tmp_path / "out"
    words = ("--checkpoint", "real53-small", "--query", "dog", "--threshold", "0", "--workers", "2")
    command = [sys.executable, "-m", "tse_refine", "extract", *words, "--input", str(tmp_path / "long.wav")]
    running = subprocess.Popen([*command, "--output", f"{output}/"], stderr=subprocess.PIPE, text=True)
    while not list(output.glob("*.part")):
        assert running.poll() is None, "it has ended before it wrote"
        time.sleep(0.05)
    running.send_signal(number)
    _, messages = running.communicate(timeout=60)  # until the last process has closed its end
    assert running.returncode == status, messages
    assert ("stopped by SIGTERM" in messages) == (number == signal.SIGTERM)
    assert list(output.iterdir()) == []
