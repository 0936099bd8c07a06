"""Taking the masks off a sum: the own masks of those in it, and the pair masks of those who dropped out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from ..ring import Words
from .keys import Card, Keypair, commitment, own_key
from .masking import Peer, pair_masks
from .masks import Mask, add_masks
from .seating import Cohort
from .shamir import SHARE_BYTES, combine, is_share
from .shares import unwrap

NO_SHARE = b"\xff" * SHARE_BYTES
"""What stands for a share that a device does not hold: no field element is that large."""

MOST_FAILURES = 512
"""How often, in one round, shares may be put together that do not fit: what liars can cost the server."""


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
    opening = Opening(cohort, opened)
    masks: list[Mask] = []
    for member in cohort.members:
        card = cohort.cards[member]
        if member in alive:
            own = opening.secret(member, lambda secret, card=card: _is_own(secret, card))
            masks.append(Mask(own_key(own, card.identity, context), -1))
        else:
            mask = opening.secret(member, lambda secret, card=card: _is_mask(secret, card))
            masks += _masks_of_dropout(cohort, member, Keypair(mask), alive, context)
    add_masks(total, masks)


class Opening:
    """The secrets of a round, put together from what devices opened, whatever some of them opened instead.

    The share of one who opened a wrong share before is tried last: it may be right, for who sealed it can have lied
    as well. The work that all of this takes is bounded.
    """

    def __init__(self, cohort: Cohort, opened: Mapping[int, bytes]) -> None:
        self._cohort, self._opened = cohort, opened
        self._known = {position: cohort.among(position) for position in opened}
        self._suspects: set[int] = set()
        self._failures = 0

    def secret(self, member: int, fits: Callable[[bytes], bool]) -> bytes:
        """Return the secret of a member that some threshold of neighbouring shares gives and that fits its card.

        Where one choice of shares does not fit and the next does, the share that only the first holds is wrong.

        Raises:
            TooFewShares: there is none, or too many choices of the round did not fit.
        """
        shares, threshold = self._shares(member), self._cohort.graph.threshold
        points = sorted(shares, key=lambda point: (point in self._suspects, point))
        for first in range(len(points) if len(points) > threshold else len(points) == threshold):
            chosen = (points + points)[first : first + threshold]
            secret = combine({point: shares[point] for point in chosen})
            if secret is not None and fits(secret):
                if first:
                    self._suspects.add(points[first - 1])
                return secret
            self._failures += 1
            if self._failures > MOST_FAILURES:
                break
        raise TooFewShares

    def _shares(self, member: int) -> dict[int, bytes]:
        """Return the shares that were opened of a member's secret, by their point."""
        shares: dict[int, bytes] = {}
        for holder in (*self._cohort.neighbours(member), member):
            if holder in self._opened:
                start = SHARE_BYTES * bisect_left(self._known[holder], member)
                share = self._opened[holder][start : start + SHARE_BYTES]
                if is_share(share):
                    shares[holder + 1] = share
        return shares


def _is_own(secret: bytes, card: Card) -> bool:
    return commitment(secret) == card.commitment


def _is_mask(secret: bytes, card: Card) -> bool:
    return Keypair(secret).public(bool(card.mask.mlkem)) == card.mask


def _masks_of_dropout(cohort: Cohort, dropout: int, mask: Keypair, alive: set[int], context: bytes) -> list[Mask]:
    """Return the pair masks of one who dropped out: added to the sum, they cancel those of its neighbours."""
    card, session = cohort.cards[dropout], cohort.session
    peers: list[Peer] = []
    for other in cohort.neighbours(dropout):
        if other in alive:
            lower = session.hybrid and other < dropout
            given = unwrap(mask, card, cohort.box(other, dropout), session.digest) if lower else b""
            peers.append(Peer(cohort.cards[other], given))
    return pair_masks(mask, card, peers, session.digest, context)
