"""What all tests of the client need: a network of 51 parameters, and a task for Flower."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from devices import tiny
from flwr.supercore.task_identity import TaskIdentity

from bract.client import train
from bract.models import NETWORKS, Network


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`model.name = "tiny"` is known, and no engine is kept from one test to the next."""
    monkeypatch.setitem(NETWORKS, "tiny", Network("tiny", tiny))
    train._engine.cache_clear()
    yield
    train._engine.cache_clear()


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only in a process that knows which task it runs."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
