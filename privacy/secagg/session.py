"""What a round of secure aggregation is: the public facts that every key in it is bound to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .derive import digest
from .graph import Graph, choose_graph

if TYPE_CHECKING:
    from ..plan.plan import Plan


@dataclass(frozen=True)
class Session:
    """One round of one run under one plan, which fixes ring, clip, noise, thresholds and the least cohort.

    `run` and `round` are Flower's run number and the round's; `plan` is the plan's digest, 32 bytes. `planned` is the
    size of the planned cohort, of which at most `colluders` devices work with the server and the share `dropouts` may
    drop out: it is the server that chooses whom to seat, so all colluders can be in a smaller cohort too. `least` is
    the fewest devices that may be seated, take part, survive and sign. `sparse` stands for the graph that is chosen
    where so many are seated: whoever tries the protocol on a small sparse graph gives one.
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
        """The digest that every signature and key of the round is made for."""
        return digest("session", self.run, self.round, self.plan)

    def graph(self, devices: int) -> Graph:
        """Return who shares with whom among so many devices.

        Raises:
            ValueError: they are too few for the plan, or more than planned.
        """
        if self.sparse is not None and devices == self.sparse.devices:
            return self.sparse
        return choose_graph(self.planned, self.colluders, self.dropouts, devices)

    def cards_digest(self, cards: Sequence[bytes]) -> bytes:
        """Return the digest of the cards, in order of their identities, of those who share keys."""
        return digest("cards", self.digest, *cards)

    def context(self, cards: bytes, members: bytes, model: bytes) -> bytes:
        """Return what all masks of the round are bound to: who is in it, by what keys, and its model's digest.

        `cards` is the cards' digest and `members` the set, as bits, of those among them who shared their keys.
        Devices that were told of different ones get masks that do not cancel.
        """
        return digest("context", self.digest, cards, members, model)


def make_session(plan: Plan, run: int, round: int) -> Session:
    """Return the session of one round."""
    a, digest = plan.aggregation, bytes.fromhex(plan.digest)
    hybrid, planned = a.key_exchange == "hybrid", plan.cohort.size
    return Session(run, round, digest, hybrid, planned, plan.colluders, a.dropouts, plan.least_survivors)
