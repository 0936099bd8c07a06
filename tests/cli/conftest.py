"""What tests of the command share: a command line that must be refused in two lines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bract.cli.main import run

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """A function that runs a command, which must be refused in two lines on stderr, and returns them."""

    def check(*arguments: object, code: int = 2) -> str:
        capsys.readouterr()
        assert run([str(word) for word in arguments]) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert [line.split(": ")[0] for line in said.err.strip().splitlines()] == ["error", "hint"], said.err
        return said.err

    return check
