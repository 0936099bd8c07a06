"""What the ClientApp's code must not tell: a record, or a word of a fault."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Context

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task
from bract.privacy import BractError, DataError, Plan, PlanError, mechanism_of
from bract.privacy.server_view import ANSWER, UPDATE, Code

Make = Callable[..., Plan]
Sample = Callable[..., Records]
Call = Callable[..., Any]
SECRET = "patient 4711 has the flu"


class TestTheCode:
    """A code leaves the device without noise, so it must not depend on a record."""

    def test_does_not_tell_whether_some_record_has_a_label(
        self, make: Make, sample: Sample, node: Call, offer: Call
    ) -> None:
        records = sample(6)
        records.labels[:] = 0
        more = Records(records.features, records.labels.clone())
        more.labels[5] = 2
        content = offer(make(data={"classes": 2}))
        assert node(records).answer(content).content[ANSWER] == node(more).answer(content).content[ANSWER]

    def test_does_not_tell_whether_there_is_a_record(
        self, make: Make, sample: Sample, node: Call, offer: Call, message: Call, context: Call
    ) -> None:
        none = sample(2).select(np.zeros(2, dtype=np.bool_))
        one = sample(1)
        content = offer(make())
        empty = Device(none, Terms(clear_updates=True))
        found = make_app(lambda _: empty)(message(content), context()).content[ANSWER]
        assert found == node(one).answer(content).content[ANSWER]


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
    def test_in_training_leaves_the_device(
        self,
        make: Make,
        node: Call,
        caplog: pytest.LogCaptureFixture,
        fault: Exception,
        offer: Call,
        said: Call,
        sent: Call,
    ) -> None:
        def fail(task: Task) -> None:
            raise fault from ValueError(SECRET)

        with caplog.at_level(logging.DEBUG):
            reply = node(contribute=fail).answer(offer(make()))
        assert said(reply) in (Code.FAILED, Code.PLAN, Code.DATA)
        assert SECRET.encode() not in sent(reply)
        assert caplog.records  # the owner reads why in the device's own log

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
    def test_in_opening_the_device_leaves_it(
        self, make: Make, fault: Exception, offer: Call, message: Call, context: Call, said: Call, sent: Call
    ) -> None:
        def open_device(_: Context) -> Device:
            raise fault

        reply = make_app(open_device)(message(offer(make())), context())
        said(reply)
        assert SECRET.encode() not in sent(reply)

    def test_in_reading_the_plan_leaves_the_device(
        self, make: Make, node: Call, offer: Call, said: Call, sent: Call
    ) -> None:
        reply = node().answer(offer(make().offered() + f'\n[data]\nname = "{SECRET}"'))
        assert said(reply) is Code.PLAN
        assert SECRET.encode() not in sent(reply)

    def test_in_a_record_that_training_chokes_on_leaves_the_device(
        self, make: Make, sample: Sample, node: Call, offer: Call
    ) -> None:
        records = sample(12)
        records.features[:] = np.nan
        array = node(records).answer(offer(make())).content.array_records[UPDATE][UPDATE]
        words = np.frombuffer(array.data, dtype="<u8")
        assert np.abs(mechanism_of(make()).ring.decode(words, 51)).max() > 0
