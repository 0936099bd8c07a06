"""A server that asks twice, too early or too late; and devices that forgot a round because they were started anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from devices import said_code
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.supercore.task_identity import TaskIdentity
from secure_devices import code_of, make_lab, make_secure_plan

from bract.privacy.messages import CONSENT, KEYS, SECAGG, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.keys import read_card
from bract.privacy.server_view import ANSWER, Code

MALICIOUS = {"protocol": "secagg", "mode": "malicious-server"}
EVERY = range(5)


def asked(server: Any, kind: str, place: int = 0) -> dict[str, bytes]:
    """What an honest server would say in a message of this kind."""
    sections: dict[str, Callable[[], dict[str, bytes]]] = {
        KEYS: dict,
        SHARES: lambda: {"cards": server.seating(place)},
        TRAIN: lambda: {"cohort": server.invitation(place)},
        CONSENT: lambda: {"survivors": server.bits(EVERY)},
        UNMASK: lambda: {"survivors": server.bits(EVERY)} | server.context_signatures(EVERY),
    }
    return sections[kind]()


class TestARound:
    def test_is_trained_in_once(self) -> None:
        server = make_lab(5)
        server.until("masked")
        for parameters in (server.parameters, server.parameters + 1):
            reply = server.tell(0, TRAIN, parameters=parameters, cohort=server.invitation(0))
            assert said_code(reply) is Code.MALFORMED

    def test_is_forgotten_if_there_are_no_masks_to_be_had(self) -> None:
        server = make_lab(5)
        server.until("shares")
        assert said_code(server.tell(0, TRAIN, cohort=b"")) is Code.MALFORMED
        assert said_code(server.tell(0, TRAIN, cohort=server.invitation(0))) is Code.LOST

    def test_gets_no_fresh_keys_once_trained_in(self) -> None:
        server = make_lab(5)
        server.until("masked")
        assert said_code(server.tell(0, KEYS)) is Code.MALFORMED
        assert said_code(server.tell(0, SHARES, cards=server.seating(0))) is Code.MALFORMED

    def test_before_the_last_one_gets_nothing(self) -> None:
        server = make_lab(5)
        server.keys(2)
        server.shares()
        server.train()
        server.number = 1
        for kind in (KEYS, SHARES, TRAIN):
            assert said_code(server.tell(0, kind, **asked(server, kind))) is Code.MALFORMED
        for kind in (CONSENT, UNMASK):
            assert said_code(server.tell(0, kind, **asked(server, kind))) is Code.LOST

    def test_shares_its_secrets_once(self) -> None:
        server = make_lab(5)
        server.until("shares")
        assert said_code(server.tell(0, SHARES, cards=server.seating(0))) is Code.LOST

    @pytest.mark.parametrize("mode", [{}, MALICIOUS])
    def test_is_opened_for_one_list_as_often_as_it_is_asked(self, mode: dict[str, Any]) -> None:
        """A second, different list gets nothing, before or after the first is asked for again."""
        server = make_lab(5, aggregation={"protocol": "secagg"} | mode)
        sent = server.until("masked")
        signed = {"signatures": server.consent(EVERY)} if mode else {}
        opened = server.unmask(EVERY, **signed)
        for alive in (range(4), EVERY, range(4), EVERY):
            reply = server.tell(
                0, UNMASK, survivors=server.bits(alive), **(signed or server.context_signatures(alive))
            )
            if alive == EVERY:
                assert server.section(reply, "opened") == opened[0]
            else:
                assert said_code(reply) is Code.MALFORMED
        assert np.array_equal(server.opened(sent, opened), server.true(EVERY))

    def test_is_opened_for_one_request_to_the_last_byte(self) -> None:
        """Of other signatures under the same list too: what is asked differently is another request."""
        server = make_lab(5, aggregation=MALICIOUS)
        server.until("masked")
        signed = server.consent(EVERY)
        server.unmask(EVERY, signatures=signed)
        for other in (signed[:-68], b"", signed + signed[-68:]):
            reply = server.tell(0, UNMASK, survivors=server.bits(EVERY), signatures=other)
            assert said_code(reply) is Code.MALFORMED
        assert said_code(server.tell(0, UNMASK, survivors=server.bits(EVERY))) is Code.MALFORMED

    def test_is_signed_for_one_list_as_often_as_it_is_asked(self) -> None:
        """It is signed for no other list."""
        server = make_lab(5, aggregation=MALICIOUS)
        server.until("masked")
        first = server.consent(EVERY)
        assert said_code(server.tell(0, CONSENT, survivors=server.bits(range(4)))) is Code.REFUSED
        assert server.consent(EVERY) == first

    def test_that_was_opened_is_not_signed(self) -> None:
        server = make_lab(5)
        server.until("masked")
        server.unmask(EVERY)
        assert said_code(server.tell(0, CONSENT, survivors=server.bits(EVERY))) is Code.LOST

    @pytest.mark.parametrize(
        ("stage", "kinds"),
        [
            ("fresh", [CONSENT, UNMASK]),
            ("keys", [TRAIN, CONSENT, UNMASK]),
            ("shares", [CONSENT, UNMASK]),
        ],
    )
    def test_goes_from_stage_to_stage(self, stage: str, kinds: list[str]) -> None:
        for kind in kinds:
            server = make_lab(5)
            server.until(stage)
            sections = {"cohort": b"\x1f"} if kind == TRAIN else {"survivors": b"\x1f"}
            assert said_code(server.tell(0, kind, **sections)) is Code.LOST

    def test_under_a_server_that_lies_is_not_opened_unsigned(self) -> None:
        server = make_lab(5, aggregation=MALICIOUS)
        server.until("masked")
        assert said_code(server.tell(0, UNMASK, survivors=server.bits(EVERY))) is Code.LOST

    def test_more_than_a_device_may_take_part_in_gets_nothing(self) -> None:
        server = make_lab(3, data={"clients": 6})
        assert server.plan.participations == 2
        for number in (1, 2):
            server.keys(number)
            server.shares()
            server.train()
        server.number = 3
        assert said_code(server.tell(0, KEYS)) is Code.REFUSED
        assert said_code(server.tell(0, SHARES, cards=b"")) is Code.REFUSED
        assert said_code(server.tell(0, TRAIN, cohort=b"")) is Code.REFUSED

    def test_beyond_a_devices_limit_gets_nothing(self) -> None:
        """It gets nothing though the device lost its count."""
        server = make_lab(3, data={"clients": 6})
        for number in (1, 2, 3):
            for place in range(3):
                server.restart(place)
            server.keys(number)
            server.shares()
            if number < 3:
                server.train()
        assert said_code(server.tell(0, TRAIN, cohort=server.invitation(0))) is Code.REFUSED

    @pytest.mark.parametrize("kind", [KEYS, SHARES, TRAIN])
    def test_after_the_plans_last_gets_nothing(self, kind: str) -> None:
        server = make_lab(3)
        server.number = server.plan.cohort.rounds + 1
        assert said_code(server.tell(0, kind)) is Code.MALFORMED


class TestKeys:
    def test_are_fresh_whenever_they_are_asked_for(self) -> None:
        server = make_lab(3)
        cards = [*server.keys(1), *server.keys(1), *server.keys(2)]
        read = [read_card(card, hybrid=False) for card in cards]
        keys = [pair.x25519 for card in read for pair in (card.mask, card.channel)]
        assert len(set(keys)) == 2 * len(cards)

    def test_asked_for_again_make_the_earlier_shares_worthless(self) -> None:
        server = make_lab(5)
        server.until("shares")
        old = server.invitation(0)
        server.tell(0, KEYS)
        assert said_code(server.tell(0, TRAIN, cohort=old)) is Code.LOST


STAGES = {"keys": SHARES, "shares": TRAIN, "masked": UNMASK}


class TestADeviceStartedAnew:
    @pytest.mark.parametrize("stage", STAGES)
    def test_says_that_it_is_lost(self, stage: str) -> None:
        server = make_lab(5)
        server.until(stage)
        server.restart(0)
        kind = STAGES[stage]
        assert said_code(server.tell(0, kind, **asked(server, kind))) is Code.LOST

    @pytest.mark.parametrize("stage", ["masked", "agreed"])
    def test_says_that_it_is_lost_where_lists_are_signed(self, stage: str) -> None:
        server = make_lab(5, aggregation=MALICIOUS)
        server.until(stage)
        server.restart(0)
        kind = CONSENT if stage == "masked" else UNMASK
        more = {"signatures": b""} if kind == UNMASK else {}
        assert said_code(server.tell(0, kind, **asked(server, kind), **more)) is Code.LOST

    @pytest.mark.parametrize("stage", STAGES)
    @pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
    def test_is_a_dropout_that_the_others_make_up_for(self, stage: str, exchange: str) -> None:
        server, others = make_lab(5, aggregation={"protocol": "secagg", "key_exchange": exchange}), range(1, 5)
        sent = server.until(stage)
        server.restart(0)
        if stage == "keys":
            server.shares(others)
        if stage != "masked":
            sent = server.train(others)
        opened = server.unmask(sorted(sent), who=others)
        assert np.array_equal(server.opened(sent, opened), server.true(sent))

    def test_takes_part_in_the_next_round(self) -> None:
        server = make_lab(5)
        server.until("masked")
        server.restart(0)
        server.keys(2)
        server.shares()
        sent = server.train()
        assert np.array_equal(server.opened(sent, server.unmask(EVERY)), server.true(EVERY))

    def test_does_not_train_again_though_led_there_again(self) -> None:
        """Its memory is back at an earlier stage, as if the node had been lost before it was written."""
        server = make_lab(5)
        server.until("shares")
        member = server.members[0]
        earlier = recorddict_to_proto(member.context.state)
        assert server.tell(0, TRAIN, **asked(server, TRAIN)).content
        member.context.state = recorddict_from_proto(earlier)
        assert said_code(server.tell(0, TRAIN, **asked(server, TRAIN))) is Code.MALFORMED

    @pytest.mark.parametrize(("kind", "name"), [(CONSENT, "signature"), (UNMASK, "opened")])
    def test_repeats_its_answer_and_gives_no_other(self, kind: str, name: str) -> None:
        """The journal on its disk knows the request: a second, different list finds it there."""
        server = make_lab(5)
        server.until("masked")
        member = server.members[0]
        earlier = recorddict_to_proto(member.context.state)
        first = server.section(server.tell(0, kind, **asked(server, kind)), name)
        for alive in (range(4), EVERY, range(4)):
            member.context.state = recorddict_from_proto(earlier)
            more = server.context_signatures(alive) if kind == UNMASK else {}
            reply = server.tell(0, kind, survivors=server.bits(alive), **more)
            if alive == EVERY:
                assert server.section(reply, name) == first
            else:
                assert said_code(reply) is Code.MALFORMED

    @pytest.mark.parametrize(("kind", "name"), [(CONSENT, "signature"), (UNMASK, "opened")])
    def test_keeps_in_memory_no_list_that_its_journal_refused(self, kind: str, name: str) -> None:
        """It notes a list before it acts on it, so the list that it answered before is still the one it answers."""
        server = make_lab(5)
        server.until("masked")
        member = server.members[0]
        earlier = recorddict_to_proto(member.context.state)
        first = server.section(server.tell(0, kind, **asked(server, kind)), name)
        member.context.state = recorddict_from_proto(earlier)
        more = server.context_signatures(range(4)) if kind == UNMASK else {}
        assert said_code(server.tell(0, kind, survivors=server.bits(range(4)), **more)) is Code.MALFORMED
        assert server.section(server.tell(0, kind, **asked(server, kind)), name) == first

    def test_does_not_share_one_cards_secrets_twice(self) -> None:
        server = make_lab(5)
        server.keys()
        member = server.members[0]
        earlier = recorddict_to_proto(member.context.state)
        server.shares()
        member.context.state = recorddict_from_proto(earlier)
        assert said_code(server.tell(0, SHARES, cards=server.seating(0))) is Code.MALFORMED
        assert said_code(server.tell(0, TRAIN, **asked(server, TRAIN))) is Code.LOST  # nor does it go on as if it had

    def test_takes_no_second_part_in_a_round_it_trained_in(self) -> None:
        server = make_lab(5)
        server.until("masked")
        for place in range(5):
            server.restart(place)
            assert said_code(server.tell(place, KEYS)) is Code.MALFORMED


@pytest.mark.parametrize("byte", [0, 75, -33, -1])
@pytest.mark.parametrize(("sender", "receiver"), [(5, 0), (0, 5)])
@pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
def test_a_forged_box_is_refused_and_its_sender_named(exchange: str, sender: int, receiver: int, byte: int) -> None:
    """It could not help to open the sender's secrets, or (hybrid) their masks might not cancel."""
    server = make_lab(6, aggregation={"protocol": "secagg", "key_exchange": exchange})
    server.until("shares")
    tamper(server, sender, receiver, byte)
    before = set(server.members[receiver].journal.pages.steps)
    reply = server.tell(receiver, TRAIN, cohort=server.invitation(receiver))
    assert code_of(reply) is Code.SEALED
    assert dict(reply.content.config_records[SECAGG]) == {"senders": server.bits([sender])}
    assert set(reply.content) == {ANSWER, SECAGG}
    assert set(server.members[receiver].journal.pages.steps) == before
    others = [p for p in range(6) if p != receiver]
    sent = server.train(others)
    assert np.array_equal(server.opened(sent, server.unmask(others)), server.true(others))


def tamper(server: Any, sender: int, receiver: int, byte: int) -> None:
    """Flip a bit of one byte of the box that one device sealed for another."""
    box = server.cohort.box(sender, receiver)
    at = server.cohort.boxes[sender].index(box) + byte % len(box)
    sealed = bytearray(server.cohort.boxes[sender])
    sealed[at] ^= 1
    server.cohort.boxes[sender] = bytes(sealed)


def test_all_whose_boxes_do_not_open_are_named() -> None:
    """Nothing else is: a fault beside them keeps its own code."""
    server = make_lab(6)
    server.until("shares")
    for sender in (1, 4):
        tamper(server, sender, 0, -1)
    reply = server.tell(0, TRAIN, cohort=server.invitation(0))
    assert code_of(reply) is Code.SEALED
    assert dict(reply.content.config_records[SECAGG]) == {"senders": server.bits([1, 4])}


def test_who_refused_boxes_takes_part_once_keys_are_new() -> None:
    """Once keys are asked for anew."""
    server = make_lab(6)
    server.until("shares")
    tamper(server, 5, 0, 0)
    assert code_of(server.tell(0, TRAIN, cohort=server.invitation(0))) is Code.SEALED
    server.keys()
    server.shares()
    sent = server.train()
    assert np.array_equal(server.opened(sent, server.unmask(range(6))), server.true(range(6)))


def test_boxes_from_before_new_keys_are_masked_by_nobody() -> None:
    """Boxes of a seating before keys were asked for anew."""
    server = make_lab(6)
    server.until("shares")
    old = [server.invitation(p) for p in range(6)]
    server.keys()
    server.shares()
    for place in range(6):
        assert code_of(server.tell(place, TRAIN, cohort=old[place])) is Code.SEALED


def test_rounds_of_a_plan_are_counted_on_disk_over_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that starts another run under the same plan, with devices whose memory is lost, gains no round."""
    server = make_lab(3)
    globals_of_lab = type(server).session.fget.__globals__
    codes, run = [], 1
    while len(codes) <= server.plan.participations:
        monkeypatch.setitem(globals_of_lab, "RUN", run)
        monkeypatch.setattr(TaskIdentity, "_run_id", run)
        for place in server.everyone:
            server.restart(place)
        server.until("shares")
        reply = server.tell(0, TRAIN, cohort=server.invitation(0))
        codes.append(reply.content.config_records[ANSWER]["code"])
        run += 1
    assert codes == [Code.OK] * server.plan.participations + [Code.REFUSED]


def test_rounds_of_another_plan_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that a device has had its rounds of takes none from another."""
    server, few = make_lab(3, data={"clients": 6}), {"data": {"clients": 6}}
    for number in range(1, server.plan.participations + 1):
        server.keys(number)
        server.shares()
        server.train()
    server.plan, server.number = make_secure_plan(3, privacy={"clip_norm": 0.5}, **few), 1
    monkeypatch.setitem(type(server).session.fget.__globals__, "RUN", 2)
    monkeypatch.setattr(TaskIdentity, "_run_id", 2)
    server.until("shares")
    assert code_of(server.tell(0, TRAIN, cohort=server.invitation(0))) is Code.OK
