"""The lying server at work: it reads no sum that it must not read, and as soon as a check is gone it does.

Each sabotage takes one of the device's checks away, as if it had never been written. The machine must then find an
attack within its examples: whoever breaks the check later will be told so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lying_server import AnsweredTwice
from machine import UNSHRUNK, LyingServer, TooFewHonest, attack

from bract.client import secure_round as secagg
from bract.client.disk.step_journal import MemoryJournal
from bract.client.secure_round import SecureRound
from bract.privacy.plan import thresholds
from bract.privacy.secagg import graph
from bract.privacy.secagg.session import Session

EXAMPLES = 2000


class MaliciousServer(LyingServer):
    modes = ("malicious-server",)


class SemiHonestServer(LyingServer):
    modes = ("semi-honest",)


SERVERS = pytest.mark.parametrize("server", [MaliciousServer, SemiHonestServer])


@SERVERS
def test_a_lying_server_reads_no_sum_over_too_few_honest_devices(server: type[LyingServer]) -> None:
    attack(50, server)


@pytest.mark.full
@SERVERS
def test_a_lying_server_reads_no_small_sum_in_many_examples(
    server: type[LyingServer],
) -> None:
    """Over too few honest devices."""
    attack(EXAMPLES // 2, server)


def test_the_machine_gets_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is refused everything would find nothing either: many of its examples read a sum."""
    ends: list[int] = []
    monkeypatch.setattr(LyingServer, "teardown", lambda self: (ends.append(self.read), self.open.close()))
    attack(30)
    assert sum(read > 0 for read in ends) >= 5


def lenient(check: Callable[..., Any]) -> Callable[..., Any]:
    """A check of the device as it would be if it knew of no least number of devices."""
    return lambda self, *more: check(replace(self, session=replace(self.session, least=2)), *more)


def count_those_who_are_seated(patch: pytest.MonkeyPatch) -> None:
    """The threshold and the least sum follow the cohort that the server seats, not the planned one."""
    patch.setattr(Session, "graph", lambda self, seats: graph.choose_graph(seats, self.colluders, self.dropouts))
    patch.setattr(SecureRound, "_check_count", lambda self, count: None)


def forget_the_colluders(patch: pytest.MonkeyPatch) -> None:
    """Half of the planned cohort is enough, whoever of it works with the server."""
    for module in (graph, thresholds):
        patch.setattr(module, "least_in_sum", lambda devices, colluders: devices // 2 + 1)


def let_members_be_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SecureRound, "_check_members", lenient(SecureRound._check_members))


def let_survivors_be_few(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SecureRound, "_check_survivors", lenient(SecureRound._check_survivors))


def let_few_sign(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SecureRound, "_check_signatures", lenient(SecureRound._check_signatures))


def mask_in_two_seatings_a_round(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SecureRound, "_masking", property(lambda self: secrets.token_bytes(32)))


def do_a_step_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryJournal, "first", lambda self, steps: None)
    patch.setattr(MemoryJournal, "answer", lambda self, step, request: None)


def let_any_stranger_in(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(secagg, "genuine", lambda card, session, roster: True)


def let_survivors_be_of_other_members(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(secagg, "check_context_signatures", lambda data, cards, survivors, context: None)


SABOTAGES = [
    (let_survivors_be_of_other_members, SemiHonestServer),
    (count_those_who_are_seated, MaliciousServer),
    (count_those_who_are_seated, SemiHonestServer),
    (forget_the_colluders, MaliciousServer),
    (let_members_be_few, MaliciousServer),
    (let_survivors_be_few, SemiHonestServer),
    (let_few_sign, MaliciousServer),
    (mask_in_two_seatings_a_round, MaliciousServer),
    (do_a_step_again, MaliciousServer),
    (do_a_step_again, SemiHonestServer),
    (let_any_stranger_in, MaliciousServer),
]


@pytest.mark.full
@pytest.mark.parametrize(("sabotage", "server"), SABOTAGES, ids=lambda value: value.__name__)
def test_without_a_check_the_machine_finds_the_attack(
    sabotage: Callable[[pytest.MonkeyPatch], None], server: type[LyingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    sabotage(monkeypatch)
    with pytest.raises((TooFewHonest, AnsweredTwice)):
        attack(EXAMPLES // 2, server, derandomize=True, **UNSHRUNK)
