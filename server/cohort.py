"""The choice of a round's cohort. Clients are counted by name, because a node's ID changes at every restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..privacy import BudgetError, Keystream, Plan
from ..privacy.mechanisms.correlation import check_separation, too_recent
from ..privacy.sampling import permutation
from .answers import REFUSALS, Answers, RoundFailed
from .directory import Directory
from .retries import Retries
from .training import TrainingRun


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
            ValueError: the round has such a client.
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


def gather_cohort(
    directory: Directory, training: TrainingRun, past: Participations, number: int, tries: Retries
) -> list[int]:
    """Return the nodes of a round's cohort, once enough eligible ones are connected or the deadline has passed.

    Nodes that failed or sent malformed answers in earlier tries are included only if there are too few others.

    Raises:
        BudgetError, RoundFailed: there are too few eligible nodes.
    """
    plan = training.plan
    refusing, wrong = (set(directory.names(nodes)) for nodes in (tries.refusing, tries.wrong))
    out = past.too_recent(plan, number) | past.done(plan) | refusing | wrong
    connected = directory.gather(plan.cohort.size, plan.cohort.deadline, out, plan.data.clients)
    available = {client: node for client, node in connected.items() if client not in refusing}
    able = {client: node for client, node in available.items() if client not in wrong}
    cohort = _choose(training, able, past, number)
    if len(cohort) < plan.least_survivors:
        cohort = _choose(training, available, past, number)
    if len(cohort) < plan.least_survivors:
        raise too_few_clients(plan, past, list(connected), refusing, directory.nameless)
    return cohort


def too_few_clients(
    plan: Plan,
    past: Participations,
    connected: Sequence[str],
    refusing: Collection[str] = (),
    nameless: Answers | None = None,
) -> BudgetError | RoundFailed:
    """Return the error of a round with too few connected or eligible devices."""
    left, minimum = set(connected) - past.done(plan), plan.least_survivors
    if len(connected) < minimum and nameless and nameless.codes:
        hopeless = not connected and REFUSALS.issuperset(nameless.codes)
        return RoundFailed(
            f"{len(connected)} devices showed a name, the round needs {minimum} ({nameless})",
            "look at the devices' own logs, then go on in the same folder",
            nameless if hopeless else None,
        )
    if len(connected) < minimum:
        return RoundFailed(
            f"{len(connected)} devices are connected, the round needs {minimum}",
            "start more devices and go on in the same folder, or plan a lower cohort.minimum from the start",
        )
    if len(left) < minimum:
        return BudgetError("every available client took part as often as planned", "plan for more rounds")
    if len(left - set(refusing)) < minimum:
        return RoundFailed(
            f"of {len(left)} connected devices {len(left & set(refusing))} refuse, the round needs {minimum}",
            "look at the devices' own logs, then go on in the same folder",
        )
    if len(connected) >= plan.data.clients:
        return BudgetError("the only clients left took part too recently", "plan for more rounds")
    return RoundFailed(
        f"of {len(left)} connected devices too few sat out the {plan.bands - 1} rounds after their last one",
        "start more devices and go on in the same folder, or plan fewer privacy.bands from the start",
    )


def choose_next_cohort(directory: Directory, training: TrainingRun, past: Participations, number: int) -> list[int]:
    """Return the cohort of a later round from the devices that are connected now; empty after the last round."""
    if number > training.plan.cohort.rounds:
        return []
    return _choose(training, directory.present(), past, number)


def _choose(training: TrainingRun, available: Mapping[str, int], past: Participations, number: int) -> list[int]:
    """Return the sorted nodes of the clients that are chosen for a round."""
    plan, keystream = training.plan, training.entropy.keystream("cohort", number)
    too_recent = past.too_recent(plan, number)
    rested = [client for client in available if client not in too_recent]
    chosen = choose_cohort(rested, past.participations, plan.cohort.size, plan.participations, keystream)
    return sorted(available[client] for client in chosen)
