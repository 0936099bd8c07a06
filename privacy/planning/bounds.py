"""Renyi bounds on the two epsilons of a plan.

For Gaussian noise they are about a tenth above the figures that a ledger charges, and take a hundredth of the time.
For Skellam noise they are the charged figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..accounting.accountant import rdp_epsilon
from ..budget import View
from ..mechanisms.choose import mechanism_of
from ..plan.plan import Plan

VIEWS: tuple[View, ...] = ("server", "released")


@dataclass(frozen=True)
class Epsilons:
    """The two epsilons of a client that takes part most often; infinite without protection."""

    server: float
    released: float

    def of(self, view: View) -> float:
        """The epsilon in one view."""
        return self.server if view == "server" else self.released


def participations(plan: Plan, rounds: int) -> int:
    """Return how many of `rounds` rounds one client takes part in at most. Cohorts are chosen round robin."""
    return -(-rounds * plan.cohort.size // plan.data.clients)


def bound(plan: Plan, rounds: int | None = None, survivors: int | None = None) -> Epsilons:
    """Return the bounds after `rounds` rounds, by default all, of `survivors` devices each, by default the fewest."""
    times = participations(plan, plan.cohort.rounds if rounds is None else rounds)
    event = mechanism_of(plan).event
    return Epsilons(*(rdp_epsilon(((event(view, survivors), times),), plan.privacy.delta) for view in VIEWS))
