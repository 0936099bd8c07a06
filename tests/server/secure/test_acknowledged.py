"""Rounds in which devices say before they train whether their boxes open: a dispute costs nobody a payment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from bract.privacy import RoundError
from bract.privacy.messages import BOXES, SECAGG, SHARES, TRAIN
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.server_view import ANSWER
from bract.server.answers import RoundFailed

Call = Callable[..., Any]
BOX = 82 + 64
"""Bytes of a box with its hashes."""


def accusing(server: Any, victims: Iterable[int], count: int | None = None) -> Callable[[Message], Message]:
    """What answers `sealed` in a reply's place and names the devices at these places among all of them."""
    order = sorted(server.nodes, key=lambda node: server.identities[node].public)
    senders = to_bits([order.index(server.nodes[place]) for place in victims], count or len(order))

    def accuse(reply: Message) -> Message:
        reply.content = RecordDict(
            {ANSWER: ConfigRecord({"code": "sealed"}), SECAGG: ConfigRecord({"senders": senders})}
        )
        return reply

    return accuse


def played(server: Any, numbers: Iterable[int]) -> list[Any]:
    """What each round came to: its sum, or the error that it ended in."""
    results: list[Any] = []
    for number in numbers:
        try:
            found = server.play(number)
            assert np.array_equal(found.total.vector, server.true(found.survivors))
            results.append(found)
        except RoundFailed as fault:
            results.append(fault)
    return results


def paid_and_lost(results: Iterable[Any]) -> int:
    return sum(isinstance(result, RoundFailed) and result.lost for result in results)


def lasting(federation: Call, devices: int = 10, **more: Any) -> Any:
    return federation(devices, cohort={"rounds": 40}, **more)


@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
@pytest.mark.parametrize("then", ["names nobody", "is silent"])
def test_one_who_seals_garbage_for_c_others_loses_one_round(
    federation: Call, saying: Call, then: str, mode: str
) -> None:
    """Ten devices, three may collude: three spoilt boxes and one vector missing leave six of seven needed.

    It is named by three, not more, so it stays seated; but from the second round on nobody pays for it.
    """
    server = lasting(federation, aggregation={"protocol": "secagg", "deadline": 0.01, "mode": mode})
    hostile = server.nodes[0]
    server.tamper[SHARES, hostile, 0] = saying("sealed", lambda boxes: bytes(BOX * 3) + boxes[BOX * 3 :])
    server.tamper[TRAIN, hostile, 0] = accusing(server, []) if then == "names nobody" else lambda reply: None
    first, *later = played(server, range(1, 6))
    assert (paid_and_lost([first]), len(first.took_part)) == (1, 6 if then == "names nobody" else 7)
    assert [result.survivors for result in later] == [server.nodes[1:]] * 4
    assert server.charges == [server.nodes[1:]] * 4


def test_nobody_is_asked_in_a_run_where_nobody_named(federation: Call) -> None:
    """Nor where a device says `sealed` and names nobody, or itself."""
    server = lasting(federation)
    server.tamper[TRAIN, server.nodes[0], 0] = accusing(server, [])
    server.tamper[TRAIN, server.nodes[1], 1] = accusing(server, [1])
    server.silence(TRAIN, [server.nodes[2]], 3)
    assert paid_and_lost(played(server, range(1, 5))) == 0
    assert not any(BOXES in trip for trip in server.trips)


def test_all_are_asked_in_every_round_after_one_is_named(federation: Call) -> None:
    server = lasting(federation, 6)
    server.tamper[TRAIN, server.nodes[0], 1] = accusing(server, [1])
    for number in (1, 2, 3):
        server.play(number)
    assert [trip for trip in server.trips if BOXES in trip] == [{BOXES: 5}, {BOXES: 6}]


@pytest.mark.parametrize("victims", [[1, 2], [1, 2, 3], [1, 2, 3, 4], range(1, 10)])
@pytest.mark.parametrize("silent", [False, True])
def test_one_who_names_many_evicts_none_and_loses_one_round(
    federation: Call, victims: Sequence[int], silent: bool
) -> None:
    """It may name however many, and train or not: it sits out in most rounds, and has one lost at most."""
    server = lasting(federation)
    server.tamper[BOXES, server.nodes[0], 0] = accusing(server, victims)
    if silent:
        server.silence(TRAIN, server.nodes[:1])
    server.tamper[TRAIN, server.nodes[0], 1] = accusing(server, victims)
    results = played(server, range(1, 25))
    assert paid_and_lost(results) <= silent
    summed = Counter(node for result in results if not isinstance(result, RoundFailed) for node in result.survivors)
    assert min(summed[node] for node in server.nodes[1:]) >= 15


def test_one_who_names_one_evicts_it_for_no_two_rounds(federation: Call) -> None:
    """One of the two lies, nobody knows which: they sit out in turn."""
    server = lasting(federation)
    server.tamper[BOXES, server.nodes[0], 0] = server.tamper[TRAIN, server.nodes[0], 1] = accusing(server, [1])
    results = played(server, range(1, 8))
    there = [[node in result.survivors for node in server.nodes[:2]] for result in results[2:]]
    assert all(one != other and sum(one) == 1 for one, other in pairwise(there))
    assert all(set(server.nodes[2:]) <= set(result.survivors) for result in results)


def test_c_who_name_one_do_not_evict_it_for_ever(federation: Call) -> None:
    server = lasting(federation)
    for node in server.nodes[:3]:
        server.tamper[BOXES, node, 0] = server.tamper[TRAIN, node, 1] = accusing(server, [3])
    results = played(server, range(1, 24))
    assert paid_and_lost(results) == 0
    assert sum(server.nodes[3] in result.survivors for result in results[2:]) >= 5


def test_one_who_names_one_and_is_silent_has_one_round_lost(federation: Call) -> None:
    """Five devices, of which one may be missing: where the named one sits out, a silent namer has the round lost.

    From then on it is the one who sits out.
    """
    server = lasting(federation, 5)
    server.silence(TRAIN, server.nodes[:1])
    server.tamper[BOXES, server.nodes[0], 0] = server.tamper[TRAIN, server.nodes[0], 1] = accusing(server, [1])
    results = played(server, range(1, 25))
    assert paid_and_lost(results) <= 1
    assert [result.survivors for result in results[6:]] == [server.nodes[1:]] * 18


def test_whoever_names_boxes_that_it_acknowledged_is_left_out(federation: Call) -> None:
    server = lasting(federation)
    server.tamper[TRAIN, server.nodes[0], 0] = accusing(server, [1])
    results = played(server, range(1, 7))
    assert [result.survivors for result in results] == [server.nodes[1:]] * 6
    assert [trip for trip in server.trips if BOXES in trip] == [{BOXES: 9}, {BOXES: 10}, *[{BOXES: 9}] * 3]


@pytest.mark.parametrize("code", ["failed", "lost", "malformed", "ok, and more", "names itself", "too short", "late"])
def test_an_unusable_answer_costs_its_sender_the_round(federation: Call, code_only: Call, code: str) -> None:
    def more(reply: Message) -> Message:
        reply.content[SECAGG] = ConfigRecord({"senders": b"\1\0"})
        return reply

    server = lasting(federation)
    server.tamper[TRAIN, server.nodes[1], 1] = accusing(server, [0])
    special = {
        "ok, and more": more,
        "names itself": accusing(server, [0]),
        "too short": accusing(server, [], 8),
        "late": lambda reply: None,
    }
    server.tamper[BOXES, server.nodes[0], 0] = special.get(code) or code_only(code)
    assert [result.survivors for result in played(server, (1, 2, 3))][2] == server.nodes[1:]


def test_too_few_who_acknowledge_lose_no_round(federation: Call) -> None:
    """Nobody masked or paid, so it is played again under its number."""
    server = lasting(federation)
    server.tamper[TRAIN, server.nodes[0], 1] = accusing(server, [1])
    played(server, (1, 2))
    server.silence(BOXES, server.nodes[:4], 3)
    with pytest.raises(
        RoundError, match="6 of 10 devices sent a confirmation of their boxes, the round needs 7"
    ) as caught:
        server.play(3)
    assert isinstance(caught.value, RoundFailed)
    assert not caught.value.lost
    for node in server.nodes[:4]:
        del server.tamper[BOXES, node, 3]
    assert server.play(3).survivors == server.nodes
