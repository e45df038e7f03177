import shutil
from types import SimpleNamespace

import pytest


@pytest.fixture
def set_free_space(monkeypatch):
    """Set the free space of every disk, bytes."""
    return lambda free: monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
