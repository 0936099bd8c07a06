"""Unmasking a sum: it removes the own masks of the survivors and the pair masks of the dropouts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

from ..encoding.ring import Words
from .keys import Card, Keypair, commitment, own_key
from .masking import Peer, pair_masks
from .masks import Mask, add_masks
from .seating import SeatedCohort
from .shamir import SHARE_BYTES, combine
from .shares import share_hash, unwrap


class TooFewShares(Exception):
    """Too few valid shares were opened, or they do not give the secret: the sum stays masked.

    `dealer` is the position of a member whose shares match their hashes but do not give its secret, else None. Only
    the member itself can cause that.
    """

    def __init__(self, dealer: int | None = None) -> None:
        super().__init__()
        self.dealer = dealer


def unmask(
    total: Words, cohort: SeatedCohort, opened: Mapping[int, bytes], survivors: Sequence[int], model: bytes
) -> None:
    """Remove all masks from the sum of the survivors' masked vectors, uint64 [words], in place.

    `opened` maps the position of a survivor to the shares that it opened, in the order of the members that it holds
    shares of. Each is a share of the member's own mask if the member survived, and of its mask keys if it dropped
    out.

    Raises:
        TooFewShares: a secret has fewer valid shares than the threshold, or they do not give the secret on its card.
            The sum stays masked.
    """
    context, alive = cohort.context(model), set(survivors)
    opening = Reconstruction(cohort, opened)
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


class Reconstruction:
    """The secrets of a round, reconstructed from opened shares, some of which may be wrong.

    A share that does not match the hash from its dealer is skipped. Further shares of a device that opened a wrong
    one are used last, so most secrets are reconstructed from the same devices' shares.
    """

    def __init__(self, cohort: SeatedCohort, opened: Mapping[int, bytes]) -> None:
        self._cohort, self._opened = cohort, opened
        self._known = {position: cohort.among(position) for position in opened}
        self._wrong: set[int] = set()

    def secret(self, member: int, kind: str, fits: Callable[[bytes], bool]) -> bytes:
        """Return a member's secret, `own` or `mask`, from a threshold of valid shares; `fits` checks it.

        Raises:
            TooFewShares: too few shares are valid, or they do not give the secret on the member's card.
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
        """Return the devices that opened a share of a member's secret; those that opened wrong shares come last."""
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


def _masks_of_dropout(
    cohort: SeatedCohort, dropout: int, mask: Keypair, alive: set[int], context: bytes
) -> list[Mask]:
    """Return the pair masks of a dropout: added to the sum, they cancel the pair masks of its neighbours."""
    card, session = cohort.cards[dropout], cohort.session
    peers: list[Peer] = []
    for other in cohort.neighbours(dropout):
        if other in alive:
            lower = session.hybrid and other < dropout
            given = unwrap(mask, card, cohort.box(other, dropout), session.digest) if lower else b""
            peers.append(Peer(cohort.cards[other], given))
    return pair_masks(mask, card, peers, session.digest, context)
