"""What a rejected command prints."""

from collections.abc import Callable

import pytest


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """Call a command that must be rejected, and return its message: one paragraph on stderr, with status 2."""

    def call(command: Callable[..., object], *words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            command(*words)
        assert stop.value.code == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("tse-refine: ")
        assert printed.err.count("\n") == 1
        return printed.err

    return call
