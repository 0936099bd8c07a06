"""Who is left out of the rounds to come: whoever sealed what does not open, as enough others or its shares say."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ...privacy.messages import Malformed
from ...privacy.secagg.bitset import from_bits
from ...privacy.secagg.roster_view import Cohort


@dataclass(repr=False)
class Sealers:
    """What the devices of a run say of one another's boxes, by identities.

    `colluders` devices may lie: whom no more than so many named, in whatever rounds, is not left out. So colluders
    cannot have an honest device left out, and one of them that seals garbage for more than so many is.
    """

    colluders: int
    _namers: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set[bytes]))
    _caught: set[bytes] = field(default_factory=set[bytes])

    def take(self, cohort: Cohort, namer: int, senders: bytes) -> None:
        """Note whose boxes a member says do not open, as bits; what is no set of its neighbours says nothing."""
        try:
            named = set(from_bits(senders, len(cohort.cards)))
        except Malformed:
            return
        if named <= set(cohort.neighbours(namer)) & set(cohort.boxes):
            for sender in named:
                self._namers[cohort.cards[sender].identity].add(cohort.cards[namer].identity)

    def catch(self, identity: bytes) -> None:
        """Note one whose shares are right by their hashes and do not give its secret: only it can have done that."""
        self._caught.add(identity)

    def left_out(self, identity: bytes) -> bool:
        """Whether the device takes part in no further round."""
        return identity in self._caught or len(self._namers.get(identity, ())) > self.colluders
