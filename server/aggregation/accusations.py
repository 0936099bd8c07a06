"""Disputes about boxes: devices whose boxes do not open, or that claim so, are left out of one round or of all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ...privacy.messages import Malformed
from ...privacy.secagg.bitset import from_bits
from ...privacy.secagg.seating import SeatedCohort


@dataclass(repr=False)
class Accusations:
    """The accusations in a run, by identity: the accuser says that the sender's box does not open.

    At most `colluders` devices lie. A device is left out of all rounds once more than `colluders` others accused it.
    So colluders cannot have an honest device left out, and a device that seals garbage for more than `colluders`
    others is left out.
    """

    colluders: int
    _accusers: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set[bytes]))
    _caught: set[bytes] = field(default_factory=set[bytes])
    _sat_out: Counter[bytes] = field(default_factory=Counter[bytes])
    _silent: Counter[bytes] = field(default_factory=Counter[bytes])

    @property
    def disputed(self) -> bool:
        """Whether there is an accusation; boxes are then acknowledged before devices train."""
        return bool(self._accusers)

    def note(self, cohort: SeatedCohort, accuser: int, senders: bytes) -> set[int]:
        """Record a member's accusation of the `senders`, a set as bits, and return their positions.

        It is ignored unless all of them are neighbours of the member that sealed boxes.
        """
        try:
            named = set(from_bits(senders, len(cohort.cards)))
        except Malformed:
            return set()
        if not named <= set(cohort.neighbours(accuser)) & set(cohort.boxes):
            return set()
        for sender in named:
            self._accusers[cohort.cards[sender].identity].add(cohort.cards[accuser].identity)
        return named

    def note_liar(self, identity: bytes) -> None:
        """Record a proven liar: its shares match their hashes but not its secret, or it disputes accepted boxes."""
        self._caught.add(identity)

    def note_silent(self, cohort: SeatedCohort, positions: Iterable[int]) -> None:
        """Record members that sent neither a vector nor an accusation."""
        self._silent.update(cohort.cards[position].identity for position in positions)

    def left_out(self, identity: bytes) -> bool:
        """Whether the device is left out of all further rounds."""
        return identity in self._caught or len(self._accusers.get(identity, ())) > self.colluders

    def choose_left_out(self, cohort: SeatedCohort, named: Mapping[int, set[int]], least: int) -> set[int]:
        """Return the positions to leave out of a round: those left out of all rounds, and one of each disputing pair.

        `named` maps each member that answered to the members it accuses. One of each disputing pair lies, and nobody
        knows which. Members with few disputes are kept first; members that were left out of rounds before have
        priority, so that a few liars cannot exclude anyone forever. If members that were silent before could leave
        fewer than `least`, members that were never silent are kept first. If that does not suffice either, the number
        of disputes alone decides.
        """
        names = {position: cohort.cards[position].identity for position in named}
        out = {position for position in named if self.left_out(names[position])}
        rivals: dict[int, set[int]] = {position: set() for position in named.keys() - out}
        for accuser in rivals:
            for sender in named[accuser] & rivals.keys():
                rivals[accuser].add(sender)
                rivals[sender].add(accuser)
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
    """Return the positions to leave out. Greedily, the position that is first by `order` stays and its rivals go.

    `order` takes a position, its number of remaining rivals, and the total number of rivals that these have.
    """
    left, out = dict(rivals), set[int]()
    while left:
        counts = {position: len(others) for position, others in left.items()}
        best = min(left, key=lambda p: order(p, counts[p], sum(counts[other] for other in left[p])))
        gone = left.pop(best)
        out |= gone
        left = {position: others - gone for position, others in left.items() if position not in gone}
    return out
