"""What the server holds of one round of secure aggregation: who is seated, the masked sum, and the opened shares."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...privacy.encoding.ring import Words
from ...privacy.messages import SHARES, Sections
from ...privacy.secagg.seating import SeatedCohort
from ...privacy.secagg.shamir import SHARE_BYTES
from ..answers import Answers
from ..exchange import Answer, Request


@dataclass(frozen=True, repr=False)
class CohortNodes:
    """The cohort of one round and its nodes, in the order of the cohort's cards.

    `acknowledged` are the positions of members that confirmed, before they trained, that their boxes open.
    """

    cohort: SeatedCohort
    nodes: tuple[int, ...]
    acknowledged: set[int] = field(default_factory=set[int])

    @property
    def round(self) -> int:
        """The round's number."""
        return self.cohort.session.round

    def members(self) -> dict[int, int]:
        """Return the position of each member by its node."""
        return {self.nodes[position]: position for position in self.cohort.members}

    def requests(self, nodes: Iterable[int]) -> list[Request]:
        """Return the requests to these nodes for shares of their keys."""
        return [Request(node, SHARES, self.round, self.cards(node)) for node in nodes]

    def cards(self, node: int) -> Sections:
        """Return the section with the cards of a node and its neighbours."""
        return {"cards": self.cohort.seating(self.nodes.index(node)).to_bytes()}

    def take_boxes(self, answer: Answer) -> None:
        """Make the node a member of the round, if its answer has boxes of the right length for its neighbours."""
        position, sealed = self.nodes.index(answer.node), answer.sections.get("sealed", b"")
        if len(sealed) == self.cohort.sealed_bytes(position):
            self.cohort.boxes[position] = sealed


@dataclass(frozen=True, repr=False)
class OpenedShares:
    """The shares and seeds of noise that devices opened, by position; `spare` is the length of the seeds; secret."""

    seated: CohortNodes
    spare: int
    shares: dict[int, bytes] = field(default_factory=dict[int, bytes])
    layers: dict[int, bytes] = field(default_factory=dict[int, bytes])

    def take(self, position: int, answer: Answer) -> None:
        """Add the shares and seeds of a device, if they have the right length."""
        shares, seeds = (answer.sections.get(name, b"") for name in ("opened", "layers"))
        if len(shares) == SHARE_BYTES * len(self.seated.cohort.among(position)):
            self.shares[position] = shares
            if 0 < len(seeds) == self.spare:
                self.layers[position] = seeds


@dataclass(frozen=True, repr=False)
class MaskedSum:
    """The sum of the vectors that arrived, uint64 [words], under their masks, and what came with them.

    `signatures` maps the position of each survivor to its signature on the context of its masks, empty if none is
    needed. `cards` are the cards for the next round, by node.
    """

    total: Words
    signatures: dict[int, bytes] = field(default_factory=dict[int, bytes])
    cards: dict[int, bytes] = field(default_factory=dict[int, bytes])
    answers: Answers = field(default_factory=Answers)

    @property
    def survivors(self) -> list[int]:
        """The sorted positions of the devices in the sum."""
        return sorted(self.signatures)

    def add(self, position: int, update: NDArray[np.uint64], signature: bytes) -> None:
        """Add a survivor's masked vector."""
        self.total[:] += update
        self.signatures[position] = signature
