"""The masks of one device's vector: a pair mask for each of its peers, and its own mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .keys import Card, Keypair, RoundSecrets, contribution, own_key, pair_key
from .masks import Mask


@dataclass(frozen=True, repr=False)
class Peer:
    """Another device of the round, and its secret contribution through the KEM to the pair mask."""

    card: Card
    contribution: bytes = b""


def masks_of(own: RoundSecrets, card: Card, peers: Iterable[Peer], session: bytes, context: bytes) -> list[Mask]:
    """Return the masks that a device adds to its vector in a round."""
    alone = Mask(own_key(own.own, card.identity, context))
    return [alone, *pair_masks(own.mask, card, peers, session, context)]


def pair_masks(mask: Keypair, card: Card, peers: Iterable[Peer], session: bytes, context: bytes) -> list[Mask]:
    """Return the pair masks of a device: the lower identity of a pair adds the mask, the higher one subtracts it.

    `mask` is the device's mask key pair. In a sum of both devices' vectors, their pair masks cancel.
    """
    return [_pair_mask(mask, card, peer, session, context) for peer in peers]


def _pair_mask(mask: Keypair, card: Card, peer: Peer, session: bytes, context: bytes) -> Mask:
    other = peer.card
    lower = card.identity < other.identity
    low, high = (card.identity, other.identity) if lower else (other.identity, card.identity)
    given = peer.contribution
    if lower and other.mask.mlkem:
        given = contribution(mask, session, high)
    return Mask(pair_key(mask, other.mask, low, high, context, given), 1 if lower else -1)
