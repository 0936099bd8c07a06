"""Who is left out, of all rounds or of one: whoever sealed what does not open, or says so of another's boxes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ...privacy.messages import Malformed
from ...privacy.secagg.bitset import from_bits
from ...privacy.secagg.roster_view import Cohort


@dataclass(repr=False)
class Sealers:
    """What the devices of a run say of one another's boxes, by identities.

    `colluders` devices may lie: whom no more than so many named, in whatever rounds, is not left out of all. So
    colluders cannot have an honest device left out, and one of them that seals garbage for more than so many is.
    """

    colluders: int
    _namers: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set[bytes]))
    _caught: set[bytes] = field(default_factory=set[bytes])
    _sat_out: Counter[bytes] = field(default_factory=Counter[bytes])
    _silent: Counter[bytes] = field(default_factory=Counter[bytes])

    @property
    def disputed(self) -> bool:
        """Whether anyone named anyone: boxes are then acknowledged before devices train."""
        return bool(self._namers)

    def take(self, cohort: Cohort, namer: int, senders: bytes) -> set[int]:
        """Note whose boxes a member says do not open, as bits; return their positions.

        What is no set of its neighbours says nothing.
        """
        try:
            named = set(from_bits(senders, len(cohort.cards)))
        except Malformed:
            return set()
        if not named <= set(cohort.neighbours(namer)) & set(cohort.boxes):
            return set()
        for sender in named:
            self._namers[cohort.cards[sender].identity].add(cohort.cards[namer].identity)
        return named

    def catch(self, identity: bytes) -> None:
        """Note one that is known to lie: its shares, right by their hashes, do not give its secret, or it names
        boxes that it acknowledged."""
        self._caught.add(identity)

    def note_silent(self, cohort: Cohort, positions: Iterable[int]) -> None:
        """Note members that sent no vector, and no word of boxes that do not open."""
        self._silent.update(cohort.cards[position].identity for position in positions)

    def left_out(self, identity: bytes) -> bool:
        """Whether the device takes part in no further round."""
        return identity in self._caught or len(self._namers.get(identity, ())) > self.colluders

    def sit_out(self, cohort: Cohort, named: Mapping[int, set[int]], least: int) -> set[int]:
        """Return the positions that sit a round out: who is left out of all, and one of each two who disagree.

        `named` says, by the position of each who answered, whose boxes do not open. One of two who disagree lies,
        nobody knows which. Whoever disagrees with the fewest stays first, and all the sooner the more often it sat
        out before: so a few have nobody sit out for ever. If fewer than `least` might be left, were all silent again
        that once were, whoever never was stays first; if that is not enough, the numbers alone count.
        """
        names = {position: cohort.cards[position].identity for position in named}
        out = {position for position in named if self.left_out(names[position])}
        rivals: dict[int, set[int]] = {position: set() for position in named.keys() - out}
        for namer in rivals:
            for sender in named[namer] & rivals.keys():
                rivals[namer].add(sender)
                rivals[sender].add(namer)
        silent, turns = ({p: counter[name] for p, name in names.items()} for counter in (self._silent, self._sat_out))
        chosen = _opponents(rivals, lambda p, count, _: (count / (1 + turns[p]),))
        doubtful = {position for position in rivals if silent[position]}
        if len(rivals) - len(chosen | doubtful) < least:
            chosen = _opponents(
                rivals, lambda p, count, theirs: (silent[p] > 0, count, -theirs, silent[p], -turns[p])
            )
        if len(rivals) - len(chosen | doubtful) < least:
            chosen = _opponents(rivals, lambda p, count, theirs: (count, -theirs, silent[p], -turns[p]))
        self._sat_out.update(names[position] for position in chosen)
        return out | chosen


def _opponents(rivals: Mapping[int, set[int]], order: Callable[[int, int, int], tuple[float, ...]]) -> set[int]:
    """Return the rivals of those who stay: one after another the least by `order`, of a position, the number of its
    rivals that may still stay, and how many rivals these have together."""
    left, out = dict(rivals), set[int]()
    while left:
        counts = {position: len(others) for position, others in left.items()}
        best = min(left, key=lambda p: order(p, counts[p], sum(counts[other] for other in left[p])))
        gone = left.pop(best)
        out |= gone
        left = {position: others - gone for position, others in left.items() if position not in gone}
    return out
