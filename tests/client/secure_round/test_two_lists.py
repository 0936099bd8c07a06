"""A server that shows two lists of survivors, in the mode that has the survivors sign theirs.

Of six devices four must sign. Two lists that both get four signatures share two honest signers or more, and an honest
device signs one list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from devices import said_code
from secure_devices import code_of, make_lab

from bract.privacy.messages import CONSENT, UNMASK
from bract.privacy.secagg.consent import consent, pack_consents
from bract.privacy.secagg.identity import new_identity
from bract.privacy.server_view import Code

ONE, OTHER = (0, 1, 2, 3, 4), (0, 1, 2, 3, 5)


@pytest.fixture
def server() -> Any:
    """The round of six devices, all of whom sent their vectors."""
    made = make_lab(6, aggregation={"protocol": "secagg", "mode": "malicious-server"})
    made.sent = made.until("masked")
    return made


def signatures(server: Any, who: Any, survivors: Any) -> dict[int, bytes]:
    """What devices sign if they are asked to, by position."""
    bits = server.bits(survivors)
    return {p: server.section(server.tell(p, CONSENT, survivors=bits), "signature") for p in who}


def ask(server: Any, place: int, survivors: Any, signed: Mapping[int, bytes] | bytes) -> Any:
    data = signed if isinstance(signed, bytes) else pack_consents(signed)
    return server.tell(place, UNMASK, survivors=server.bits(survivors), signatures=data)


def context_of(server: Any) -> bytes:
    return server.cohort.context(server.model)


class TestADeviceThatSignedOneList:
    def test_signs_no_other(self, server: Any) -> None:
        signatures(server, [0], ONE)
        assert said_code(server.tell(0, CONSENT, survivors=server.bits(OTHER))) is Code.REFUSED

    def test_opens_nothing_for_the_other(self, server: Any) -> None:
        forged = signatures(server, [1, 2, 3, 5], OTHER)
        signatures(server, [0], ONE)
        assert said_code(ask(server, 0, OTHER, forged)) is Code.REFUSED

    def test_opens_its_shares_for_that_one_all_the_same(self, server: Any) -> None:
        signed = signatures(server, ONE, ONE)
        ask(server, 0, OTHER, signed)
        opened = {p: server.section(ask(server, p, ONE, signed), "opened") for p in ONE}
        sent = {p: server.sent[p] for p in ONE}
        assert np.array_equal(server.opened(sent, opened), server.true(ONE))


class TestTwoLists:
    @pytest.mark.parametrize("for_one", [2, 3, 4])
    def test_do_not_both_open(self, server: Any, for_one: int) -> None:
        """However the server deals the lists out, at most one of them gets enough signatures."""
        first = signatures(server, ONE[:for_one], ONE)
        second = signatures(server, [p for p in OTHER if p not in first], OTHER)
        opened = {
            name: [p for p in signed if code_of(ask(server, p, alive, signed)) is Code.OK]
            for name, alive, signed in (("one", ONE, first), ("other", OTHER, second))
        }
        assert not (opened["one"] and opened["other"])
        assert bool(opened["one"]) == (for_one >= 4)

    def test_both_signed_by_all_colluders_still_do_not_open(self, server: Any) -> None:
        """The plan withstands fewer than a third: one of six, who signs whatever the server wants."""
        context, colluder = context_of(server), server.members[0].identity
        first = signatures(server, (1, 2), ONE) | {0: consent(colluder, context, server.bits(ONE))}
        second = signatures(server, (3, 5), OTHER) | {0: consent(colluder, context, server.bits(OTHER))}
        assert {code_of(ask(server, p, ONE, first)) for p in (1, 2)} == {Code.REFUSED}
        assert {code_of(ask(server, p, OTHER, second)) for p in (3, 5)} == {Code.REFUSED}


class TestSignatures:
    def test_by_too_few_open_nothing(self, server: Any) -> None:
        signed = signatures(server, range(6), range(6))
        for count in range(4):
            few = {p: signed[p] for p in range(count)}
            assert said_code(ask(server, 0, range(6), few)) is Code.REFUSED
        enough = {p: signed[p] for p in (1, 2, 4, 5)}
        server.section(ask(server, 0, range(6), enough), "opened")

    def test_cannot_be_left_out(self, server: Any) -> None:
        signatures(server, range(6), range(6))
        assert said_code(server.tell(0, UNMASK, survivors=server.bits(range(6)))) is Code.REFUSED

    def test_of_another_list_open_nothing(self, server: Any) -> None:
        signatures(server, [0], ONE)
        signed = signatures(server, [1, 2, 3, 5], OTHER)
        assert said_code(ask(server, 0, ONE, {p: signed[p] for p in (1, 2, 3)})) is Code.MALFORMED

    def test_by_devices_that_are_not_survivors_open_nothing(self, server: Any) -> None:
        signed = signatures(server, (0, 1, 2), (0, 1, 2, 3))
        forged = consent(server.members[5].identity, context_of(server), server.bits((0, 1, 2, 3)))
        assert said_code(ask(server, 0, (0, 1, 2, 3), signed | {5: forged})) is Code.MALFORMED

    @pytest.mark.parametrize("place", [6, 7, 2**32 - 1])
    def test_by_nobody_of_the_cohort_open_nothing(self, server: Any, place: int) -> None:
        signed = signatures(server, range(6), range(6))
        assert said_code(ask(server, 0, range(6), signed | {place: signed[1]})) is Code.MALFORMED

    def test_by_a_stranger_open_nothing(self, server: Any) -> None:
        signed = signatures(server, range(6), range(6))
        forged = consent(new_identity(), context_of(server), server.bits(range(6)))
        assert said_code(ask(server, 0, range(6), signed | {3: forged})) is Code.MALFORMED

    def test_in_anothers_place_open_nothing(self, server: Any) -> None:
        signed = signatures(server, range(6), range(6))
        assert said_code(ask(server, 0, range(6), signed | {3: signed[2]})) is Code.MALFORMED

    def test_of_another_round_open_nothing(self, server: Any) -> None:
        old = signatures(server, range(6), range(6))
        server.keys(2)
        server.shares()
        server.train()
        signatures(server, [0], range(6))
        assert said_code(ask(server, 0, range(6), old)) is Code.MALFORMED

    def test_of_another_model_open_nothing(self, server: Any) -> None:
        signatures(server, [0], range(6))
        context = server.cohort.context(bytes(32))
        forged = {p: consent(server.members[p].identity, context, server.bits(range(6))) for p in range(1, 6)}
        assert said_code(ask(server, 0, range(6), forged)) is Code.MALFORMED

    @pytest.mark.parametrize("order", [(0, 1, 1, 2), (0, 0, 0, 0), (1, 0, 2, 3), (0, 1, 2, 3, 3), (3, 2, 1, 0)])
    def test_twice_or_out_of_order_open_nothing(self, server: Any, order: tuple[int, ...]) -> None:
        signed = signatures(server, range(6), range(6))
        data = b"".join(pack_consents({p: signed[p]}) for p in order)
        assert said_code(ask(server, 0, range(6), data)) is Code.MALFORMED

    @pytest.mark.parametrize("cut", [1, 4, 67, -1])
    def test_cut_short_open_nothing(self, server: Any, cut: int) -> None:
        signed = pack_consents(signatures(server, range(6), range(6)))
        assert said_code(ask(server, 0, range(6), signed[:cut])) is Code.MALFORMED

    def test_where_none_are_asked_for_open_nothing(self) -> None:
        server = make_lab(6)
        server.until("masked")
        for data in (b"", bytes(68)):
            assert said_code(ask(server, 0, range(6), data)) is Code.MALFORMED


def test_after_each_refusal_a_device_opens_the_list_it_signed(server: Any) -> None:
    signed = signatures(server, range(6), range(6))
    for data in (b"", b"\0", pack_consents({0: signed[0]}), pack_consents({**signed, 2: signed[1]})):
        assert code_of(ask(server, 0, range(6), data)) is not Code.OK
    opened = {p: server.section(ask(server, p, range(6), signed), "opened") for p in range(6)}
    assert np.array_equal(server.opened(server.sent, opened), server.true(range(6)))
