"""The session of a round of secure aggregation: the public facts that every key in it is derived for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ..derive import digest
from .graph import Graph, choose_graph

if TYPE_CHECKING:
    from ..plan.plan import Plan


ENCODING = b"vectors 2"
"""The version of `privacy/encoding`: parties that encode vectors in another way cannot share a session.

Version 2 takes the coordinates of a rotation's block from all over the vector. A sum over both versions is useless.
"""


@dataclass(frozen=True)
class Session:
    """One round of one run under one plan, which fixes ring, clip norm, noise, thresholds and the smallest cohort.

    `run` is Flower's run ID, `round` the number of the round, and `plan` the plan's digest, 32 bytes. `planned` is
    the size of the planned cohort. At most `colluders` of its devices collude with the server, and the fraction
    `dropouts` may drop out. The server chooses the cohort, so a smaller one can contain all colluders too. `least` is
    the smallest number of devices that may be seated, take part, survive and sign. `sparse` replaces the chosen graph
    for cohorts of its size, to try the protocol on a small sparse graph.
    """

    run: int
    round: int
    plan: bytes
    hybrid: bool
    planned: int
    colluders: int
    dropouts: float
    least: int
    sparse: Graph | None = None

    @cached_property
    def digest(self) -> bytes:
        """The digest that every signature and key of the round depends on."""
        return digest("session", self.run, self.round, self.plan, ENCODING)

    def graph(self, devices: int) -> Graph:
        """Return the graph of neighbours among `devices` devices.

        Raises:
            ValueError: the devices are too few for the plan, or more than planned.
        """
        if self.sparse is not None and devices == self.sparse.devices:
            return self.sparse
        return choose_graph(self.planned, self.colluders, self.dropouts, devices)

    def cards_digest(self, cards: Sequence[bytes]) -> bytes:
        """Return the digest of all cards, in the order of their identities."""
        return digest("cards", self.digest, *cards)

    def context(self, cards: bytes, members: bytes, model: bytes) -> bytes:
        """Return the digest that all masks of the round are derived for: of its cards, its members and its model.

        `cards` is the cards' digest, `members` the set, as bits, of the devices that shared their keys, and `model`
        the model's digest. The masks of devices that received different ones do not cancel.
        """
        return digest("context", self.digest, cards, members, model)


def make_session(plan: Plan, run: int, round: int) -> Session:
    """Return the session of one round."""
    a, digest = plan.aggregation, bytes.fromhex(plan.digest)
    hybrid, planned = a.key_exchange == "hybrid", plan.cohort.size
    return Session(run, round, digest, hybrid, planned, plan.colluders, a.dropouts, plan.least_survivors)
