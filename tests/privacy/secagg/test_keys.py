"""The keys and cards of a round, and what they are bound to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bract.privacy.messages import Malformed
from bract.privacy.secagg.identity import NO_CERTIFICATE, Identity, Roster, certify, new_identity, roster_of
from bract.privacy.secagg.keys import (
    Keypair,
    PublicKeys,
    card_bytes,
    channel_key,
    contribution,
    genuine,
    make_card,
    new_secrets,
    own_key,
    pair_key,
    read_card,
    usable,
)

SESSION, CONTEXT = b"\x01" * 32, b"\x02" * 32
BOTH = pytest.mark.parametrize("hybrid", [False, True])

LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 18).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]
"""X25519 public keys with which every secret gives zero (RFC 7748, section 6.1)."""


@BOTH
def test_a_card_comes_back_from_its_bytes(hybrid: bool) -> None:
    card = make_card(new_secrets(), new_identity(), SESSION, hybrid)
    data = card.to_bytes()
    assert len(data) == card_bytes(hybrid) == (2624 if hybrid else 256)
    assert read_card(data, hybrid) == card
    assert read_card(data, hybrid).to_bytes() == data


@BOTH
def test_a_card_of_another_length_is_malformed(hybrid: bool) -> None:
    data = make_card(new_secrets(), new_identity(), SESSION, hybrid).to_bytes()
    for wrong in (b"", data[:-1], data + b"\x00", data[: len(data) // 2], data * 2):
        with pytest.raises(Malformed):
            read_card(wrong, hybrid)
    with pytest.raises(Malformed):
        read_card(data, not hybrid)


@BOTH
def test_a_card_is_genuine_for_its_session_and_roster_alone(hybrid: bool) -> None:
    identity = new_identity()
    card = make_card(new_secrets(), identity, SESSION, hybrid)
    assert genuine(card, SESSION, roster_of([identity]))
    assert not genuine(card, CONTEXT, roster_of([identity]))
    assert not genuine(card, SESSION, roster_of([new_identity()]))
    assert not genuine(card, SESSION, Roster())


@BOTH
@pytest.mark.parametrize("changed", ["identity", "mask", "channel", "both swapped", "signature"])
def test_no_key_on_a_card_can_be_put_in_place_of_another(hybrid: bool, changed: str) -> None:
    identity, other = new_identity(), new_identity()
    card = make_card(new_secrets(), identity, SESSION, hybrid)
    foreign = make_card(new_secrets(), other, SESSION, hybrid)
    if changed == "both swapped":
        forged = replace(card, mask=card.channel, channel=card.mask)
    else:
        forged = replace(card, **{changed: getattr(foreign, changed)})
    assert not genuine(forged, SESSION, roster_of([identity, other]))


def test_no_byte_of_the_kem_keys_on_a_card_can_be_changed() -> None:
    identity = new_identity()
    card = make_card(new_secrets(), identity, SESSION, True)
    for name in ("mask", "channel"):
        keys = getattr(card, name)
        for at in (0, 600, 1183):
            kem = bytes(x ^ (i == at) for i, x in enumerate(keys.mlkem))
            assert not genuine(replace(card, **{name: replace(keys, mlkem=kem)}), SESSION, roster_of([identity]))


def test_a_certified_card_is_genuine() -> None:
    """One with a foreign certificate is not."""
    authority, fresh = new_identity(), new_identity()
    roster = Roster(authority=authority.public)
    for certificate, good in (
        (certify(authority, fresh.public), True),
        (certify(authority, new_identity().public), False),
        (NO_CERTIFICATE, False),
    ):
        card = make_card(new_secrets(), Identity(fresh.key, certificate), SESSION, False)
        assert genuine(read_card(card.to_bytes(), False), SESSION, roster) is good


@BOTH
def test_fresh_cards_are_usable(hybrid: bool) -> None:
    assert usable(make_card(new_secrets(), new_identity(), SESSION, hybrid))


@pytest.mark.parametrize("name", ["mask", "channel"])
@pytest.mark.parametrize("low", LOW_ORDER, ids=lambda low: low.hex()[:6])
def test_a_card_with_a_key_of_low_order_is_not_usable(name: str, low: bytes) -> None:
    card = make_card(new_secrets(), new_identity(), SESSION, False)
    assert not usable(replace(card, **{name: PublicKeys(low)}))
    with pytest.raises(Malformed):
        Keypair(b"\x05" * 32).exchange(PublicKeys(low))


@pytest.mark.parametrize("name", ["mask", "channel"])
@pytest.mark.parametrize("kem", [b"\xff" * 1184, b"\x00" * 1183, b"\x01" * 32])
def test_a_card_with_what_is_no_kem_key_is_not_usable(name: str, kem: bytes) -> None:
    """A coefficient above 3328 is no ML-KEM key (FIPS 203, section 7.2)."""
    card = make_card(new_secrets(), new_identity(), SESSION, True)
    assert not usable(replace(card, **{name: replace(getattr(card, name), mlkem=kem)}))


def test_two_devices_agree_and_a_third_does_not() -> None:
    one, two, three = (new_secrets().mask for _ in range(3))
    shared = one.exchange(two.public(False))
    assert shared == two.exchange(one.public(False))
    assert shared != three.exchange(one.public(False))


def test_a_kem_secret_reaches_its_owner_alone() -> None:
    one, two = new_secrets().mask, new_secrets().mask
    secret, ciphertext = one.public(True).encapsulate()
    assert one.decapsulate(ciphertext) == secret
    assert two.decapsulate(ciphertext) != secret
    assert one.public(True).encapsulate()[0] != secret


def test_a_key_pair_follows_from_its_secret() -> None:
    """Its two halves differ."""
    one, same = Keypair(b"\x03" * 32), Keypair(b"\x03" * 32)
    assert one.public(True) == same.public(True)
    assert one.public(False) == PublicKeys(one.public(True).x25519)
    assert one.x25519.private_bytes_raw() not in one.mlkem.private_bytes_raw()
    assert one.x25519.private_bytes_raw() != one.secret


def test_fresh_secrets_differ_from_one_another() -> None:
    made = [new_secrets() for _ in range(3)]
    assert len({part for s in made for part in (s.mask.secret, s.own, s.channel.secret)}) == 9


def test_a_channel_key_is_bound_to_all_it_is_for() -> None:
    """Both cards, their order, the session and the secret of the KEM."""
    a, b = new_secrets(), new_secrets()
    one, two = (make_card(own, new_identity(), SESSION, False) for own in (a, b))
    key = channel_key(a.channel, two.channel, one, two, SESSION, b"")
    assert key == channel_key(b.channel, one.channel, one, two, SESSION, b"")
    others = {
        channel_key(a.channel, two.channel, two, one, SESSION, b""),
        channel_key(a.channel, two.channel, one, two, CONTEXT, b""),
        channel_key(a.channel, two.channel, one, two, SESSION, b"\x00" * 32),
        channel_key(a.channel, two.channel, replace(one, certificate=b"\x01" * 64), two, SESSION, b""),
        channel_key(a.channel, two.channel, one, replace(two, mask=one.mask), SESSION, b""),
        channel_key(a.mask, two.channel, one, two, SESSION, b""),
    }
    assert len(others) == 6
    assert key not in others


def test_a_pair_key_is_bound_to_all_it_is_for() -> None:
    """Both identities, the context and the contribution."""
    a, b = new_secrets().mask, new_secrets().mask
    low, high = b"\x01" * 32, b"\x02" * 32
    key = pair_key(a, b.public(False), low, high, CONTEXT, b"")
    assert key == pair_key(b, a.public(False), low, high, CONTEXT, b"")
    others = {
        pair_key(a, b.public(False), high, low, CONTEXT, b""),
        pair_key(a, b.public(False), low, high, SESSION, b""),
        pair_key(a, b.public(False), low, high, CONTEXT, b"\x00" * 32),
        pair_key(a, a.public(False), low, high, CONTEXT, b""),
    }
    assert len(others) == 4
    assert key not in others


def test_own_keys_and_contributions_are_bound_to_all_they_serve() -> None:
    secret, other = b"\x04" * 32, b"\x05" * 32
    keys = {own_key(secret, SESSION, CONTEXT), own_key(other, SESSION, CONTEXT), own_key(secret, CONTEXT, SESSION)}
    pair = Keypair(secret)
    given = {contribution(pair, SESSION, CONTEXT), contribution(Keypair(other), SESSION, CONTEXT)}
    given |= {contribution(pair, CONTEXT, SESSION), contribution(pair, SESSION, SESSION)}
    assert len(keys | given) == 7


def test_secrets_print_nothing() -> None:
    own = new_secrets()
    _ = own.mask.x25519, own.mask.mlkem
    assert (repr(own), str(own), repr(own.mask)) == (
        "RoundSecrets(secret)",
        "RoundSecrets(secret)",
        "Keypair(secret)",
    )


@BOTH
def test_a_card_prints_no_secret(hybrid: bool, holds_secret: Callable[[Any, list[bytes]], bool]) -> None:
    own, identity = new_secrets(), new_identity()
    card = make_card(own, identity, SESSION, hybrid)
    hidden = [own.mask.secret, own.own, own.channel.secret, identity.key.private_bytes_raw()]
    hidden += [own.mask.x25519.private_bytes_raw(), own.channel.x25519.private_bytes_raw()]
    for thing in (card, own, identity, [own], {"own": own}, own.mask.x25519, own.mask.mlkem):
        assert not holds_secret(thing, hidden)
    assert holds_secret(own.own, hidden)
