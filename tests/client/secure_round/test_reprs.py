"""What carries a secret shows none of it, however it is printed."""

from __future__ import annotations

from typing import Any

from devices import node_context, random_records
from secure_devices import make_lab

from bract.client.device import Device
from bract.client.disk.step_journal import MemoryJournal
from bract.client.records import Records
from bract.client.secure_round import Seat, SecureRound, Stage
from bract.client.terms import Terms
from bract.privacy.secagg.identity import Identity, new_identity, roster_of
from bract.privacy.secagg.keys import Keypair, RoundSecrets, make_card, new_secrets
from bract.privacy.secagg.masking import Peer
from bract.privacy.secagg.masks import Mask
from bract.privacy.secagg.session import make_session
from bract.privacy.secagg.shares import BoxContent, SecretShares, split_secrets


def carriers(plan: Any, context: Any) -> tuple[list[bytes], list[object]]:
    """A device's secrets, and all objects that carry them."""
    identity, own = new_identity(), new_secrets()
    held = split_secrets(own, 2, (0, 1))[0]
    session = make_session(plan, 1, 1)
    card = make_card(own, identity, session.digest, hybrid=False)
    roster = roster_of([identity])
    seat = Seat(
        session.digest,
        Stage.KEYS,
        card.to_bytes(),
        own.mask.secret,
        own.own,
        own.channel.secret,
        held=held.own + held.mask,
    )
    records: Records = random_records(2)
    things = [
        identity,
        own,
        own.mask,
        held,
        BoxContent(held, own.own),
        Peer(card, own.own),
        Mask(own.own),
        seat,
        seat.secrets,
        SecureRound(session, plan, identity, roster, MemoryJournal(), context.state),
        Device(records, Terms(), identity=identity, roster=roster),
    ]
    private = identity.key.private_bytes_raw()
    return [private, own.own, own.mask.secret, own.channel.secret, held.own, held.mask], things


def test_what_carries_a_secret_does_not_show_it() -> None:
    secrets, things = carriers(make_lab(3).plan, node_context())
    kinds = {Identity, RoundSecrets, Keypair, SecretShares, BoxContent, Peer, Mask, Seat, SecureRound, Device}
    assert {type(thing) for thing in things} == kinds
    for thing in things:
        for text in (repr(thing), str(thing), f"{thing}", repr([thing]), f"{thing!r:>9}"):
            assert not any(form in text for secret in secrets for form in (secret.hex(), repr(secret)[2:-1]))
