"""The positions of devices in a round, sorted by identity, and each device's view of the others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from ..messages import Malformed
from .bitset import to_bits
from .graph import Graph
from .keys import Card, card_bytes, read_card
from .session import Session
from .shares import HASH_BYTES, box_bytes

HEAD = 4 + 4 + 32


@dataclass(frozen=True)
class Seating:
    """One device's view of a round: its position, its own card and its neighbours', and a digest of all cards.

    The server knows all of this; nothing in it is secret.
    """

    graph: Graph
    position: int
    digest: bytes
    cards: Mapping[int, Card]

    @property
    def neighbours(self) -> tuple[int, ...]:
        """The positions of the neighbours, sorted."""
        return tuple(position for position in self.cards if position != self.position)

    def box_sizes(self, senders: tuple[int, ...], hybrid: bool) -> list[int]:
        """The lengths in bytes of the boxes that these neighbours sealed for the device."""
        return [box_bytes(hybrid, sender < self.position) for sender in senders]

    def to_bytes(self) -> bytes:
        """The bytes of the seating: number of devices, position, digest of all cards, own and neighbours' cards."""
        head = self.graph.devices.to_bytes(4) + self.position.to_bytes(4) + self.digest
        return head + b"".join(card.to_bytes() for card in self.cards.values())


def read_seating(data: bytes, session: Session) -> Seating:
    """Return the seating in these bytes. The caller must check the cards' owners and signatures.

    In a complete graph, the cards are compared with the digest, so devices with the same digest saw the same cards.

    Raises:
        Malformed: the bytes are not a seating, or its cards are repeated, out of order, or do not match the digest.
    """
    devices, position, digest = int.from_bytes(data[:4]), int.from_bytes(data[4:8]), data[8:HEAD]
    size = card_bytes(session.hybrid)
    count, rest = divmod(len(data) - HEAD, size)
    if rest or not 2 <= count <= devices <= session.planned or position >= devices:
        raise Malformed("not a seating")
    try:
        graph = session.graph(devices)
    except ValueError:
        raise Malformed("no graph for so many devices") from None
    seats = sorted((*graph.neighbours(position, digest), position)) if count == graph.degree + 1 else []
    raw = [data[at : at + size] for at in range(HEAD, len(data), size)]
    if len(seats) != count or (graph.complete and session.cards_digest(raw) != digest):
        raise Malformed("not the cards of this seating")
    cards = [read_card(card, session.hybrid) for card in raw]
    if any(one.identity >= other.identity for one, other in pairwise(cards)):
        raise Malformed("cards are out of order")
    return Seating(graph, position, digest, dict(zip(seats, cards, strict=True)))


@dataclass(frozen=True)
class SeatedCohort:
    """The server's view of a round, the seated cohort: all cards in the order of identities, and the sealed boxes.

    `boxes` maps the position of a sender to the concatenation of its boxes with their hashes, in the order of its
    neighbours, and the hashes of its shares of its own secrets. The senders are the round's members.
    """

    session: Session
    cards: tuple[Card, ...]
    boxes: dict[int, bytes] = field(default_factory=dict[int, bytes])

    @cached_property
    def graph(self) -> Graph:
        """The graph of neighbours, who share keys with one another.

        Raises:
            ValueError: the devices are too few, or too many for the plan.
        """
        return self.session.graph(len(self.cards))

    @cached_property
    def digest(self) -> bytes:
        """The digest of all cards."""
        return self.session.cards_digest([card.to_bytes() for card in self.cards])

    @property
    def members(self) -> tuple[int, ...]:
        """The positions of the devices that shared their keys, sorted."""
        return tuple(sorted(self.boxes))

    def neighbours(self, position: int) -> tuple[int, ...]:
        """Return the positions of a device's neighbours, sorted."""
        return self.graph.neighbours(position, self.digest)

    def among(self, position: int) -> list[int]:
        """Return the sorted members whose secrets a device holds shares of, including itself."""
        return [p for p in sorted((*self.neighbours(position), position)) if p in self.boxes]

    def seating(self, position: int) -> Seating:
        """Return one device's view of the round."""
        seats = sorted((*self.neighbours(position), position))
        return Seating(self.graph, position, self.digest, {seat: self.cards[seat] for seat in seats})

    def sealed_bytes(self, position: int) -> int:
        """The total length in bytes of one sender's boxes and hashes."""
        boxes = sum(box_bytes(self.session.hybrid, position < other) for other in self.neighbours(position))
        return boxes + 2 * HASH_BYTES

    def box(self, sender: int, receiver: int) -> bytes:
        """Return the box that one member sealed for another, with its hashes."""
        down, up = (box_bytes(self.session.hybrid, upward) for upward in (False, True))
        order = self.neighbours(sender)
        place, below = bisect_left(order, receiver), bisect_left(order, sender)
        start = min(place, below) * down + max(place - below, 0) * up
        return self.boxes[sender][start : start + (up if sender < receiver else down)]

    def share_hash(self, sender: int, holder: int, kind: str) -> bytes:
        """Return the hash of the share of a sender's secret, `own` or `mask`, that the holder keeps."""
        both = (self.boxes[sender] if sender == holder else self.box(sender, holder))[-2 * HASH_BYTES :]
        return both[:HASH_BYTES] if kind == "own" else both[HASH_BYTES:]

    def invitation(self, position: int) -> bytes:
        """Return the bytes that invite a member to the round: the set of members, and the boxes sealed for it."""
        senders = [other for other in self.neighbours(position) if other in self.boxes]
        return to_bits(self.boxes, len(self.cards)) + b"".join(self.box(sender, position) for sender in senders)

    def context(self, model: bytes) -> bytes:
        """Return the digest that the round's masks are derived for; `model` is the digest of the parameters."""
        return self.session.context(self.digest, to_bits(self.boxes, len(self.cards)), model)
