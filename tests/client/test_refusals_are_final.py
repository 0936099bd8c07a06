"""What a refusal tells a server: one code for terms and for spending, final for its run, and few of them a day."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from devices import holds_update, make_message, make_offer, make_tiny_plan, node_context, random_records, said_code
from flwr.app import ConfigRecord, Message

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk import step_journal as journal_file
from bract.client.disk.device_ledger import OwnerLedger
from bract.client.disk.step_journal import DiskJournal
from bract.client.records import Records
from bract.client.terms import Terms
from bract.privacy import Plan
from bract.privacy.messages import CONSENT, KEYS, SECAGG, SHARES, TRAIN, UNMASK, WHO
from bract.privacy.secagg.identity import Identity, new_identity, roster_of
from bract.privacy.server_view import ANSWER, Code

Make = Callable[..., Plan]
Call = Callable[..., Any]


@dataclass
class Owner:
    """A device whose state folder outlives its processes: each message meets a new one that knows nothing else."""

    folder: Path
    records: Records
    terms: Terms
    identity: Identity

    def answer(
        self, plan: Plan | str, run: int = 1, number: int = 1, kind: str = TRAIN, **sections: bytes
    ) -> Message:
        device = Device(
            self.records,
            self.terms,
            identity=self.identity,
            roster=roster_of([self.identity]),
            journal=DiskJournal(self.folder),
            spending=OwnerLedger(self.folder, self.terms),
        )
        content = make_offer(plan, number)
        if sections:
            content[SECAGG] = ConfigRecord(sections)
        message = make_message(content, kind)
        message.metadata.__dict__["_run_id"] = run
        return make_app(lambda _: device)(message, node_context())


@pytest.fixture
def owner(tmp_path: Path) -> Callable[..., Owner]:
    """A function: a device of an owner with these terms."""
    return lambda **terms: Owner(
        tmp_path / "state",
        random_records(12),
        Terms(clear_updates=True, **terms),
        new_identity(),
    )


@pytest.fixture
def secure() -> Make:
    """A function: as `make`, a plan with secure aggregation of two devices."""
    return lambda **tables: make_tiny_plan(
        **({"aggregation": {"protocol": "secagg"}, "cohort": {"size": 2, "rounds": 2}} | tables)
    )


def test_a_refused_run_stays_refused_after_a_restart(owner: Call) -> None:
    """Whatever the plan then says."""
    device = owner(max_epsilon=8.0)
    greedy, modest = make_tiny_plan(privacy={"epsilon": 9.0}), make_tiny_plan()
    assert said_code(device.answer(greedy)) is Code.REFUSED
    for plan in (modest, greedy, "no plan at all"):
        assert said_code(device.answer(plan)) is Code.REFUSED
    assert holds_update(device.answer(modest, run=2))


@pytest.mark.parametrize("kind", [WHO, KEYS, SHARES, TRAIN])
def test_terms_and_spending_refuse_with_one_reply(secure: Make, owner: Call, kind: str) -> None:
    """A server cannot tell the terms from what was spent elsewhere."""
    plan, device = secure(privacy={"epsilon": 2.0, "noise_multiplier": None}), owner(max_epsilon=2.0)
    over = secure(privacy={"epsilon": 2.5, "noise_multiplier": None})
    spending = make_tiny_plan(privacy={"epsilon": 2.0, "noise_multiplier": None})
    for number in (1, 2):
        device.answer(spending, run=7, number=number)
    told = {WHO: {}, KEYS: {}, SHARES: {"cards": b""}, TRAIN: {"cohort": b""}}[kind]
    replies = [device.answer(over, run=1, kind=kind, **told), device.answer(plan, run=2, kind=kind, **told)]
    assert [said_code(reply) for reply in replies] == [Code.REFUSED] * 2
    for run in (1, 2):
        assert said_code(device.answer(plan, run=run, kind=kind, **told)) is Code.REFUSED


@pytest.mark.parametrize("kind", [CONSENT, UNMASK])
def test_a_message_of_a_round_never_begun_tells_no_terms(secure: Make, owner: Call, kind: str) -> None:
    """Refusals to such a message are final for no run and count for no day: asked of ever new plans, they would give
    the terms away, and so tell which refusals of other messages are for what was spent."""
    device = owner(max_epsilon=2.0)
    under, over = (secure(privacy={"epsilon": epsilon, "noise_multiplier": None}) for epsilon in (2.0, 2.5))
    for run in (1, 2):
        replies = [device.answer(plan, run=run, kind=kind, survivors=b"") for plan in (under, over)]
        assert [said_code(reply) for reply in replies] == [Code.LOST] * 2
        assert device.answer(under, run=run, kind=KEYS).content.config_records[ANSWER]["code"] == Code.OK
        assert said_code(device.answer(over, run=run, kind=kind, survivors=b"")) is Code.LOST


def test_who_took_part_shows_who_it_is_though_nothing_is_left(owner: Call) -> None:
    plan = make_tiny_plan(privacy={"epsilon": 2.0, "noise_multiplier": None})
    device = owner(max_epsilon=2.0)
    for number in range(1, plan.participations + 1):
        device.answer(plan, number=number)
    assert said_code(device.answer(plan, run=2, kind=WHO)) is Code.PLAN  # these devices have no pseudonym
    assert said_code(device.answer(make_tiny_plan(privacy={"epsilon": 2.0}), run=3, kind=WHO)) is Code.REFUSED


def test_a_server_learns_of_few_refusals_a_day(
    owner: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = owner(max_epsilon=8.0, max_refused_runs_a_day=3)
    assert holds_update(device.answer(make_tiny_plan(), run=50))
    for run in (1, 2, 3):
        assert said_code(device.answer(make_tiny_plan(privacy={"epsilon": 9.0}), run=run)) is Code.REFUSED
    assert said_code(device.answer(make_tiny_plan(), run=4)) is Code.REFUSED
    assert "3 runs were refused today" in caplog.text
    assert holds_update(device.answer(make_tiny_plan(), run=50, number=2))  # a run that is under way goes on
    tomorrow = journal_file.today() + 1
    monkeypatch.setattr(journal_file, "today", lambda: tomorrow)
    assert said_code(device.answer(make_tiny_plan(), run=3)) is Code.REFUSED
    assert holds_update(device.answer(make_tiny_plan(cohort={"rounds": 3}), run=4))


def test_plans_that_are_accepted_do_not_measure_what_was_spent(secure: Make, owner: Call) -> None:
    """Each plan asks for a little more, up to what is left; a card is not charged."""
    device = owner(max_epsilon=8.0, max_plans_a_day=4)
    plans = [secure(privacy={"epsilon": 2.0 + step / 100, "noise_multiplier": None}) for step in range(8)]
    replies = [device.answer(plan, run=run, kind=KEYS) for run, plan in enumerate(plans, 1)]
    assert ["card" in reply.content.config_records.get(SECAGG, {}) for reply in replies] == [True] * 4 + [False] * 4
    assert [said_code(reply) for reply in replies[4:]] == [Code.REFUSED] * 4


def test_a_second_plan_in_one_run_is_refused_after_a_restart(owner: Call) -> None:
    device = owner()
    assert holds_update(device.answer(make_tiny_plan()))
    assert said_code(device.answer(make_tiny_plan(cohort={"rounds": 3}), number=2)) is Code.PLAN
    assert holds_update(device.answer(make_tiny_plan(), number=2))


def test_a_run_is_the_messages_own(owner: Call) -> None:
    """The context names the first run of a series: here run 1 for every message."""
    device = owner()
    for run, rounds in ((11, 4), (12, 3)):
        assert holds_update(device.answer(make_tiny_plan(cohort={"rounds": rounds}), run=run))
