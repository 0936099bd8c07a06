"""What a round of secure aggregation is: the public facts that every key in it is bound to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .derive import digest
from .graph import Graph, choose_graph, most_colluders

if TYPE_CHECKING:
    from ..plan import Plan


@dataclass(frozen=True)
class Session:
    """One round of one run under one plan, which fixes ring, clip, noise, thresholds and the least cohort.

    `run` and `round` are Flower's run number and the round's; `plan` is the plan's digest, 32 bytes. `largest` is the
    planned cohort, of which at most `colluders` devices work with the server and the share `dropouts` may drop out:
    it is the server that chooses whom to seat, so all colluders can be in a smaller cohort too.
    """

    run: int
    round: int
    plan: bytes
    hybrid: bool
    largest: int
    colluders: int
    dropouts: float

    @cached_property
    def digest(self) -> bytes:
        """The digest that every signature and key of the round is made for."""
        return digest("session", self.run, self.round, self.plan)

    def graph(self, devices: int) -> Graph:
        """Return who shares with whom among so many devices.

        Raises:
            ValueError: they are too few for the plan's colluders and dropouts, or more than planned.
        """
        if devices > self.largest:
            raise ValueError("more devices than planned")
        return choose_graph(devices, self.colluders, self.dropouts)

    def least_survivors(self, graph: Graph) -> int:
        """Return the least number of devices whose sum may open: a threshold, or all that may not drop out.

        A sparse graph is private only while no more drop out than it was chosen for.
        """
        allowed = math.floor(self.dropouts * graph.devices)
        return graph.threshold if graph.complete else graph.devices - allowed

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
    a = plan.aggregation
    hybrid, largest = a.key_exchange == "hybrid", plan.cohort.size
    digest = bytes.fromhex(plan.digest)
    return Session(run, round, digest, hybrid, largest, most_colluders(largest, a.colluders), a.dropouts)
