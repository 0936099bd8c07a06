"""Fixtures for the data sets: a guard against the network, and a check of both lines of an error."""

import socket

import pytest

from bract.privacy.errors import DataError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("tests do not use the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("BRACT_DATA", raising=False)


@pytest.fixture
def refused():
    """A function: the call raises DataError whose two lines hold these words."""

    def check(call, what, hint):
        with pytest.raises(DataError) as caught:
            call()
        lines = str(caught.value).split("\n")
        assert len(lines) == 2, lines
        assert what in lines[0], lines[0]
        assert hint in lines[1], lines[1]
        assert lines[0].startswith("error: ")
        assert lines[1].startswith("hint: ")

    return check
