"""Every reader of foreign files answers every damage with the package's own error; ``make fuzz`` tries many more."""

from contextlib import suppress
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets
from tse_refine.errors import InputError

EXAMPLES = 25


@pytest.mark.parametrize("name", targets.NAMES)
def test_the_valid_files_are_read(name):
    for data in targets.seeds(name):
        targets.target(name).check(data)  # without an error


@pytest.mark.parametrize("name", targets.NAMES)
def test_damaged_files_are_rejected_with_the_packages_error_or_read(name):
    @settings(
        max_examples=max(3, round(EXAMPLES * getattr(targets.target(name), "INPUTS", 1.0) ** 0.5)),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=True).map(partial(targets.damaged, name)))
    def check(data):
        with suppress(InputError):
            targets.target(name).check(data)

    check()
