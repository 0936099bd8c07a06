"""Who takes part in a round. Clients are counted by name: a node's number changes whenever it is started anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..privacy import Keystream, Plan
from ..privacy.mechanisms.banded import check_separation, resting


@dataclass(frozen=True)
class Past:
    """Who took part so far: how often each client did, and who was in the rounds that noise may be taken back from.

    `block` holds those since noise was last started afresh, as (round, clients); none where noise is independent.
    """

    participations: Counter[str]
    block: tuple[tuple[int, Collection[str]], ...] = ()

    def then(self, round: int, clients: Collection[str]) -> Past:
        """Return the past of those who come after a round with these clients."""
        return Past(self.participations + Counter(clients), (*self.block, (round, clients)))

    def resting(self, plan: Plan, round: int) -> frozenset[str]:
        """Return the clients that were in one of the `bands - 1` rounds before."""
        return resting(self.block, round, plan.bands)

    def check(self, plan: Plan, round: int, clients: Collection[str]) -> None:
        """Refuse a round with a client that took part as often as planned, or not long enough ago.

        Raises:
            ValueError: there is such a client.
        """
        if late := self.done(plan).intersection(clients):
            raise ValueError(f"{len(late)} clients are in round {round} that took part as often as planned")
        check_separation(self.block, round, clients, plan.bands)

    def done(self, plan: Plan) -> frozenset[str]:
        """Return the clients that took part as often as planned."""
        return frozenset(client for client, count in self.participations.items() if count >= plan.participations)


def choose_cohort(
    available: Sequence[str], participations: Counter[str], size: int, limit: int, keystream: Keystream
) -> list[str]:
    """Return at most `size` of the available clients, those with the fewest rounds so far, ties at random; sorted.

    None that took part `limit` times is chosen. While all clients are available, counts differ by at most one, so
    no client takes part more than ceil(rounds * size / clients) times: `Plan.participations`, which the noise is
    sized for.
    """
    order = [available[int(i)] for i in keystream.permutation(len(available))]
    eligible = [client for client in order if participations[client] < limit]
    return sorted(sorted(eligible, key=lambda client: participations[client])[:size])
