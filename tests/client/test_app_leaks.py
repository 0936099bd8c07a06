"""What the ClientApp's code must not tell: a record, or a word of a fault."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from devices import (
    make_message,
    make_node,
    make_offer,
    make_tiny_plan,
    node_context,
    random_records,
    said_code,
    sent_bytes,
)
from flwr.app import Context

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task
from bract.privacy import BractError, DataError, PlanError, mechanism_of
from bract.privacy.server_view import ANSWER, UPDATE, Code

SECRET = "patient 4711 has the flu"


class TestTheCode:
    """A code leaves the device without noise, so it must not depend on a record."""

    def test_does_not_tell_whether_some_record_has_a_label(self) -> None:
        records = random_records(6)
        records.labels[:] = 0
        more = Records(records.features, records.labels.clone())
        more.labels[5] = 2
        content = make_offer(make_tiny_plan(data={"classes": 2}))
        assert make_node(records).answer(content).content[ANSWER] == make_node(more).answer(content).content[ANSWER]

    def test_does_not_tell_whether_there_is_a_record(self) -> None:
        none = random_records(2).select(np.zeros(2, dtype=np.bool_))
        one = random_records(1)
        content = make_offer(make_tiny_plan())
        empty = Device(none, Terms(clear_updates=True))
        found = make_app(lambda _: empty)(make_message(content), node_context()).content[ANSWER]
        assert found == make_node(one).answer(content).content[ANSWER]


FAULTS = [
    RuntimeError(SECRET),
    ValueError(SECRET),
    KeyError(SECRET),
    OSError(5, SECRET, SECRET),
    MemoryError(SECRET),
    RecursionError(SECRET),
    AssertionError(SECRET),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
    BractError(SECRET, SECRET),
    PlanError(SECRET, SECRET),
    DataError(SECRET, SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    type(SECRET, (Exception,), {})(SECRET),
    StopIteration(SECRET),
]


class TestNoWordOfAFault:
    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
    def test_in_training_leaves_the_device(self, caplog: pytest.LogCaptureFixture, fault: Exception) -> None:
        def fail(task: Task) -> None:
            raise fault from ValueError(SECRET)

        with caplog.at_level(logging.DEBUG):
            reply = make_node(contribute=fail).answer(make_offer(make_tiny_plan()))
        assert said_code(reply) in (Code.FAILED, Code.PLAN, Code.DATA)
        assert SECRET.encode() not in sent_bytes(reply)
        assert caplog.records  # the owner reads why in the device's own log

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
    def test_in_opening_the_device_leaves_it(self, fault: Exception) -> None:
        def open_device(_: Context) -> Device:
            raise fault

        reply = make_app(open_device)(make_message(make_offer(make_tiny_plan())), node_context())
        said_code(reply)
        assert SECRET.encode() not in sent_bytes(reply)

    def test_in_reading_the_plan_leaves_the_device(self) -> None:
        reply = make_node().answer(make_offer(make_tiny_plan().offered() + f'\n[data]\nname = "{SECRET}"'))
        assert said_code(reply) is Code.PLAN
        assert SECRET.encode() not in sent_bytes(reply)

    def test_in_a_record_that_training_chokes_on_leaves_the_device(self) -> None:
        records = random_records(12)
        records.features[:] = np.nan
        array = make_node(records).answer(make_offer(make_tiny_plan())).content.array_records[UPDATE][UPDATE]
        words = np.frombuffer(array.data, dtype="<u8")
        assert np.abs(mechanism_of(make_tiny_plan()).grid.ring.decode(words, 51)).max() > 0
