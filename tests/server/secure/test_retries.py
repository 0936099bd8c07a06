"""Asking again under masks: for the same list alone, by the same bytes, of those alone that gave no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from bract.privacy.messages import CONSENT, KEYS, SECAGG, SHARES, TRAIN, UNMASK
from bract.server.aggregation import base as sums
from bract.server.answers import RoundFailed

Call = Callable[..., Any]
MALICIOUS = {"protocol": "secagg", "deadline": 0.01, "mode": "malicious-server"}
PAUSES = (1.0, 2.0)


class Asked:
    """What the devices of a federation were asked, in order, and what was said to the operator."""

    def __init__(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[Message] = []
        self.lines: list[str] = []
        self.waited: list[float] = []
        monkeypatch.setattr(sums, "wait", self.waited.append)
        collector = server.collector
        collector._link = replace(collector._link, say=self.lines.append, pauses=PAUSES)
        push = collector._link.grid.push_messages

        def pushing(messages: Any) -> Any:
            pushed = list(messages)
            self.messages += pushed
            return push(pushed)

        collector._link.grid.push_messages = pushing

    def of(self, kind: str, node: int) -> list[dict[str, Any]]:
        """What this node was asked in messages of this kind."""
        return [
            dict(message.content.config_records[SECAGG])
            for message in self.messages
            if (message.metadata.message_type, message.metadata.dst_node_id) == (kind, node)
        ]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Asked]:
    return lambda server: Asked(server, monkeypatch)


def lose(server: Any, kind: str, nodes: list[int], times: int) -> None:
    """Have these nodes' replies to this kind of message be lost so many times: they did what they were asked."""

    def losing(left: list[int]) -> Callable[[Message], Message | None]:
        def tamper(reply: Message) -> Message | None:
            left[0] -= 1
            return None if left[0] >= 0 else reply

        return tamper

    server.tamper |= {(kind, node, 0): losing([times]) for node in nodes}


@pytest.mark.parametrize("kind", [CONSENT, UNMASK])
@pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
@pytest.mark.parametrize("times", [1, 2])
def test_lost_answers_are_asked_for_again(
    federation: Call, watch: Call, kind: str, exchange: str, times: int
) -> None:
    """The sum is exact."""
    server = federation(6, aggregation=MALICIOUS | {"key_exchange": exchange})
    asked = watch(server)
    lost = server.nodes[:3]
    lose(server, kind, lost, times)
    found = server.play()
    assert found.survivors == server.nodes
    assert np.array_equal(found.total.vector, server.true(server.nodes))
    assert server.charges == [server.nodes]
    assert asked.waited == list(PAUSES[:times])
    assert [len(asked.of(kind, node)) for node in server.nodes] == [1 + times] * 3 + [1] * 3


@pytest.mark.parametrize("kind", [CONSENT, UNMASK])
def test_a_device_is_asked_again_by_the_same_bytes(federation: Call, watch: Call, kind: str) -> None:
    """The same request, to the last byte."""
    server = federation(6, aggregation=MALICIOUS)
    asked = watch(server)
    lose(server, kind, server.nodes[:3], 2)
    server.play()
    for node in server.nodes[:3]:
        first, *again = asked.of(kind, node)
        assert again == [first] * 2


def test_who_opened_its_shares_gives_the_same_ones_again(federation: Call, watch: Call) -> None:
    server = federation(6)
    watch(server)
    given: dict[int, list[bytes]] = {node: [] for node in server.nodes}

    def noting(node: int) -> Callable[[Message], Message | None]:
        def tamper(reply: Message) -> Message | None:
            given[node].append(bytes(reply.content.config_records[SECAGG]["opened"]))  # pyright: ignore
            return reply if len(given[node]) == 3 else None

        return tamper

    server.tamper |= {(UNMASK, node, 0): noting(node) for node in server.nodes[:3]}
    server.play()
    for node in server.nodes[:3]:
        assert len(given[node]) == 3
        assert len(set(given[node])) == 1


@pytest.mark.parametrize("code", ["malformed", "failed", "lost", "refused"])
@pytest.mark.parametrize("kind", [CONSENT, UNMASK])
def test_a_device_that_answers_wrongly_is_not_asked_again(
    federation: Call, watch: Call, code_only: Call, kind: str, code: str
) -> None:
    server = federation(6, aggregation=MALICIOUS)
    asked = watch(server)
    lose(server, kind, server.nodes[:2], 1)
    server.tamper |= {(kind, node, 0): code_only(code) for node in server.nodes[2:3]}
    found = server.play()
    assert np.array_equal(found.total.vector, server.true(server.nodes))
    assert [len(asked.of(kind, node)) for node in server.nodes] == [2, 2, 1, 1, 1, 1]


def test_enough_shares_are_not_waited_for_more(federation: Call, watch: Call) -> None:
    server = federation(6)
    asked = watch(server)
    server.silence(UNMASK, server.nodes[:1])
    server.play()
    assert asked.waited == []


@pytest.mark.parametrize(("kind", "paid"), [(CONSENT, False), (UNMASK, True)])
def test_a_round_without_answers_is_lost_after_a_few_tries(
    federation: Call, watch: Call, kind: str, paid: bool
) -> None:
    """A bounded number of them."""
    server = federation(6, aggregation=MALICIOUS)
    asked = watch(server)
    server.silence(kind, server.nodes[:3])
    with pytest.raises(RoundFailed) as caught:
        server.play()
    assert caught.value.lost
    assert caught.value.paid == paid == bool(server.charges)
    assert asked.waited == list(PAUSES)
    assert "3 late" in caught.value.what
    server.tamper.clear()
    after = server.play(2)
    assert np.array_equal(after.total.vector, server.true(after.survivors))


def test_codes_at_unmasking_are_counted_and_named(federation: Call, watch: Call, code_only: Call) -> None:
    server = federation(6)
    asked = watch(server)
    names = {identity.public: f"hospital-{node}" for node, identity in server.identities.items()}
    server.collector._roster = replace(server.collector._roster, names=names)
    server.tamper[UNMASK, server.nodes[0], 0] = code_only("lost")
    server.silence(UNMASK, server.nodes[1:2])
    found = server.play()
    assert found.opening == {"lost": 1, "ok": 4, "late": 1}
    assert asked.lines == [
        f"round 1, asked to unmask the sum: late: hospital-{server.nodes[1]}",
        f"round 1, asked to unmask the sum: said lost: hospital-{server.nodes[0]}",
    ]


@pytest.mark.parametrize("kind", [KEYS, SHARES])
def test_a_round_that_fails_before_anyone_masked_is_not_lost(federation: Call, watch: Call, kind: str) -> None:
    """Devices show keys anew: the same round can be played with all of them."""
    server = federation(6)
    watch(server)
    lose(server, kind, server.nodes[:3], 1)
    with pytest.raises(RoundFailed) as caught:
        server.play()
    assert not caught.value.lost
    assert server.charges == []
    assert np.array_equal(server.play(1).total.vector, server.true(server.nodes))


@pytest.mark.parametrize(("code", "lost"), [("late", True), ("failed", True), ("lost", False), ("refused", False)])
def test_a_round_is_lost_if_anyone_may_have_masked(
    federation: Call, watch: Call, code_only: Call, code: str, lost: bool
) -> None:
    server = federation(6)
    watch(server)
    if code == "late":
        server.silence(TRAIN, server.nodes)
    else:
        server.tamper |= {(TRAIN, node, 0): code_only(code) for node in server.nodes}
    with pytest.raises(RoundFailed) as caught:
        server.play()
    assert caught.value.lost == lost
    assert list(caught.value.took_part) == (server.nodes if lost else [])


def test_a_device_that_masked_in_a_lost_round_is_in_the_next_one(federation: Call, watch: Call) -> None:
    server = federation(6)
    watch(server)
    lose(server, TRAIN, server.nodes[:3], 1)
    with pytest.raises(RoundFailed):
        server.play(1)
    found = server.play(2)
    assert found.survivors == server.nodes
    assert np.array_equal(found.total.vector, server.true(server.nodes))
