from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import target_audio
from tse_refine.errors import InputError

SEEDS = target_audio.seeds()


@pytest.mark.parametrize("data", SEEDS, ids=range(len(SEEDS)))
def test_the_undamaged_files_are_read(data):
    target_audio.check(data)


@settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.sampled_from(SEEDS), rng=st.randoms(use_true_random=False))
def test_any_damage_gives_samples_or_the_packages_own_error(data, rng):
    with suppress(InputError):
        target_audio.check(target_audio.mutate(data, rng))
