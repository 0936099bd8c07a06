"""Devices in a sparse graph: what they sign, and what they do not, for no device knows all the others' cards.

A complete graph's limit is lowered here, so that forty devices have a sparse graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import said_code
from flwr.supercore.task_identity import TaskIdentity
from secure_devices import make_lab

from bract.privacy.messages import KEYS, SECAGG, TRAIN, UNMASK
from bract.privacy.plan import plan, rules
from bract.privacy.secagg import graph
from bract.privacy.server_view import Code

DEVICES = 40
EVERY = range(DEVICES)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Forty devices that have shared their keys."""
    for module in (graph, plan, rules):
        monkeypatch.setattr(module, "COMPLETE", 32)
    server = make_lab(DEVICES, aggregation={"protocol": "secagg", "colluders": 0.05, "dropouts": 0.1})
    server.until("shares")
    assert not server.cohort.graph.complete
    return server


def test_a_device_vouches_for_no_members(server: Any) -> None:
    reply = server.tell(0, TRAIN, cohort=server.invitation(0))
    assert SECAGG not in reply.content


def test_signatures_that_nobody_can_check_open_nothing(server: Any) -> None:
    sent = server.train()
    for signatures in (b"", bytes(68)):
        reply = server.tell(0, UNMASK, survivors=server.bits(EVERY), signatures=signatures)
        assert said_code(reply) is Code.MALFORMED
    bits = server.bits(EVERY)
    opened = {p: server.section(server.tell(p, UNMASK, survivors=bits), "opened") for p in EVERY}
    assert np.array_equal(server.opened(sent, opened), server.true(EVERY))


def test_a_seat_of_one_run_opens_nothing_in_another(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runs share the device's memory, and no digest of all cards that it could compute tells them apart."""
    server.train()
    bits = server.bits(EVERY)
    with monkeypatch.context() as patch:
        patch.setitem(type(server).session.fget.__globals__, "RUN", 2)
        patch.setattr(TaskIdentity, "_run_id", 2)
        server.number = 2
        server.section(server.tell(0, KEYS), "card")  # the run is entered, and its round 1 not yet forgotten
        server.number = 1
        assert said_code(server.tell(0, UNMASK, survivors=bits)) is Code.LOST
    server.section(server.tell(0, UNMASK, survivors=bits), "opened")
