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
    _liars: set[bytes] = field(default_factory=set[bytes])
    _absences: Counter[bytes] = field(default_factory=Counter[bytes])
    _silences: Counter[bytes] = field(default_factory=Counter[bytes])

    @property
    def disputed(self) -> bool:
        """Whether there is an accusation; boxes are then acknowledged before devices train."""
        return bool(self._accusers)

    def note(self, cohort: SeatedCohort, accuser: int, senders: bytes) -> set[int]:
        """Record a member's accusation of the `senders`, a set as bits, and return their positions.

        The accusation counts only if all senders are neighbours of the accuser and sealed boxes. Otherwise it is
        ignored.
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
        self._liars.add(identity)

    def note_silent(self, cohort: SeatedCohort, positions: Iterable[int]) -> None:
        """Record members that sent neither a vector nor an accusation."""
        self._silences.update(cohort.cards[position].identity for position in positions)

    def left_out(self, identity: bytes) -> bool:
        """Whether the device is left out of all further rounds."""
        return identity in self._liars or len(self._accusers.get(identity, ())) > self.colluders

    def choose_left_out(self, cohort: SeatedCohort, named: Mapping[int, set[int]], least: int) -> set[int]:
        """Return the positions to leave out of a round: those left out of all rounds, and one of each disputing pair.

        `named` maps each member that answered to the members it accuses. One of each disputing pair lies, and nobody
        knows which. The first order of `Precedence` that leaves at least `least` members decides, if members that
        were silent before are not counted; if none does, the last one decides.
        """
        names = {position: cohort.cards[position].identity for position in named}
        out = {position for position in named if self.left_out(names[position])}
        rivals = _rivals(named, out)
        earlier = ({p: counter[name] for p, name in names.items()} for counter in (self._silences, self._absences))
        precedence = Precedence(*earlier)
        doubtful, chosen = {position for position in rivals if precedence.silences[position]}, set[int]()
        for order in (precedence.turns, precedence.never_silent, precedence.fewest_disputes):
            chosen = _opponents(rivals, order)
            if len(rivals) - len(chosen | doubtful) >= least:
                break
        self._absences.update(names[position] for position in chosen)
        return out | chosen


@dataclass(frozen=True)
class Precedence:
    """The orders by which one of two members in a dispute stays: the one with the smaller value.

    `silences` counts the earlier rounds in which the member at a position was silent. `absences` counts the earlier
    rounds that left this member out because of a dispute. Each order takes a position, the number of its remaining
    rivals, and the number of rivals that these have together.
    """

    silences: Mapping[int, int]
    absences: Mapping[int, int]

    def turns(self, position: int, rivals: int, theirs: int) -> tuple[float, ...]:
        """Members with few disputes, divided by their turns, stay: a few liars cannot exclude anyone forever."""
        return (rivals / (1 + self.absences[position]),)

    def never_silent(self, position: int, rivals: int, theirs: int) -> tuple[float, ...]:
        """Members that were never silent stay, and among them those with few disputes: colluders may be silent."""
        return (self.silences[position] > 0, *self.fewest_disputes(position, rivals, theirs))

    def fewest_disputes(self, position: int, rivals: int, theirs: int) -> tuple[float, ...]:
        """Members with few disputes stay.

        On a tie, a member stays if its rivals have more disputes, if it was silent less often, or if it was left out
        more often.
        """
        return (rivals, -theirs, self.silences[position], -self.absences[position])


def _rivals(named: Mapping[int, set[int]], out: set[int]) -> dict[int, set[int]]:
    """Return, for each member that is not left out of all rounds, the members that it disputes with."""
    rivals: dict[int, set[int]] = {position: set() for position in named.keys() - out}
    for accuser in rivals:
        for sender in named[accuser] & rivals.keys():
            rivals[accuser].add(sender)
            rivals[sender].add(accuser)
    return rivals


def _opponents(rivals: Mapping[int, set[int]], order: Callable[[int, int, int], tuple[float, ...]]) -> set[int]:
    """Return the positions to leave out. Greedily, the position that is first by `order` stays and its rivals go.

    `order` takes a position, the number of its remaining rivals, and the sum of this number over these rivals.
    """
    left, out = dict(rivals), set[int]()
    while left:
        counts = {position: len(others) for position, others in left.items()}
        best = min(left, key=lambda p: order(p, counts[p], sum(counts[other] for other in left[p])))
        gone = left.pop(best)
        out |= gone
        left = {position: others - gone for position, others in left.items() if position not in gone}
    return out
