"""The secure sum over devices that fall silent at any stage: exact, or a clear error and nothing opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.privacy import BudgetError, RoundError, StorageError
from bract.privacy.messages import CONSENT, KEYS, SHARES, TRAIN, UNMASK
from bract.simulations.local_grid import FIRST_NODE

Call = Callable[..., Any]
MALICIOUS = {"mode": "malicious-server"}
KINDS = [KEYS, SHARES, TRAIN, CONSENT, UNMASK]
IN_SUM = {KEYS: False, SHARES: False, TRAIN: False, CONSENT: True, UNMASK: True}
"""Whether a device that falls silent at this message has its vector in the sum."""


def with_plan(plan: dict[str, Any]) -> dict[str, Any]:
    return {"aggregation": {"protocol": "secagg", "deadline": 0.01, **plan}}


class TestADropout:
    @pytest.mark.parametrize("exchange", ["x25519", "hybrid"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("place", [0, 3, 5])
    def test_at_any_stage_leaves_the_sum_of_the_others_exact(
        self, federation: Call, kind: str, place: int, exchange: str
    ) -> None:
        mode = "malicious-server" if kind == CONSENT else "semi-honest"
        server = federation(6, **with_plan({"mode": mode, "key_exchange": exchange}))
        gone = server.nodes[place]
        server.silence(kind, [gone])
        found = server.play()
        alive = [node for node in server.nodes if node != gone or IN_SUM[kind]]
        assert found.survivors == alive
        assert np.array_equal(found.total.vector, server.true(alive))
        assert server.charges == [alive]

    @pytest.mark.parametrize("kind", KINDS)
    def test_takes_part_in_the_round_after(self, federation: Call, kind: str) -> None:
        server = federation(6, **with_plan(MALICIOUS if kind == CONSENT else {}))
        server.silence(kind, [FIRST_NODE], number=1)
        server.play(1)
        server.play(2)
        found = server.play(3)
        assert found.survivors == server.nodes
        assert np.array_equal(found.total.vector, server.true(server.nodes))

    @pytest.mark.parametrize("kind", [TRAIN, UNMASK])
    def test_is_one_of_the_next_round_only_if_it_was_silent(self, federation: Call, kind: str) -> None:
        """A dropout of the round under way is one of the next as well only if it was silent then."""
        server = federation(6)
        server.silence(kind, [FIRST_NODE], number=1)
        server.play(1)
        found = server.play(2)
        assert found.survivors == server.nodes[1:]
        assert np.array_equal(found.total.vector, server.true(server.nodes[1:]))

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_leaves_every_sum_exact_or_ends_the_run_unopened(self, federation: Call, data: st.DataObject) -> None:
        """Dropouts here and there."""
        malicious = data.draw(st.booleans())
        server = federation(7, **with_plan(MALICIOUS if malicious else {}))
        for kind in KINDS:
            for number in (1, 2, 3):
                server.silence(kind, data.draw(st.sets(st.sampled_from(server.nodes), max_size=1)), number)
        for number in (1, 2, 3):
            try:
                found = server.play(number)
            except RoundError:
                assert sum(UNMASK in trip for trip in server.trips) == len(server.charges)
                return
            assert np.array_equal(found.total.vector, server.true(found.survivors))
            assert server.charges[-1] == found.survivors
            assert len(server.charges) == number


SAYS = {
    KEYS: r"3 of 6 devices showed keys that are on the roster, the round needs 4 \(3 said ok, 3 late\)",
    SHARES: r"3 of 6 devices sent shares of their keys, the round needs 4 \(3 said ok, 3 late\)",
    TRAIN: r"3 of 6 devices sent a masked update, the round needs 4 \(3 said ok, 3 late\)",
    CONSENT: r"3 of 6 devices sent their signature, the round needs 4 \(3 said ok, 3 late\)",
    UNMASK: r"the shares that 3 of 6 devices opened do not unmask the sum",
}


class TestTooFew:
    @pytest.mark.parametrize("kind", KINDS[:-1])
    def test_before_the_end_are_an_error_and_charge_nothing(self, federation: Call, kind: str) -> None:
        """Nothing is asked to be opened."""
        server = federation(6, **with_plan(MALICIOUS), cohort={"minimum": 4})
        server.silence(kind, server.nodes[:3])
        with pytest.raises(RoundError, match=SAYS[kind]):
            server.play()
        assert server.charges == []
        assert not any(UNMASK in trip for trip in server.trips)

    def test_that_open_their_shares_are_an_error_with_a_charge(self, federation: Call) -> None:
        server = federation(6)
        server.silence(UNMASK, server.nodes[:3])
        with pytest.raises(RoundError, match=SAYS[UNMASK]):
            server.play()
        assert server.charges == [server.nodes]

    def test_are_no_fewer_than_the_plans_minimum(self, federation: Call) -> None:
        for minimum, gone in ((6, 1), (5, 2), (5, 1)):
            server = federation(6, cohort={"minimum": minimum})
            server.silence(TRAIN, server.nodes[:gone])
            if 6 - gone >= minimum:
                assert len(server.play().survivors) == 6 - gone
                continue
            with pytest.raises(RoundError, match=f"the round needs {minimum}"):
                server.play()
            assert server.charges == []

    def test_are_told_by_their_codes(self, federation: Call, code_only: Call) -> None:
        server = federation(6)
        for node, code in zip(server.nodes, ("refused", "refused", "lost"), strict=False):
            server.tamper[TRAIN, node, 0] = code_only(code)
        with pytest.raises(RoundError, match=r"\(1 said lost, 3 said ok, 2 said refused\)"):
            server.play()

    def test_leave_a_server_that_can_play_the_round_again(self, federation: Call) -> None:
        """Devices that trained take no second part in it; the next round has them all."""
        server = federation(6)
        server.silence(SHARES, server.nodes[:3], number=1)
        with pytest.raises(RoundError):
            server.play(1)
        server.tamper.clear()
        found = server.play(1)
        assert np.array_equal(found.total.vector, server.true(server.nodes))


class TestTheCharge:
    @pytest.mark.parametrize("plan", [{}, MALICIOUS])
    def test_is_made_before_any_message_that_asks_for_shares(self, federation: Call, plan: dict[str, Any]) -> None:
        """No such message leaves before."""
        server = federation(6, **with_plan(plan))
        for number in (1, 2, 3):
            server.play(number)
        steps = [step if isinstance(step, list) else UNMASK in step.kinds for step in server.seen]
        asked = [at for at, step in enumerate(steps) if step is True]
        charged = [at for at, step in enumerate(steps) if isinstance(step, list)]
        assert len(asked) == len(charged) == 3
        assert [at + 1 for at in charged] == asked

    @pytest.mark.parametrize("fault", [BudgetError("spent", "stop"), StorageError("full", "free some")])
    @pytest.mark.parametrize("plan", [{}, MALICIOUS])
    def test_that_fails_keeps_every_mask_on(self, federation: Call, plan: dict[str, Any], fault: Exception) -> None:
        server = federation(6, **with_plan(plan))
        server.fault = fault
        with pytest.raises(type(fault)):
            server.play()
        assert not any(UNMASK in trip for trip in server.trips)

    def test_names_the_nodes_whose_vectors_are_in_the_sum(self, federation: Call) -> None:
        server = federation(6)
        server.silence(TRAIN, [server.nodes[2]])
        server.silence(UNMASK, [server.nodes[4]])
        found = server.play()
        assert server.charges == [found.survivors] == [[node for node in server.nodes if node != server.nodes[2]]]


@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
@pytest.mark.parametrize("online", [4, 6])
def test_too_few_of_ten_are_seated_though_they_could_open(federation: Call, mode: str, online: int) -> None:
    """Three of the four may be the server's: the sum of four opened, and with it the honest one's vector."""
    server = federation(10, aggregation={"protocol": "secagg", "deadline": 0.01, "mode": mode})
    server.silence(KEYS, server.nodes[online:])
    with pytest.raises(
        RoundError, match=f"{online} of 10 devices showed keys that are on the roster, the round needs 7"
    ):
        server.play()
    assert server.charges == []
    assert server.trips == [{KEYS: 10}]


@pytest.mark.parametrize("kind", [SHARES, TRAIN])
def test_seven_of_ten_are_enough_and_six_are_not(federation: Call, kind: str) -> None:
    """It holds at every stage."""
    for left in (7, 6):
        server = federation(10)
        server.silence(kind, server.nodes[left:])
        if left == 7:
            assert server.play().survivors == server.nodes[:7]
            continue
        with pytest.raises(RoundError, match=r"6 of 10 devices .* the round needs 7"):
            server.play()
        assert server.charges == []
