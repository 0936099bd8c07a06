"""Taking the masks off a sum: the own masks of those in it, and the pair masks of those who dropped out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from ..ring import Words
from .keys import Card, Keypair, commitment, own_key
from .masking import Peer, pair_masks
from .masks import Mask, add_masks
from .seating import Cohort
from .shamir import SHARE_BYTES, combine, is_share
from .shares import unwrap

NO_SHARE = b"\xff" * SHARE_BYTES
"""What stands for a share that a device does not hold: no field element is that large."""


class TooFewShares(Exception):
    """Not enough shares were opened, or they fit nothing: the sum stays masked."""


def unmask(total: Words, cohort: Cohort, opened: Mapping[int, bytes], survivors: Sequence[int], model: bytes) -> None:
    """Take all masks off the sum of the survivors' masked vectors, uint64 [words], in place.

    `opened` holds by position what a survivor opened: shares of the members it knows of, in order: of the own mask
    where the member survived, of its mask keys where it dropped out.

    Raises:
        TooFewShares: a secret has fewer shares than the threshold, or shares that do not give what its card shows.
            The sum stays masked.
    """
    context, alive = cohort.context(model), set(survivors)
    known = {position: cohort.among(position) for position in opened}
    masks: list[Mask] = []
    for member in cohort.members:
        secret = _secret(cohort, member, opened, known)
        if member in alive:
            masks.append(_own_mask(cohort.cards[member], secret, context))
        else:
            masks += _masks_of_dropout(cohort, member, secret, alive, context)
    add_masks(total, masks)


def _secret(cohort: Cohort, member: int, opened: Mapping[int, bytes], known: Mapping[int, list[int]]) -> bytes:
    """Return the secret of a member from just as many shares as it takes."""
    shares: dict[int, bytes] = {}
    for holder in sorted((*cohort.neighbours(member), member)):
        if holder in opened:
            start = SHARE_BYTES * bisect_left(known[holder], member)
            share = opened[holder][start : start + SHARE_BYTES]
            if is_share(share):
                shares[holder + 1] = share
        if len(shares) == cohort.graph.threshold:
            break
    secret = combine(shares) if len(shares) == cohort.graph.threshold else None
    if secret is None:
        raise TooFewShares
    return secret


def _own_mask(card: Card, secret: bytes, context: bytes) -> Mask:
    """Return what takes a survivor's own mask off the sum."""
    if commitment(secret) != card.commitment:
        raise TooFewShares
    return Mask(own_key(secret, card.identity, context), -1)


def _masks_of_dropout(cohort: Cohort, dropout: int, secret: bytes, alive: set[int], context: bytes) -> list[Mask]:
    """Return the pair masks of one who dropped out: added to the sum, they cancel those of its neighbours."""
    card, mask, session = cohort.cards[dropout], Keypair(secret), cohort.session
    if mask.public(session.hybrid) != card.mask:
        raise TooFewShares
    peers: list[Peer] = []
    for other in cohort.neighbours(dropout):
        if other in alive:
            lower = session.hybrid and other < dropout
            given = unwrap(mask, card, cohort.box(other, dropout), session.digest) if lower else b""
            peers.append(Peer(cohort.cards[other], given))
    return pair_masks(mask, card, peers, session.digest, context)
