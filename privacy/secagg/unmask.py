"""Taking the masks off a sum: the own masks of those in it, and the pair masks of those who dropped out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from ..encoding.ring import Words
from .keys import Card, Keypair, commitment, own_key
from .masking import Peer, pair_masks
from .masks import Mask, add_masks
from .roster_view import Cohort
from .shamir import SHARE_BYTES, combine
from .shares import share_hash, unwrap


class TooFewShares(Exception):
    """Not enough shares were opened, or they fit nothing: the sum stays masked.

    `dealer` is the position of the member whose shares are right by their hashes and do not give its secret, if that
    is why: nobody else can have done that.
    """

    def __init__(self, dealer: int | None = None) -> None:
        super().__init__()
        self.dealer = dealer


def unmask(total: Words, cohort: Cohort, opened: Mapping[int, bytes], survivors: Sequence[int], model: bytes) -> None:
    """Take all masks off the sum of the survivors' masked vectors, uint64 [words], in place.

    `opened` holds by position what a survivor opened: shares of the members it knows of, in order: of the own mask
    where the member survived, of its mask keys where it dropped out.

    Raises:
        TooFewShares: a secret has fewer right shares than the threshold, or they do not give what its card shows.
            The sum stays masked.
    """
    context, alive = cohort.context(model), set(survivors)
    opening = Opening(cohort, opened)
    masks: list[Mask] = []
    for member in cohort.members:
        card = cohort.cards[member]
        if member in alive:
            own = opening.secret(member, "own", lambda secret, card=card: _is_own(secret, card))
            masks.append(Mask(own_key(own, card.identity, context), -1))
        else:
            mask = opening.secret(member, "mask", lambda secret, card=card: _is_mask(secret, card))
            masks += _masks_of_dropout(cohort, member, Keypair(mask), alive, context)
    add_masks(total, masks)


class Opening:
    """The secrets of a round, put together from what devices opened, whatever some of them opened instead.

    A share that misses the hash which its sealer gave out is passed over, however many do; who opened one is asked
    last for the others, so that most secrets are put together from the same devices' shares.
    """

    def __init__(self, cohort: Cohort, opened: Mapping[int, bytes]) -> None:
        self._cohort, self._opened = cohort, opened
        self._known = {position: cohort.among(position) for position in opened}
        self._wrong: set[int] = set()

    def secret(self, member: int, kind: str, fits: Callable[[bytes], bool]) -> bytes:
        """Return the secret of a member, `own` or `mask`, that a threshold of right shares gives and that fits it.

        Raises:
            TooFewShares: fewer are right, or they do not give what the member's card shows.
        """
        shares, threshold = dict[int, bytes](), self._cohort.graph.threshold
        for holder in self._holders(member):
            share = self._share(member, holder)
            if self._is_right(share, member, holder, kind):
                shares[holder + 1] = share
            else:
                self._wrong.add(holder)
            if len(shares) == threshold:
                break
        else:
            raise TooFewShares
        secret = combine(shares)
        if secret is None or not fits(secret):
            raise TooFewShares(dealer=member)
        return secret

    def _holders(self, member: int) -> list[int]:
        """Return who opened a share of a member's secret: itself, its neighbours, and last who opened wrong ones."""
        holders = (p for p in (member, *self._cohort.neighbours(member)) if p in self._opened)
        return sorted(holders, key=lambda holder: (holder in self._wrong, holder))

    def _share(self, member: int, holder: int) -> bytes:
        start = SHARE_BYTES * bisect_left(self._known[holder], member)
        return self._opened[holder][start : start + SHARE_BYTES]

    def _is_right(self, share: bytes, member: int, holder: int, kind: str) -> bool:
        cohort = self._cohort
        sealer, keeper = cohort.cards[member], cohort.cards[holder]
        found = share_hash(kind, share, sealer, keeper, cohort.session.digest)
        return found == cohort.share_hash(member, holder, kind)


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
