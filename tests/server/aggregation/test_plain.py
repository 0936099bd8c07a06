"""The sum in the clear: what is asked, what is added up, and what is charged before it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message

from bract.privacy import BudgetError, Plan, RoundError, mechanism_of
from bract.privacy.messages import OFFER, PARAMETERS, TRAIN, read_offer
from bract.server.aggregation.base import DeviceLink, RoundInput, RoundSum
from bract.server.aggregation.plain import PlainSum
from bract.simulations.local_grid import FIRST_NODE, LocalGrid
from bract.simulations.study import Study, make_study

Make = Callable[..., Plan]
App = Callable[[Message, Context], Message]
Fixture = Callable[..., Any]
COUNT, CLIENTS = 15, 4
NODES = list(range(FIRST_NODE, FIRST_NODE + CLIENTS))


class Round:
    """One round over a LocalGrid; `seen` is, in order, what went out, was answered and was charged."""

    def __init__(self, plan: Plan, app: App) -> None:
        self.mechanism, self.seen = mechanism_of(plan), list[Any]()
        self.sent: list[Message] = []
        outer = self

        class Watched(LocalGrid):
            def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
                outer.sent = list(messages)
                outer.seen.append("offers")
                return super().push_messages(outer.sent)

        self.grid = Watched(app, CLIENTS)

    def charge(self, nodes: Sequence[int]) -> None:
        self.seen.append(list(nodes))

    def collector(self) -> PlainSum:
        return PlainSum(DeviceLink(self.grid, self.mechanism, lambda: self.seen.append("answer")))

    def collect(self, cohort: Sequence[int] = NODES, **parts: Any) -> RoundSum:
        def next_cohort(nodes: Sequence[int]) -> Sequence[int]:
            raise AssertionError("nothing has to be prepared")

        call = RoundInput(
            2, np.zeros(COUNT, dtype=np.float32), **{"charge": self.charge, "next_cohort": next_cohort, **parts}
        )
        return self.collector().collect(call, cohort)


@pytest.fixture
def numbered(update: Fixture) -> Callable[[Plan], App]:
    """A function: an app that answers with the top of the plan's range, less the node's number."""

    def made(plan: Plan) -> App:
        def app(message: Message, context: Context) -> Message:
            mechanism = mechanism_of(plan)
            numbers = (-1) ** np.arange(COUNT) * (mechanism.grid.bound - context.node_id)
            return Message(update(mechanism.grid.ring.encode(numbers)), reply_to=message)

        return app

    return made


@pytest.mark.parametrize(("noise", "bits"), [("central", 32), ("central", 64), ("local", 12), ("local", 16)])
def test_the_sum_is_exact_whatever_the_ring(make: Make, numbered: Any, noise: str, bits: int) -> None:
    plan = make(privacy={"noise": noise}, aggregation={"bits": bits})
    collected = Round(plan, numbered(plan)).collect()
    expected = (-1) ** np.arange(COUNT) * (4 * mechanism_of(plan).grid.bound - sum(NODES))
    assert collected.total.vector.tolist() == expected.tolist()
    assert (list(collected.cohort), list(collected.survivors)) == (NODES, NODES)
    assert collected.codes == {"ok": 4}


def test_the_cohort_alone_is_asked_once_to_train_in_the_round(make: Make, numbered: Any) -> None:
    plan = make()
    played = Round(plan, numbered(plan))
    collected = played.collect([NODES[3], NODES[0]])
    assert [m.metadata.dst_node_id for m in played.sent] == [NODES[3], NODES[0]]
    for message in played.sent:
        assert message.metadata.message_type == TRAIN
        assert set(message.content) == {OFFER, PARAMETERS}
        assert read_offer(message.content.config_records[OFFER]).round == 2
    assert list(collected.cohort) == list(collected.survivors) == [NODES[0], NODES[3]]


def test_survivors_are_charged_after_answers_to_central_noise(make: Make, numbered: Any, refusing: Fixture) -> None:
    """When all have answered."""
    plan = make()
    played = Round(plan, refusing(numbered(plan), {NODES[1]}))
    collected = played.collect()
    left = [NODES[0], *NODES[2:]]
    assert played.seen == ["offers", *["answer"] * 4, left]
    assert list(collected.survivors) == left
    assert collected.codes == {"ok": 3, "refused": 1}


def test_devices_that_are_late_are_counted(make: Make, numbered: Any) -> None:
    plan = make(cohort={"deadline": 0.01})
    played = Round(plan, numbered(plan))
    played.grid._executor = lambda app, work: (app(m, c) for m, c in work if c.node_id != NODES[1])
    collected = played.collect()
    assert collected.codes == {"ok": 3, "late": 1}
    assert played.seen == ["offers", *["answer"] * 3, [NODES[0], *NODES[2:]]]


def test_the_cohort_is_charged_before_offers_of_local_noise(make: Make, numbered: Any, refusing: Fixture) -> None:
    """The whole cohort, before any offer."""
    plan = make(privacy={"noise": "local"})
    played = Round(plan, refusing(numbered(plan), {NODES[1]}))
    collected = played.collect()
    assert played.seen == [NODES, "offers", *["answer"] * 4]
    assert list(collected.survivors) == [NODES[0], *NODES[2:]]


def test_too_few_answers_to_central_noise_charge_nothing(make: Make, numbered: Any, refusing: Fixture) -> None:
    """They are an error."""
    plan = make(cohort={"minimum": 3})
    played = Round(plan, refusing(numbered(plan), set(NODES[:2])))
    says = r"2 of 4 devices sent an update, the round needs 3 \(2 said ok, 2 said refused\)"
    with pytest.raises(RoundError, match=says):
        played.collect()
    assert played.seen == ["offers", *["answer"] * 4]


@pytest.mark.parametrize("noise", ["central", "local"])
def test_a_charge_that_the_budget_does_not_cover_opens_no_sum(make: Make, numbered: Any, noise: str) -> None:
    plan = make(privacy={"noise": noise})
    played = Round(plan, numbered(plan))

    def refuse(nodes: Sequence[int]) -> None:
        raise BudgetError("the budget is spent", "stop")

    with pytest.raises(BudgetError):
        played.collect(charge=refuse)
    assert ("offers" in played.seen) == (noise == "central")


@pytest.fixture
def without_masks() -> Study:
    """The study of shared noise that is sized for three of four devices, and of a simulation without its masks."""
    return make_study(
        {
            "data": {"clients": CLIENTS, "shape": [1, 2, 2], "classes": 3},
            "model": {"name": "logistic", "parameters": COUNT},
            "cohort": {"size": CLIENTS, "minimum": 1},
            "privacy": {"noise": "distributed"},
            "aggregation": {"protocol": "secagg", "colluders": 0.0, "dropouts": 0.25},
            "simulation": {"masks": False},
        }
    )


@pytest.mark.parametrize("gone", [0, 1])
def test_noise_shared_in_the_clear_is_charged_to_who_brought_it(
    without_masks: Study, update: Fixture, refusing: Fixture, gone: int
) -> None:
    """In the simulation that leaves the masks out: the survivors, when all have answered, as under masks."""
    mechanism = mechanism_of(without_masks)
    count = mechanism.coordinates(COUNT)

    def app(message: Message, context: Context) -> Message:
        return Message(update(mechanism.grid.ring.encode(np.full(count, context.node_id))), reply_to=message)

    played = Round(without_masks, refusing(app, set(NODES[:gone])))
    collected = played.collect()
    assert collected.total.vector.tolist() == [sum(NODES[gone:])] * count
    assert played.seen == ["offers", *["answer"] * 4, NODES[gone:]]


def test_noise_of_too_few_opens_no_sum_without_masks_either(
    without_masks: Study, update: Fixture, refusing: Fixture
) -> None:
    assert without_masks.least_survivors == 3

    def app(message: Message, context: Context) -> Message:
        words = mechanism_of(without_masks).grid.ring.encode(np.zeros(16, dtype=np.int64))
        return Message(update(words), reply_to=message)

    played = Round(without_masks, refusing(app, set(NODES[:2])))
    with pytest.raises(RoundError, match="2 of 4 devices sent an update, the round needs 3"):
        played.collect()
    assert played.seen == ["offers", *["answer"] * 4]


def test_nothing_is_prepared_for_a_round_to_come(make: Make, numbered: Any) -> None:
    plan = make()
    collector = Round(plan, numbered(plan)).collector()
    assert [collector.prepared(number) for number in (1, 2)] == [None, None]
