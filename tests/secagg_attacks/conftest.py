"""What all attacks share: Flower makes messages only in a process that knows which task it runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from flwr.supercore.task_identity import TaskIdentity


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Devices write every refusal to their logs: there are hundreds of thousands here, and each is meant."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
