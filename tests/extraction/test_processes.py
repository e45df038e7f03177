import os
from functools import partial
from pathlib import Path

import pytest

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
