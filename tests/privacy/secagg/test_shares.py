"""Boxes with shares: who opens them, and what a changed one gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.messages import Malformed
from bract.privacy.secagg.keys import CIPHERTEXT_BYTES, Card, RoundSecrets, contribution
from bract.privacy.secagg.shamir import PRIME, SHARE_BYTES, combine
from bract.privacy.secagg.shares import BoxContent, SecretShares, box_bytes, seal, split_secrets, unseal, unwrap

Make = Callable[..., Any]
HELD = SecretShares(b"\x00" * 33, b"\x00" + b"\xff" * 32)
WAYS = pytest.mark.parametrize("way", [(0, 1), (1, 0)], ids=["upward", "downward"])
BOTH = pytest.mark.parametrize("hybrid", [False, True])


@pytest.fixture(scope="module")
def parties(party: Make) -> dict[bool, Any]:
    return {hybrid: party(3, hybrid) for hybrid in (False, True)}


def ends(party: Any, way: tuple[int, int]) -> tuple[RoundSecrets, RoundSecrets, Card, Card, bytes]:
    """Secrets and cards of sender and receiver, and the session's digest."""
    sender, receiver = way
    cards, secrets = party.cohort.cards, party.secrets
    return secrets[sender], secrets[receiver], cards[sender], cards[receiver], party.session.digest


@BOTH
@WAYS
def test_a_box_opens_and_is_as_long_as_it_should_be(parties: Any, hybrid: bool, way: tuple[int, int]) -> None:
    """Its receiver opens it."""
    mine, theirs, sender, receiver, session = ends(parties[hybrid], way)
    box = seal(mine, sender, receiver, HELD, session)
    upward = way == (0, 1)
    assert len(box) == box_bytes(hybrid, upward) == 146 + hybrid * (2208 if upward else 1088)
    parcel = unseal(theirs, sender, receiver, box, session)
    assert parcel.held == HELD
    assert parcel.contribution == (contribution(mine.mask, session, receiver.identity) if hybrid and upward else b"")


@BOTH
@WAYS
@given(data=st.data())
def test_a_box_changed_in_any_bit_does_not_open(parties: Any, hybrid: bool, way: tuple[int, int], data: Any) -> None:
    mine, theirs, sender, receiver, session = ends(parties[hybrid], way)
    box = bytearray(seal(mine, sender, receiver, HELD, session))
    bit = data.draw(st.integers(0, 8 * len(box) - 1))
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Malformed):
        unseal(theirs, sender, receiver, bytes(box), session)


@BOTH
@WAYS
def test_a_box_of_another_length_does_not_open(parties: Any, hybrid: bool, way: tuple[int, int]) -> None:
    mine, theirs, sender, receiver, session = ends(parties[hybrid], way)
    box = seal(mine, sender, receiver, HELD, session)
    for wrong in (b"", box[:-1], box + b"\x00", box[1:], box * 2):
        with pytest.raises(Malformed):
            unseal(theirs, sender, receiver, wrong, session)


@BOTH
@WAYS
def test_a_box_opens_for_its_pair_in_its_session_alone(parties: Any, hybrid: bool, way: tuple[int, int]) -> None:
    """As from its sender to its receiver."""
    party = parties[hybrid]
    mine, theirs, sender, receiver, session = ends(party, way)
    third, stranger = party.cohort.cards[2], party.secrets[2]
    box = seal(mine, sender, receiver, HELD, session)
    size = box_bytes(hybrid, way == (0, 1))
    for secrets, claimed, meant, when in (
        (theirs, third, receiver, session),
        (stranger, sender, receiver, session),
        (stranger, sender, third, session),
        (theirs, sender, receiver, bytes(32)),
        (theirs, replace(sender, certificate=b"\x01" * 64), receiver, session),
        (theirs, replace(sender, mask=third.mask), receiver, session),
        (theirs, sender, replace(receiver, signature=bytes(64)), session),
        (mine, receiver, sender, session),  # sent back to its sender
    ):
        fitted = (box + bytes(3000))[: box_bytes(hybrid, claimed.identity < meant.identity)]
        with pytest.raises(Malformed):
            unseal(secrets, claimed, meant, fitted, when)
    assert len(box) == size


@pytest.mark.parametrize("bad", [b"\xff" * 33, PRIME.to_bytes(33, "big")], ids=["ones", "prime"])
@pytest.mark.parametrize("name", ["own", "mask"])
def test_a_box_of_something_that_is_no_share_is_malformed(parties: Any, bad: bytes, name: str) -> None:
    mine, theirs, sender, receiver, session = ends(parties[False], (0, 1))
    box = seal(mine, sender, receiver, replace(HELD, **{name: bad}), session)
    with pytest.raises(Malformed, match="not shares"):
        unseal(theirs, sender, receiver, box, session)


def test_a_box_holds_shares_of_the_right_length_alone(parties: Any) -> None:
    mine, theirs, sender, receiver, session = ends(parties[False], (0, 1))
    with pytest.raises(Malformed):
        unseal(theirs, sender, receiver, seal(mine, sender, receiver, SecretShares(b"", b""), session), session)


def test_contributions_open_by_the_receivers_mask_keys_alone(parties: Any) -> None:
    """The server, which has only the mask keys of one who dropped out, can take its contribution from a box."""
    party = parties[True]
    mine, theirs, sender, receiver, session = ends(party, (0, 1))
    box = seal(mine, sender, receiver, HELD, session)
    given = contribution(mine.mask, session, receiver.identity)
    assert unwrap(theirs.mask, receiver, box, session) == given
    for other in (theirs.channel, mine.mask, party.secrets[2].mask):
        assert unwrap(other, receiver, box, session) != given
    assert unwrap(theirs.mask, party.cohort.cards[2], box, session) != given
    assert given not in box
    assert HELD.mask not in box


def test_the_same_shares_are_sealed_anew_by_each_hybrid_box(parties: Any) -> None:
    mine, _, sender, receiver, session = ends(parties[True], (0, 1))
    one, two = (seal(mine, sender, receiver, HELD, session) for _ in range(2))
    assert one[-82:] != two[-82:]
    assert one[:CIPHERTEXT_BYTES] != two[:CIPHERTEXT_BYTES]


def test_a_threshold_of_what_devices_hold_gives_each_secret(parties: Any) -> None:
    own = parties[False].secrets[0]
    positions = [0, 3, 7, 8, 300]
    held = dict(zip(positions, split_secrets(own, 3, positions), strict=True))
    assert all(len(h.own) == len(h.mask) == SHARE_BYTES for h in held.values())
    for chosen in ([0, 3, 7], [300, 8, 0]):
        assert combine({p + 1: held[p].own for p in chosen}) == own.own
        assert combine({p + 1: held[p].mask for p in chosen}) == own.mask.secret
    assert combine({p + 1: (held[p].own if p else held[p].mask) for p in (0, 3, 7)}) not in (own.own, own.mask.secret)


def test_the_channel_secret_is_never_shared(parties: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    own, shared = parties[False].secrets[0], []
    module = "bract.privacy.secagg.shares.split"
    monkeypatch.setattr(module, lambda secret, threshold, points: shared.append(secret) or [b""] * len(points))
    split_secrets(own, 2, [0, 1, 2])
    assert shared == [own.own, own.mask.secret]


def test_shares_print_nothing(holds_secret: Callable[[Any, list[bytes]], bool]) -> None:
    held = SecretShares(b"abcdefgh" * 4 + b"i", b"qrstuvwx" * 4 + b"y")
    parcel = BoxContent(held, b"12345678" * 4)
    assert (repr(held), repr(parcel)) == ("SecretShares(secret)", "BoxContent(secret)")
    hidden = [held.own, held.mask, parcel.contribution]
    assert not any(holds_secret(thing, hidden) for thing in (held, parcel, [held], {0: parcel}))
