"""The rounds that the ClientApp counts, and refuses when the plan's are spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ConfigRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.records import Records
from bract.client.run_history import HISTORY
from bract.client.terms import Terms
from bract.client.train import Task
from bract.privacy import Plan
from bract.privacy.server_view import Code

Make = Callable[..., Plan]
Sample = Callable[..., Records]
Call = Callable[..., Any]


class TestTheCountOfRounds:
    def test_ends_with_the_rounds_that_the_plans_noise_was_sized_for(
        self, make: Make, node: Call, offer: Call, said: Call, is_update: Call
    ) -> None:
        plan, member = make(), node()
        assert plan.participations == 2
        assert is_update(member.answer(offer(plan, 1)))
        assert is_update(member.answer(offer(plan, 2)))
        assert [said(member.answer(offer(plan, number))) for number in (3, 4, 1)] == [Code.REFUSED] * 3
        assert len(member.ran) == 2

    @pytest.mark.parametrize("number", [5, 6, 2**62])
    def test_ends_with_the_plans_last_round(
        self, make: Make, node: Call, number: int, offer: Call, said: Call, is_update: Call
    ) -> None:
        plan, member = make(), node()
        assert plan.cohort.rounds == 4
        assert said(member.answer(offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 0
        assert is_update(member.answer(offer(plan, 4)))
        assert said(member.answer(offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 1

    @pytest.mark.parametrize("number", [1, 6, 7])
    def test_refuses_a_round_that_is_not_after_the_last(
        self, make: Make, node: Call, number: int, offer: Call, said: Call, is_update: Call
    ) -> None:
        plan, member = make(cohort={"rounds": 10}), node()
        assert is_update(member.answer(offer(plan, 7)))
        assert said(member.answer(offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 1

    def test_is_kept_in_the_nodes_state_alone(self, make: Make, node: Call, offer: Call, said: Call) -> None:
        first, second = node(), node()
        for number in (1, 2):
            first.answer(offer(make(), number))
        second.context.state = first.context.state
        assert said(second.answer(offer(make(), 3))) is Code.REFUSED

    def test_holds_nothing_of_the_records(self, make: Make, node: Call, offer: Call) -> None:
        member = node()
        member.answer(offer(make(), 3))
        expected = {"rounds": 1, "last": 3, "run": "1", "plan": make().digest}
        assert dict(member.context.state) == {HISTORY: ConfigRecord(expected)}

    def test_includes_a_round_that_failed_after_it_began(
        self, make: Make, node: Call, offer: Call, said: Call
    ) -> None:
        def fail(task: Task) -> None:
            raise RuntimeError

        member = node(contribute=fail)
        codes = [said(member.answer(offer(make(), number))) for number in (1, 2, 3)]
        assert codes == [Code.FAILED, Code.FAILED, Code.REFUSED]

    def test_does_not_include_offers_that_were_refused(
        self, make: Make, node: Call, offer: Call, said: Call, is_update: Call
    ) -> None:
        member = node()
        said(member.answer(offer(make(privacy={"noise": "central"}), 1)))
        said(member.answer(offer("not a plan", 2)))
        said(member.answer(offer(make(), 0)))
        assert member.counted == 0
        assert is_update(member.answer(offer(make(), 1)))

    def test_is_of_one_plan(self, make: Make, node: Call, offer: Call, is_update: Call) -> None:
        """Each plan here spends the whole budget in its own rounds: to take part in both spends it twice."""
        member = node()
        plans = [make(cohort={"rounds": rounds}, privacy={"noise_multiplier": None}) for rounds in (2, 4)]
        assert is_update(member.answer(offer(plans[0], 1)))
        assert not is_update(member.answer(offer(plans[1], 2)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(1, 6), max_size=12))
def test_each_round_is_taken_part_in_once_as_the_plan_says(
    make: Make, sample: Sample, numbers: list[int], offer: Call, message: Call, context: Call, is_update: Call
) -> None:
    """Whatever rounds are offered, and in no more rounds than the plan says."""
    plan, device, state = make(), Device(sample(3), Terms(clear_updates=True)), context()
    app = make_app(lambda _: device)
    taken = [number for number in numbers if is_update(app(message(offer(plan, number)), state))]
    assert len(taken) <= plan.participations
    assert len(set(taken)) == len(taken)
    assert max(taken, default=1) <= plan.cohort.rounds
    assert bool(taken) == (min(numbers, default=7) <= plan.cohort.rounds)
