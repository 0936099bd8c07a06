"""How many trips a round takes, and what goes with which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bract.privacy.messages import CONSENT, KEYS, SHARES, TRAIN, UNMASK
from bract.simulations.local_grid import FIRST_NODE

Call = Callable[..., Any]


def aggregation(**keys: Any) -> dict[str, Any]:
    return {"protocol": "secagg", "deadline": 0.01, **keys}


class TestTheTrips:
    def test_are_four_in_the_first_round_and_two_in_every_other(self, federation: Call) -> None:
        server = federation(5)
        for number in (1, 2, 3):
            server.play(number)
        steady = [{TRAIN: 5}, {UNMASK: 5}]
        assert server.trips == [{KEYS: 5}, {SHARES: 5}, *steady, *steady, *steady]

    def test_are_one_more_where_the_server_may_lie(self, federation: Call) -> None:
        server = federation(5, aggregation=aggregation(mode="malicious-server"))
        for number in (1, 2, 3):
            server.play(number)
        steady = [{TRAIN: 5}, {CONSENT: 5}, {UNMASK: 5}]
        assert server.trips == [{KEYS: 5}, {SHARES: 5}, *steady, *steady, *steady]

    def test_take_newcomers_keys_along(self, federation: Call) -> None:
        """Cohorts of three of five: who is new in the next round is asked for keys while this one trains."""
        server = federation(5, cohort={"size": 3})
        first, second, third = [2, 3, 4], [4, 5, 6], [2, 3, 6]
        found = [
            server.play(1, first, second),
            server.play(2, following=third),
            server.play(3, following=[]),
        ]
        assert [one.survivors for one in found] == [first, second, third]
        assert all(np.array_equal(one.total.vector, server.true(one.survivors)) for one in found)
        assert server.trips == [
            {KEYS: 3},
            {SHARES: 3},
            {TRAIN: 3, KEYS: 2},
            {UNMASK: 3, SHARES: 2},
            {TRAIN: 3, KEYS: 2},
            {UNMASK: 3, SHARES: 2},
            {TRAIN: 3},
            {UNMASK: 3},
        ]

    @pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
    def test_ask_for_no_keys_after_the_last_round(self, federation: Call, mode: str) -> None:
        server = federation(5, aggregation=aggregation(mode=mode))
        server.play(1, following=[])
        assert server.collector.prepared(2) is None
        asked = len(server.trips)
        server.play(2, following=[])
        assert server.trips[asked:] == server.trips[:asked]

    def test_begin_anew_if_too_few_prepared_the_round(self, federation: Call, saying: Call) -> None:
        server = federation(6)
        for node in server.nodes[:3]:
            server.tamper[UNMASK, node, 1] = saying("sealed", lambda _: None)
        server.play(1)
        assert server.collector.prepared(2) is None
        asked = len(server.trips)
        found = server.play(2)
        assert server.trips[asked:] == [{KEYS: 6}, {SHARES: 6}, {TRAIN: 6}, {UNMASK: 6}]
        assert np.array_equal(found.total.vector, server.true(server.nodes))


class TestWhatIsPrepared:
    def test_is_for_the_next_round_alone(self, federation: Call) -> None:
        server = federation(5)
        server.play(1)
        assert server.collector.prepared(1) is None
        assert server.collector.prepared(2) == server.nodes
        assert server.collector.prepared(3) is None

    def test_names_those_who_gave_keys(self, federation: Call) -> None:
        server = federation(5)
        server.silence(TRAIN, [FIRST_NODE], number=1)
        server.play(1)
        assert server.collector.prepared(2) == server.nodes[1:]

    def test_does_not_come_from_a_round_that_failed(self, federation: Call) -> None:
        server = federation(5)
        server.play(1)
        server.silence(TRAIN, server.nodes, number=2)
        with pytest.raises(Exception, match="0 of 5 devices sent a masked update"):
            server.play(2)
        assert server.collector.prepared(3) is None


def test_a_server_without_a_roster_takes_whoever_signs(federation: Call) -> None:
    server = federation(5, rostered=False)
    found = server.play()
    assert np.array_equal(found.total.vector, server.true(server.nodes))


def test_the_answers_to_the_offer_are_told_by_code(federation: Call, code_only: Call) -> None:
    server = federation(6)
    server.tamper[TRAIN, FIRST_NODE, 0] = code_only("refused")
    found = server.play()
    assert found.codes == {"ok": 5, "refused": 1}
    assert found.cohort == server.nodes
