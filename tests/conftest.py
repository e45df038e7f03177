"""Fixtures that several test files share, one module per kind."""

import pytest
import torch

collect_ignore = ["fixtures/extensions.py"]  # importing it, for doctests, adds to the package's tables
pytest_plugins = [
    "tests.fixtures.commands",
    "tests.fixtures.corpora",
    "tests.fixtures.extraction",
    "tests.fixtures.hub",
    "tests.fixtures.runs",
    "tests.fixtures.server",
    "tests.fixtures.tiny",
    "tests.fixtures.wandb_server",
]


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Tiny tensors lose time to many threads, and tests must not depend on the number of cores."""
    torch.set_num_threads(1)
