"""The device's own ledger under secure aggregation: it refuses before it shows a key, and pays before it masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from secure_devices import code_of, make_lab

from bract.client import app as client_app
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger, charged_event
from bract.client.terms import Terms
from bract.privacy import Composed
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.ledger.statement import read_ledger
from bract.privacy.messages import KEYS, SECAGG, SHARES, TRAIN
from bract.privacy.server_view import Code

Call = Callable[..., Any]


@pytest.fixture
def terms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Terms]:
    """The terms of every device, which a test may change; each has a ledger in a folder of its own."""
    held, visit = [Terms()], client_app._accept_message

    def with_ledger(*arguments: Any) -> client_app.AcceptedMessage:
        met = visit(*arguments)
        spending = OwnerLedger(tmp_path / met.device.identity.public.hex(), held[0])
        return replace(met, device=replace(met.device, spending=spending))

    monkeypatch.setattr(client_app, "_accept_message", with_ledger)
    return held


@pytest.fixture
def charged(tmp_path: Path) -> Callable[..., list[int]]:
    """A function: the rounds that a device of the lab was charged."""

    def rounds(server: Any, place: int) -> list[int]:
        path = tmp_path / server.members[place].identity.public.hex() / LEDGER_FILE
        return [entry.round for entry in read_ledger(path).entries] if path.exists() else []

    return rounds


def covers(server: Any, rounds: int) -> Terms:
    """Terms that cover so many rounds of the lab's plan."""
    return Terms(max_epsilon=epsilon(Composed(charged_event(server.plan), rounds), Terms().max_delta) * 1.0001)


def test_a_round_is_charged_once_and_only_when_the_device_masks(terms: list[Terms], charged: Call) -> None:
    server = make_lab(3)
    server.until("shares")
    assert [charged(server, place) for place in server.everyone] == [[], [], []]
    words = server.train()
    assert [charged(server, place) for place in server.everyone] == [[1], [1], [1]]
    assert server.opened(words, server.unmask(server.everyone)).tolist() == server.true(server.everyone).tolist()
    assert charged(server, 0) == [1]


@pytest.mark.parametrize("kind", [KEYS, SHARES])
def test_who_cannot_pay_says_so_before_it_shows_a_key(terms: list[Terms], kind: str) -> None:
    """And before it shares one."""
    server = make_lab(3)
    if kind == SHARES:
        server.until("keys")
    terms[0] = Terms(max_epsilon=1e-9)
    sections = {"cards": server.seating(0)} if kind == SHARES else {}
    reply = server.tell(0, kind, **sections)
    assert code_of(reply) is Code.REFUSED
    assert SECAGG not in reply.content


def test_who_can_pay_for_this_round_gives_no_card_for_the_next(terms: list[Terms]) -> None:
    """It can pay for this round alone."""
    server = make_lab(3)
    for rounds, given in ((1, False), (2, True)):
        terms[0] = covers(server, rounds)
        server = make_lab(3)
        server.until("shares")
        reply = server.tell(0, TRAIN, cohort=server.invitation(0), keys=b"")
        assert code_of(reply) is Code.OK
        assert ("card" in reply.content.config_records[SECAGG]) == given


def test_a_device_that_can_no_longer_pay_forgets_the_round(
    terms: list[Terms], charged: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its money goes between the first check of the message and the charge, to another server."""
    server = make_lab(3)
    server.until("shares")
    monkeypatch.setattr(client_app.AcceptedMessage, "check_ledger", lambda visit, number: None)
    terms[0] = Terms(max_epsilon=1e-9)
    assert code_of(server.tell(0, TRAIN, cohort=server.invitation(0))) is Code.REFUSED
    assert charged(server, 0) == []
    assert not any(name.startswith("bract.secagg") for name in server.members[0].context.state)
    terms[0] = Terms()
    words = server.train([1, 2])
    total = server.opened(words, server.unmask([1, 2]))
    assert total.tolist() == server.true([1, 2]).tolist()


def test_a_round_whose_cohort_the_device_refuses_is_not_charged(terms: list[Terms], charged: Call) -> None:
    server = make_lab(3)
    server.until("shares")
    assert code_of(server.tell(0, TRAIN, cohort=b"\0")) is Code.MALFORMED
    assert charged(server, 0) == []
