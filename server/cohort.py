"""The choice of a round's cohort. Clients are counted by name, as a node's ID changes at every restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..privacy import Keystream, Plan
from ..privacy.mechanisms.correlation import check_separation, too_recent
from ..privacy.sampling import permutation


@dataclass(frozen=True)
class Participations:
    """The participations so far of each client, and the clients of the rounds whose noise is correlated.

    `block` holds (round, clients) for each round since the last restart of the noise; it is empty if noise is
    independent between rounds.
    """

    participations: Counter[str]
    block: tuple[tuple[int, Collection[str]], ...] = ()

    def then(self, round: int, clients: Collection[str]) -> Participations:
        """Return the past after one more round with these clients."""
        return Participations(self.participations + Counter(clients), (*self.block, (round, clients)))

    def too_recent(self, plan: Plan, round: int) -> frozenset[str]:
        """Return the clients that took part in one of the last `bands - 1` rounds."""
        return too_recent(self.block, round, plan.bands)

    def check(self, plan: Plan, round: int, clients: Collection[str]) -> None:
        """Refuse a round with a client that has no participations left, or took part too recently.

        Raises:
            ValueError: there is such a client.
        """
        if late := self.done(plan).intersection(clients):
            raise ValueError(f"{len(late)} clients are in round {round} that took part as often as planned")
        check_separation(self.block, round, clients, plan.bands)

    def done(self, plan: Plan) -> frozenset[str]:
        """Return the clients that have no participations left."""
        return frozenset(client for client, count in self.participations.items() if count >= plan.participations)


def choose_cohort(
    available: Sequence[str], participations: Counter[str], size: int, limit: int, keystream: Keystream
) -> list[str]:
    """Return at most `size` available clients with the fewest participations, sorted; ties are broken at random.

    A client that took part `limit` times is not chosen. If all clients are always available, their counts differ by
    at most one. So no client takes part more than ceil(rounds * size / clients) times, which is
    `Plan.participations`; the noise is calibrated for it.
    """
    order = [available[int(i)] for i in permutation(keystream, len(available))]
    eligible = [client for client in order if participations[client] < limit]
    return sorted(sorted(eligible, key=lambda client: participations[client])[:size])
