"""The rounds that the ClientApp counts, and refuses when the plan's are spent."""

from __future__ import annotations

import pytest
from devices import (
    holds_update,
    make_message,
    make_node,
    make_offer,
    make_tiny_plan,
    node_context,
    random_records,
    said_code,
)
from flwr.app import ConfigRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.run_history import HISTORY
from bract.client.terms import Terms
from bract.client.train import Task
from bract.privacy.server_view import Code


class TestTheCountOfRounds:
    def test_ends_with_the_rounds_that_the_plans_noise_was_sized_for(self) -> None:
        plan, member = make_tiny_plan(), make_node()
        assert plan.participations == 2
        assert holds_update(member.answer(make_offer(plan, 1)))
        assert holds_update(member.answer(make_offer(plan, 2)))
        assert [said_code(member.answer(make_offer(plan, number))) for number in (3, 4, 1)] == [Code.REFUSED] * 3
        assert len(member.ran) == 2

    @pytest.mark.parametrize("number", [5, 6, 2**62])
    def test_ends_with_the_plans_last_round(self, number: int) -> None:
        plan, member = make_tiny_plan(), make_node()
        assert plan.cohort.rounds == 4
        assert said_code(member.answer(make_offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 0
        assert holds_update(member.answer(make_offer(plan, 4)))
        assert said_code(member.answer(make_offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 1

    @pytest.mark.parametrize("number", [1, 6, 7])
    def test_refuses_a_round_that_is_not_after_the_last(self, number: int) -> None:
        plan, member = make_tiny_plan(cohort={"rounds": 10}), make_node()
        assert holds_update(member.answer(make_offer(plan, 7)))
        assert said_code(member.answer(make_offer(plan, number))) is Code.MALFORMED
        assert member.counted == len(member.ran) == 1

    def test_is_kept_in_the_nodes_state_alone(self) -> None:
        first, second = make_node(), make_node()
        for number in (1, 2):
            first.answer(make_offer(make_tiny_plan(), number))
        second.context.state = first.context.state
        assert said_code(second.answer(make_offer(make_tiny_plan(), 3))) is Code.REFUSED

    def test_holds_nothing_of_the_records(self) -> None:
        member = make_node()
        member.answer(make_offer(make_tiny_plan(), 3))
        expected = {"rounds": 1, "last": 3, "run": "1", "plan": make_tiny_plan().digest}
        assert dict(member.context.state) == {HISTORY: ConfigRecord(expected)}

    def test_includes_a_round_that_failed_after_it_began(self) -> None:
        def fail(task: Task) -> None:
            raise RuntimeError

        member = make_node(contribute=fail)
        codes = [said_code(member.answer(make_offer(make_tiny_plan(), number))) for number in (1, 2, 3)]
        assert codes == [Code.FAILED, Code.FAILED, Code.REFUSED]

    def test_does_not_include_offers_that_were_refused(self) -> None:
        member = make_node()
        said_code(member.answer(make_offer(make_tiny_plan(privacy={"noise": "central"}), 1)))
        said_code(member.answer(make_offer("not a plan", 2)))
        said_code(member.answer(make_offer(make_tiny_plan(), 0)))
        assert member.counted == 0
        assert holds_update(member.answer(make_offer(make_tiny_plan(), 1)))

    def test_is_of_one_plan(self) -> None:
        """Each plan here spends the whole budget in its own rounds: to take part in both spends it twice."""
        member = make_node()
        plans = [make_tiny_plan(cohort={"rounds": rounds}, privacy={"noise_multiplier": None}) for rounds in (2, 4)]
        assert holds_update(member.answer(make_offer(plans[0], 1)))
        assert not holds_update(member.answer(make_offer(plans[1], 2)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(1, 6), max_size=12))
def test_each_round_is_taken_part_in_once_as_the_plan_says(numbers: list[int]) -> None:
    """Whatever rounds are offered, and in no more rounds than the plan says."""
    plan, device, state = make_tiny_plan(), Device(random_records(3), Terms(clear_updates=True)), node_context()
    app = make_app(lambda _: device)
    taken = [number for number in numbers if holds_update(app(make_message(make_offer(plan, number)), state))]
    assert len(taken) <= plan.participations
    assert len(set(taken)) == len(taken)
    assert max(taken, default=1) <= plan.cohort.rounds
    assert bool(taken) == (min(numbers, default=7) <= plan.cohort.rounds)
