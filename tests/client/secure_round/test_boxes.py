"""Devices that are asked whether the boxes sealed for them open, before anyone masks or pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from devices import said_code
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from secure_devices import code_of, make_lab

from bract.privacy.messages import BOXES, SECAGG, TRAIN
from bract.privacy.server_view import ANSWER, Code

EVERY = range(6)


def spoil(server: Any, sender: int, receiver: int) -> None:
    """Flip a bit of the box that one device sealed for another."""
    box = server.cohort.box(sender, receiver)
    sealed = server.cohort.boxes[sender]
    at = sealed.index(box)
    server.cohort.boxes[sender] = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]


def ask(server: Any, place: int = 0) -> Any:
    return server.tell(place, BOXES, cohort=server.invitation(place))


@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
def test_boxes_that_open_are_acknowledged_in_one_word(mode: str) -> None:
    """Nothing but the code leaves, no memory changes, and the round goes on as if nobody had asked."""
    server = make_lab(6, aggregation={"protocol": "secagg", "mode": mode})
    server.until("shares")
    memory = [recorddict_to_proto(member.context.state) for member in server.members]
    for place in EVERY:
        reply = ask(server, place)
        assert said_code(reply) is Code.OK
        assert set(reply.content) == {ANSWER}
    assert [recorddict_to_proto(member.context.state) for member in server.members] == memory
    sent = server.train()
    more = {"signatures": server.consent(EVERY)} if mode == "malicious-server" else {}
    assert np.array_equal(server.opened(sent, server.unmask(EVERY, **more)), server.true(EVERY))


def test_whoever_names_a_sender_masks_once_it_is_gone() -> None:
    server = make_lab(6)
    server.until("shares")
    spoil(server, 5, 0)
    before = set(server.members[0].journal.pages.steps)
    reply = ask(server)
    assert code_of(reply) is Code.SEALED
    assert dict(reply.content.config_records[SECAGG]) == {"senders": server.bits([5])}
    assert set(reply.content) == {ANSWER, SECAGG}
    assert set(server.members[0].journal.pages.steps) == before
    del server.cohort.boxes[5]
    sent = server.train(range(5))
    assert np.array_equal(server.opened(sent, server.unmask(range(5))), server.true(range(5)))


def test_the_same_boxes_get_the_same_answer_and_others_none() -> None:
    """Neither a box more or less nor an earlier memory of the device gets a second answer from it."""
    server = make_lab(6)
    server.until("shares")
    member, true = server.members[0], dict(server.cohort.boxes)
    earlier = recorddict_to_proto(member.context.state)
    spoil(server, 5, 0)
    first = ask(server)
    spoilt = dict(server.cohort.boxes)
    assert code_of(first) is Code.SEALED
    for boxes in (true, spoilt, {p: box for p, box in true.items() if p != 5}, spoilt):
        member.context.state = recorddict_from_proto(earlier)
        server.cohort.boxes.clear()
        server.cohort.boxes.update(boxes)
        reply = ask(server)
        if boxes == spoilt:
            assert reply.content == first.content
        else:
            assert code_of(reply) is Code.MALFORMED


@pytest.mark.parametrize("stage", ["fresh", "keys", "masked", "agreed"])
def test_boxes_are_acknowledged_at_their_stage_alone(stage: str) -> None:
    server = make_lab(6)
    server.until("shares")
    invitation = server.invitation(0)
    other = make_lab(6)
    other.until(stage)
    assert said_code(other.tell(0, BOXES, cohort=invitation)) is Code.LOST


def test_a_device_that_masked_acknowledges_nothing() -> None:
    """Though its memory is from before: the journal on its disk knows."""
    server = make_lab(6)
    server.until("shares")
    earlier = recorddict_to_proto(server.members[0].context.state)
    assert code_of(server.tell(0, TRAIN, cohort=server.invitation(0))) is Code.OK
    server.members[0].context.state = recorddict_from_proto(earlier)
    assert code_of(ask(server)) is Code.MALFORMED


def test_a_device_started_anew_acknowledges_nothing() -> None:
    server = make_lab(6)
    server.until("shares")
    server.restart(0)
    assert code_of(ask(server)) is Code.LOST


def test_boxes_of_a_card_that_is_new_are_acknowledged() -> None:
    """A round that came to nothing is played anew under its number: with other cards, and so other boxes."""
    server = make_lab(6)
    server.until("shares")
    old = server.invitation(0)
    assert code_of(ask(server)) is Code.OK
    server.keys()
    server.shares()
    assert code_of(ask(server)) is Code.OK
    assert code_of(server.tell(0, BOXES, cohort=old)) is Code.MALFORMED


@pytest.mark.parametrize(
    ("members", "wanted"), [(range(3), Code.REFUSED), (range(1, 6), Code.MALFORMED), ([], Code.MALFORMED)]
)
def test_members_are_checked_as_when_the_device_masks(members: Any, wanted: Code) -> None:
    server = make_lab(6)
    server.until("shares")
    for place in set(EVERY) - set(members):
        del server.cohort.boxes[place]
    assert code_of(ask(server)) is wanted


def test_the_answer_depends_on_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that cannot so much as look at their records acknowledge their boxes all the same."""
    server = make_lab(6, real=True)
    server.until("shares")
    touched: list[str] = []
    for name in ("fitting", "check_kind", "try_training"):
        monkeypatch.setattr(f"bract.client.app.{name}", lambda *a, name=name: touched.append(name))
    assert [code_of(ask(server, place)) for place in EVERY] == [Code.OK] * 6
    assert not touched
