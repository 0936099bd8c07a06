"""The seating of a cohort as bytes, whole or by neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.messages import Malformed
from bract.privacy.secagg.bitset import from_bits
from bract.privacy.secagg.keys import card_bytes
from bract.privacy.secagg.seating import HEAD, SeatedCohort, read_seating
from bract.privacy.secagg.session import Session

Make = Callable[..., Any]
BOTH = pytest.mark.parametrize("hybrid", [False, True])


@pytest.fixture(scope="module")
def parties(party: Make) -> dict[bool, Any]:
    return {hybrid: party(4, hybrid) for hybrid in (False, True)}


@pytest.fixture(scope="module")
def sparse(party: Make) -> Any:
    return party(60, sparse=(14, 8))


def written(session: Session, raw: Sequence[bytes], position: int, devices: int | None = None) -> bytes:
    """A seating of these cards, with the digest that they have."""
    head = (len(raw) if devices is None else devices).to_bytes(4, "big") + position.to_bytes(4, "big")
    return head + session.cards_digest(raw) + b"".join(raw)


def refused(data: bytes, session: Session) -> str:
    with pytest.raises(Malformed) as raised:
        read_seating(data, session)
    return str(raised.value)


@BOTH
@pytest.mark.parametrize("position", range(4))
def test_a_seating_comes_back_from_its_bytes(parties: Any, hybrid: bool, position: int) -> None:
    cohort, session = parties[hybrid].cohort, parties[hybrid].session
    seating = cohort.seating(position)
    back = read_seating(seating.to_bytes(), session)
    assert back == seating
    assert back.digest == cohort.digest
    assert dict(back.cards) == dict(enumerate(cohort.cards))
    assert back.neighbours == tuple(p for p in range(4) if p != position)
    assert len(seating.to_bytes()) == HEAD + 4 * card_bytes(hybrid)


def test_a_sparse_seating_holds_its_neighbours_cards_alone(sparse: Any) -> None:
    cohort, session = sparse.cohort, sparse.session
    for position in (0, 17, 59):
        back = read_seating(cohort.seating(position).to_bytes(), session)
        assert back.neighbours == cohort.neighbours(position)
        assert all(back.cards[p] is cohort.cards[p] or back.cards[p] == cohort.cards[p] for p in back.cards)
        assert len(back.cards) == cohort.graph.degree + 1 == 15


def test_the_rewritten_seating_of_these_tests_is_the_real_one(parties: Any) -> None:
    party = parties[False]
    raw = [card.to_bytes() for card in party.cohort.cards]
    assert written(party.session, raw, 2) == party.cohort.seating(2).to_bytes()


def test_cards_out_of_order_are_malformed(parties: Any) -> None:
    party = parties[False]
    raw = [card.to_bytes() for card in party.cohort.cards]
    for order in ((1, 0, 2, 3), (0, 1, 3, 2), (3, 2, 1, 0)):
        assert "out of order" in refused(written(party.session, [raw[i] for i in order], 0), party.session)


def test_a_card_or_an_identity_that_is_there_twice_is_malformed(parties: Any) -> None:
    party = parties[False]
    cards = party.cohort.cards
    raw = [card.to_bytes() for card in cards]
    assert "out of order" in refused(written(party.session, [raw[0], raw[1], raw[1], raw[3]], 0), party.session)
    double = replace(cards[1], mask=cards[0].mask).to_bytes()
    assert "out of order" in refused(written(party.session, [raw[0], raw[1], double, raw[3]], 0), party.session)


def test_a_digest_that_is_not_the_cards_is_malformed(parties: Any) -> None:
    party = parties[False]
    data = party.cohort.seating(1).to_bytes()
    for at in (8, HEAD - 1, HEAD, HEAD + 40, len(data) - 1):
        assert "not the cards" in refused(bytes(x ^ (i == at) for i, x in enumerate(data)), party.session)
    assert "not the cards" in refused(data, replace(party.session, round=2))


@pytest.mark.parametrize("devices", [0, 1, 3, 5, 256, 300, 2**20, 2**20 + 1, 2**32 - 1])
def test_a_count_other_than_that_of_the_cards_is_malformed(parties: Any, devices: int) -> None:
    """The number of devices."""
    party = parties[False]
    raw = [card.to_bytes() for card in party.cohort.cards]
    refused(written(party.session, raw, 0, devices), party.session)


@pytest.mark.parametrize("position", [4, 5, 2**32 - 1])
def test_a_place_beyond_the_devices_is_malformed(parties: Any, position: int) -> None:
    party = parties[False]
    raw = [card.to_bytes() for card in party.cohort.cards]
    assert refused(written(party.session, raw, position), party.session) == "not a seating"


def test_a_device_alone_has_no_seating(parties: Any) -> None:
    party = parties[False]
    raw = [party.cohort.cards[0].to_bytes()]
    assert refused(written(party.session, raw, 0), party.session) == "not a seating"
    assert refused(written(party.session, [], 0), party.session) == "not a seating"


@BOTH
def test_a_seating_cut_short_or_longer_is_malformed(parties: Any, hybrid: bool) -> None:
    party = parties[hybrid]
    data, size = party.cohort.seating(0).to_bytes(), card_bytes(hybrid)
    for wrong in (b"", data[:3], data[:HEAD], data[: HEAD + 2 * size], data[:-1], data[:-size], data + b"\x00"):
        refused(wrong, party.session)
    refused(data + data[-size:], party.session)
    refused(data, replace(party.session, hybrid=not hybrid))


def test_a_sparse_seating_of_an_unsafe_number_is_malformed(sparse: Any) -> None:
    """Of too few, too many or unsafely many."""
    data, size = sparse.cohort.seating(5).to_bytes(), card_bytes(False)
    for wrong in (data[:-size], data + data[-size:], data[: HEAD + 2 * size]):
        assert "not the cards" in refused(wrong, sparse.session)
    assert "out of order" in refused(data[:HEAD] + data[HEAD + size :] + data[HEAD : HEAD + size], sparse.session)
    assert "no graph" in refused(data, replace(sparse.session, sparse=None, planned=80, colluders=60))


@given(st.data())
def test_no_changed_byte_of_a_complete_seating_is_accepted(parties: Any, data: Any) -> None:
    """But that of the place."""
    party = parties[False]
    good = party.cohort.seating(0).to_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    changed = bytearray(good)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        seating = read_seating(bytes(changed), party.session)
    except Malformed:
        return
    assert at == 7
    assert seating.position in (1, 2, 3)


@given(st.binary(max_size=600))
def test_random_bytes_are_malformed(data: bytes) -> None:
    refused(data, Session(5, 1, bytes(32), False, 1 << 20, 1 << 18, 0.3, 1 << 19))


@BOTH
def test_each_box_is_found_where_its_sender_put_it(party: Make, hybrid: bool) -> None:
    shared = party(4, hybrid)
    for position in range(4):
        shared.share(position)
    cohort = shared.cohort
    assert cohort.members == (0, 1, 2, 3)
    for sender in range(4):
        assert len(cohort.boxes[sender]) == cohort.sealed_bytes(sender)
        boxes = b"".join(cohort.box(sender, other) for other in cohort.neighbours(sender))
        assert boxes == cohort.boxes[sender][:-64]
        assert (
            cohort.share_hash(sender, sender, "own") + cohort.share_hash(sender, sender, "mask")
            == cohort.boxes[sender][-64:]
        )
        sizes = cohort.seating(sender).box_sizes(cohort.neighbours(sender), hybrid)
        assert sizes == [len(cohort.box(other, sender)) for other in cohort.neighbours(sender)]


def test_an_invitation_names_members_and_brings_their_boxes(party: Make) -> None:
    """And no others' boxes."""
    shared = party(5, True)
    for position in (0, 2, 3):
        shared.share(position)
    cohort = shared.cohort
    assert cohort.members == (0, 2, 3)
    assert cohort.among(2) == [0, 2, 3]
    assert cohort.among(1) == [0, 2, 3]
    data = cohort.invitation(2)
    assert from_bits(data[:1], 5) == (0, 2, 3)
    assert data[1:] == cohort.box(0, 2) + cohort.box(3, 2)


def test_a_context_changes_with_cards_members_and_model(party: Make) -> None:
    one, other = party(3), party(3)
    contexts = set()
    for cohort in (one.cohort, other.cohort):
        contexts |= {cohort.context(bytes(32)), cohort.context(b"\x01" * 32)}
    one.share(0)
    contexts.add(one.cohort.context(bytes(32)))
    one.share(1)
    contexts.add(one.cohort.context(bytes(32)))
    assert len(contexts) == 6


def test_a_cohort_of_one_has_no_graph(parties: Any) -> None:
    with pytest.raises(ValueError, match="too few"):
        _ = SeatedCohort(parties[False].session, parties[False].cohort.cards[:1]).graph


@BOTH
@pytest.mark.parametrize("byte", range(4, 7))
def test_a_place_beyond_the_cohort_is_malformed(parties: Any, hybrid: bool, byte: int) -> None:
    """All four bytes of a place are read, the high ones too."""
    party = parties[hybrid]
    data = bytearray(party.cohort.seating(2).to_bytes())
    data[byte] = 1
    refused(bytes(data), party.session)
