"""Signatures on a list of survivors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.messages import Malformed
from bract.privacy.secagg.bitset import to_bits
from bract.privacy.secagg.consent import (
    check_context_signatures,
    consent,
    consents,
    count_consents,
    pack_consents,
    sign_context,
    signed_context,
)

Make = Callable[..., Any]
CONTEXT, LIST = b"\x01" * 32, to_bits([0, 1, 3], 5)
SIZE = 68


@pytest.fixture(scope="module")
def five(party: Make) -> Any:
    return party(5)


@pytest.fixture(scope="module")
def signed(five: Any) -> dict[int, bytes]:
    return {p: consent(five.identities[p], CONTEXT, LIST) for p in range(5)}


def count(five: Any, data: bytes, signers: tuple[int, ...] = (0, 1, 3), context: bytes = CONTEXT) -> int:
    return count_consents(data, dict(enumerate(five.cohort.cards)), signers, context, LIST)


def refused(five: Any, data: bytes, **more: Any) -> None:
    with pytest.raises(Malformed):
        count(five, data, **more)


def test_a_signature_is_of_one_list_in_one_round_by_one_device(five: Any, signed: dict[int, bytes]) -> None:
    card, other = five.cohort.cards[:2]
    assert consents(card, signed[0], CONTEXT, LIST)
    assert not consents(other, signed[0], CONTEXT, LIST)
    assert not consents(card, signed[0], b"\x02" * 32, LIST)
    assert not consents(card, signed[0], CONTEXT, to_bits([0, 1], 5))
    assert not consents(card, signed[0], CONTEXT + LIST, b"")
    assert not consents(card, signed[0][:-1], CONTEXT, LIST)
    assert not consents(card, b"", CONTEXT, LIST)


def test_a_signed_card_is_no_consent(five: Any) -> None:
    card = five.cohort.cards[0]
    assert not consents(card, card.signature, CONTEXT, LIST)


@pytest.mark.parametrize("chosen", [(), (0,), (3,), (0, 3), (0, 1, 3)])
def test_the_signatures_of_signers_are_counted(five: Any, signed: dict[int, bytes], chosen: tuple[int, ...]) -> None:
    data = pack_consents({p: signed[p] for p in reversed(chosen)})
    assert len(data) == SIZE * len(chosen)
    assert count(five, data) == len(chosen)


def test_one_signature_counts_once(five: Any, signed: dict[int, bytes]) -> None:
    entry = pack_consents({1: signed[1]})
    refused(five, entry * 2)
    refused(five, entry * 3)


def test_signatures_out_of_order_are_malformed(five: Any, signed: dict[int, bytes]) -> None:
    one, two = pack_consents({0: signed[0]}), pack_consents({3: signed[3]})
    assert count(five, one + two) == 2
    refused(five, two + one)


def test_the_signature_of_one_who_may_not_sign_is_malformed(five: Any, signed: dict[int, bytes]) -> None:
    refused(five, pack_consents({p: signed[p] for p in (0, 2)}))
    refused(five, pack_consents({4: signed[4]}))
    refused(five, pack_consents({2**32 - 1: signed[4]}))
    assert count(five, pack_consents({4: signed[4]}), signers=(4,)) == 1


def test_a_signature_under_the_name_of_another_is_malformed(five: Any, signed: dict[int, bytes]) -> None:
    refused(five, pack_consents({0: signed[1]}))
    refused(five, pack_consents({0: signed[0], 1: signed[0]}))


def test_one_bad_signature_among_good_ones_spoils_them_all(five: Any, signed: dict[int, bytes]) -> None:
    other = consent(five.identities[1], CONTEXT, to_bits([0, 1], 5))
    refused(five, pack_consents({0: signed[0], 1: other, 3: signed[3]}))


def test_signatures_of_another_round_are_malformed(five: Any, signed: dict[int, bytes]) -> None:
    refused(five, pack_consents(signed | {0: signed[0]}), signers=tuple(range(5)), context=b"\x02" * 32)


@pytest.mark.parametrize("cut", [1, 4, 5, 63, 64, 67])
def test_signatures_cut_short_are_malformed(five: Any, signed: dict[int, bytes], cut: int) -> None:
    data = pack_consents({p: signed[p] for p in (0, 1)})
    refused(five, data[:-cut])
    refused(five, data + bytes(cut))


@given(st.data())
def test_no_changed_bit_is_counted(five: Any, signed: dict[int, bytes], data: Any) -> None:
    good = bytearray(pack_consents({p: signed[p] for p in (0, 1, 3)}))
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    good[bit // 8] ^= 1 << bit % 8
    refused(five, bytes(good))


class TestSurvivors:
    """In semi-honest mode each survivor must have signed the context that whoever opens its shares masked for."""

    def check(self, five: Any, signed: dict[int, bytes], survivors: tuple[int, ...] = (0, 1, 3)) -> None:
        check_context_signatures(pack_consents(signed), dict(enumerate(five.cohort.cards)), survivors, CONTEXT)

    def test_of_this_context_pass(self, five: Any) -> None:
        self.check(five, {p: sign_context(five.identities[p], CONTEXT) for p in (0, 1, 3)})

    @pytest.mark.parametrize("places", [(0, 1), (0, 1, 2, 3), (0, 1, 2), ()])
    def test_are_just_those_that_signed(self, five: Any, places: tuple[int, ...]) -> None:
        with pytest.raises(Malformed):
            self.check(five, {p: sign_context(five.identities[p], CONTEXT) for p in places})

    @pytest.mark.parametrize("context", [b"\x02" * 32, b"", CONTEXT + LIST])
    def test_of_another_context_are_refused(self, five: Any, context: bytes) -> None:
        signed = {p: sign_context(five.identities[p], CONTEXT) for p in (0, 1)}
        with pytest.raises(Malformed):
            self.check(five, signed | {3: sign_context(five.identities[3], context)})

    def test_sign_themselves(self, five: Any) -> None:
        signed = {p: sign_context(five.identities[p], CONTEXT) for p in (0, 1, 3)}
        with pytest.raises(Malformed):
            self.check(five, signed | {3: signed[1]})

    def test_that_consent_have_not_signed_what_they_masked_for(self, five: Any) -> None:
        """A signature on a list of survivors is none on the context of the masks."""
        card = five.cohort.cards[0]
        assert signed_context(card, sign_context(five.identities[0], CONTEXT), CONTEXT)
        assert not signed_context(card, consent(five.identities[0], CONTEXT, b""), CONTEXT)
        assert not consents(card, sign_context(five.identities[0], CONTEXT), CONTEXT, b"")
