"""The device's own ledger at work: the round that would pass the owner's limit is refused, whatever asks for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from devices import (
    holds_update,
    make_message,
    make_offer,
    make_tiny_plan,
    node_context,
    random_records,
    said_code,
    sent_bytes,
)
from flwr.app import Message, RecordDict

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger, charged_event
from bract.client.disk.step_journal import RepeatedStep
from bract.client.records import Records
from bract.client.secure_round import BudgetSpent
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.privacy import BudgetError, Composed, Plan, StateError
from bract.privacy.accounting.accountant import epsilon, spent
from bract.privacy.ledger.statement import read_ledger
from bract.privacy.server_view import Code

Call = Callable[..., Any]


def cost(plan: Plan, rounds: int, terms: Terms) -> float:
    return epsilon(Composed(charged_event(plan), rounds), terms.max_delta)


def terms_for(plan: Plan, rounds: int, **more: Any) -> Terms:
    """Terms that the plan itself keeps, and that cover so many of its rounds and not one more."""
    free = Terms(clear_updates=True, trusted_server=True, **more)
    limit = max(cost(plan, rounds, free), plan.privacy.epsilon)
    assert cost(plan, rounds + 1, free) > limit
    return free.model_copy(update={"max_epsilon": limit})


def twin(plan: Plan, number: int) -> Plan:
    """A plan that costs the same, of another study."""
    return plan.model_copy(update={"data": plan.data.model_copy(update={"seed": number})})


@dataclass
class Owner:
    """A device whose state folder outlives its processes: every offer meets a new process, or even a new server."""

    folder: Path
    records: Records
    terms: Terms
    offered: Callable[[Plan, int], RecordDict] = make_offer
    contribute: Callable[[Task], Any] = contribution
    ran: list[int] = field(default_factory=list)

    def answer(self, plan: Plan, number: int, run: int = 1) -> Message:
        """Its reply to an offer, in a process that was started for it."""
        device = Device(
            self.records,
            self.terms,
            contribute=self._watched,
            spending=OwnerLedger(self.folder, self.terms),
        )
        content = make_message(self.offered(plan, number))
        content.metadata.__dict__["_run_id"] = run
        return make_app(lambda _: device)(content, node_context())

    def _watched(self, task: Task) -> Any:
        self.ran.append(len(self.charged))
        return self.contribute(task)

    @property
    def charged(self) -> list[int]:
        path = self.folder / LEDGER_FILE
        return [entry.round for entry in read_ledger(path).entries] if path.exists() else []


@pytest.fixture
def owner(tmp_path: Path) -> Callable[[Terms], Owner]:
    """A function: a device of an owner with these terms."""
    return lambda terms: Owner(tmp_path / "state", random_records(12), terms)


@pytest.fixture
def dear() -> Plan:
    """A plan that costs so much a round that its own epsilon covers two."""
    return make_tiny_plan(cohort={"rounds": 4}, privacy={"epsilon": 2.0, "noise_multiplier": None})


class TestTheLimit:
    def test_is_on_all_that_was_ever_spent(self, dear: Plan, owner: Call, caplog: pytest.LogCaptureFixture) -> None:
        """It holds across restarts, runs and servers."""
        device = owner(terms_for(dear, 2))
        assert device.terms.max_epsilon == dear.privacy.epsilon
        for number in (1, 3):
            assert holds_update(device.answer(dear, number, run=11))
        for run in (12, 99):
            assert said_code(device.answer(twin(dear, run), 1, run=run)) is Code.REFUSED
        assert device.charged == [1, 3]
        assert len(device.ran) == 2
        once, twice = (cost(dear, rounds, device.terms) for rounds in (1, 2))
        assert f"round 1 costs epsilon {once:.4g}" in caplog.text
        assert (
            f"from {twice:.4g} to {cost(dear, 3, device.terms):.4g}, its terms allow 2 at delta 0.001" in caplog.text
        )

    def test_leaves_room_for_a_cheaper_plan_up_to_the_limit(self, dear: Plan, owner: Call) -> None:
        """The costs of both plans are composed."""
        cheap = make_tiny_plan(privacy={"epsilon": 2.0, "noise_multiplier": 60.0})
        device = owner(Terms(max_epsilon=2.05, clear_updates=True))
        assert cost(dear, 3, device.terms) > 2.05
        for number in (1, 2):
            assert holds_update(device.answer(dear, number, run=1))
        assert said_code(device.answer(twin(dear, 2), 1, run=2)) is Code.REFUSED
        assert holds_update(device.answer(cheap, 1, run=3))
        together = spent(((charged_event(dear), 2), (charged_event(cheap), 1)), device.terms.max_delta)
        with OwnerLedger(device.folder, device.terms)._open() as ledger:
            assert ledger.spent("server") == pytest.approx(together, rel=1e-9)

    def test_follows_the_owners_terms_of_the_day(self, dear: Plan, owner: Call) -> None:
        device = owner(terms_for(dear, 2))
        for number in (1, 2):
            assert holds_update(device.answer(dear, number, run=1))
        assert said_code(device.answer(twin(dear, 2), 1, run=2)) is Code.REFUSED
        device.terms = terms_for(dear, 3).model_copy(update={"max_epsilon": cost(dear, 3, device.terms)})
        assert holds_update(device.answer(twin(dear, 3), 1, run=3))
        device.terms = device.terms.model_copy(update={"max_epsilon": dear.privacy.epsilon})
        assert said_code(device.answer(twin(dear, 4), 1, run=4)) is Code.REFUSED

    def test_of_one_plan_is_never_in_the_way_of_its_own_rounds(self, owner: Call) -> None:
        """The plan is calibrated to the very epsilon that the terms allow."""
        plan = make_tiny_plan(cohort={"rounds": 12}, privacy={"epsilon": 2.0, "noise_multiplier": None})
        device = owner(Terms(max_epsilon=2.0, clear_updates=True))
        assert plan.participations == 6
        assert all(holds_update(device.answer(plan, number)) for number in range(1, 7))

    def test_holds_for_what_is_released_if_the_server_is_trusted(self, owner: Call) -> None:
        """The owner trusts the server with the noise: the limit is on what is released."""
        plan = make_tiny_plan(privacy={"noise": "central", "epsilon": 2.0, "noise_multiplier": None})
        device = owner(terms_for(plan, 2))
        assert [holds_update(device.answer(plan, number)) for number in (1, 2)] == [True, True]
        assert said_code(device.answer(twin(plan, 2), 1, run=2)) is Code.REFUSED


class TestTheCharge:
    def test_is_on_disk_before_any_training(self, dear: Plan, owner: Call) -> None:
        device = owner(terms_for(dear, 2))
        for number in (1, 2):
            assert holds_update(device.answer(dear, number))
        assert device.ran == [1, 2]

    def test_stays_when_training_fails(self, dear: Plan, owner: Call) -> None:
        def fail(task: Task) -> Any:
            raise RuntimeError

        device = owner(terms_for(dear, 2))
        device.contribute = fail
        assert [said_code(device.answer(dear, number, run=number)) for number in (1, 2)] == [Code.FAILED] * 2
        assert device.charged == [1, 2]
        assert said_code(device.answer(dear, 3, run=3)) is Code.REFUSED

    def test_is_not_made_where_the_records_are_not_the_plans(self, dear: Plan, owner: Call) -> None:
        device = owner(terms_for(dear, 2))
        device.records = Records(device.records.features[:, :, :1], device.records.labels)
        assert said_code(device.answer(dear, 1)) is Code.DATA
        assert device.charged == []

    @pytest.mark.parametrize("spoilt", ["parameters", "offer"])
    def test_is_not_made_for_a_message_that_is_malformed(self, dear: Plan, owner: Call, spoilt: str) -> None:
        def without(plan: Plan, number: int) -> RecordDict:
            content = make_offer(plan, number)
            del content[spoilt]
            return content

        device = owner(terms_for(dear, 2))
        device.offered = without
        assert said_code(device.answer(dear, 1)) is Code.MALFORMED
        assert device.charged == []

    def test_is_not_made_for_a_plan_past_the_terms(self, dear: Plan, owner: Call) -> None:
        device = owner(Terms(max_epsilon=1.9, clear_updates=True))
        assert said_code(device.answer(dear, 1)) is Code.REFUSED
        assert device.charged == []

    def test_names_plan_and_run_and_holds_nothing_of_the_records(self, dear: Plan, owner: Call) -> None:
        device = owner(terms_for(dear, 2))
        device.answer(dear, 3, run=2**64 - 1)
        [entry] = read_ledger(device.folder / LEDGER_FILE).entries
        assert entry.origin
        assert (entry.round, entry.origin.plan, entry.origin.run) == (3, dear.digest, str(2**64 - 1))
        assert entry.server == entry.released == charged_event(dear)


class TestARoundThatWasTakenPartIn:
    """A SuperNode keeps a device's state only after its reply has left; the ledger is on disk before it does."""

    def test_is_refused_by_a_process_that_knows_nothing_of_it(
        self, dear: Plan, owner: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        device = owner(Terms(clear_updates=True))
        assert holds_update(device.answer(dear, 1))
        assert said_code(device.answer(dear, 1)) is Code.MALFORMED
        assert "has this step already" in caplog.text
        assert device.charged == [1]
        assert len(device.ran) == 1

    def test_is_counted_against_the_plan_by_another_process(
        self, dear: Plan, owner: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The process knows nothing of the round but what is on disk."""
        device = owner(Terms(clear_updates=True))
        assert [holds_update(device.answer(dear, number)) for number in (1, 2)] == [True, True]
        assert [said_code(device.answer(dear, number)) for number in (3, 4)] == [Code.REFUSED] * 2
        assert "as often as its noise is calibrated for" in caplog.text

    @pytest.mark.parametrize("noise", ["local", "central"])
    def test_is_counted_against_the_plan_whatever_the_server_says(self, noise: str, owner: Call) -> None:
        """The server may invent any runs and rounds."""
        plan = make_tiny_plan(cohort={"rounds": 6}, privacy={"noise": noise})
        device = owner(Terms(max_epsilon=1e6, clear_updates=True, trusted_server=True))
        offers = [(2, 1), (2, 2), (1, 3), (2, 4), (6, 1), (1, 2**64 - 1), (2, 1)]
        answers = [holds_update(device.answer(plan, number, run=run)) for number, run in offers]
        assert answers == [True] * plan.participations + [False] * (len(offers) - plan.participations)
        assert len(device.charged) == len(device.ran) == plan.participations == 3

    def test_lost_in_a_crash_is_one_more_participation(self, dear: Plan, owner: Call) -> None:
        """It draws fresh noise."""
        device = owner(Terms(clear_updates=True))
        first, again = (device.answer(dear, 1, run=run) for run in (1, 2))
        assert holds_update(first)
        assert holds_update(again)
        assert sent_bytes(first) != sent_bytes(again)
        assert device.charged == [1, 1]


class TestALedgerThatIsNotWhole:
    def test_lets_the_device_take_part_in_nothing(
        self, dear: Plan, owner: Call, caplog: pytest.LogCaptureFixture
    ) -> None:
        device = owner(Terms(clear_updates=True))
        device.answer(dear, 1)
        path = device.folder / LEDGER_FILE
        path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":9'))
        assert said_code(device.answer(dear, 2)) is Code.FAILED
        assert len(device.ran) == 1
        assert "is damaged at line 2" in caplog.text


def test_a_refusal_says_nothing_to_the_server_but_its_code(
    dear: Plan, owner: Call, caplog: pytest.LogCaptureFixture
) -> None:
    device = owner(terms_for(dear, 2))
    for number in (1, 2):
        device.answer(dear, number)
    with caplog.at_level(logging.WARNING):
        reply = device.answer(twin(dear, 2), 1, run=2)
    assert b"epsilon" not in sent_bytes(reply)
    assert "epsilon" in caplog.text


class TestSpending:
    def test_check_refuses_what_charge_would_and_writes_nothing(self, dear: Plan, tmp_path: Path) -> None:
        spending = OwnerLedger(tmp_path / "a" / "b", terms_for(dear, 2))
        spending.check(dear, 1, 1)
        before = (spending.folder / LEDGER_FILE).read_bytes()
        spending.check(dear, 1, 1)
        assert (spending.folder / LEDGER_FILE).read_bytes() == before
        spending.charge(dear, 1, 1)
        for refused in (spending.check, spending.charge):
            with pytest.raises(RepeatedStep):
                refused(dear, 1, 1)
        spending.charge(dear, 1, 2)
        for refused in (spending.check, spending.charge):
            with pytest.raises(BudgetSpent):
                refused(dear, 2, 1)
            with pytest.raises(BudgetError):
                refused(twin(dear, 2), 2, 3)

    def test_cannot_be_done_while_another_process_keeps_the_ledger(
        self, dear: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bract.client.disk.device_ledger.WAIT_SECONDS", 0.1)
        spending = OwnerLedger(tmp_path, Terms())
        with spending._open(), pytest.raises(StateError, match="in use"):
            spending.charge(dear, 1, 1)
        spending.charge(dear, 1, 1)
