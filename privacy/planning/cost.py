"""The cost of a plan, in the figures that a ledger would charge, and the rounds that a budget buys."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..accept import make_plan
from ..accounting.accountant import VAST, Spending, pld_epsilon, rdp_epsilon, spent
from ..accounting.events import Composed, Event, as_gaussian
from ..errors import PlanError
from ..mechanisms.choose import mechanism_of
from ..plan.plan import Plan
from .bounds import VIEWS, Epsilons, participations

MOST_ROUNDS = 10**7
"""The largest number of rounds of a plan."""

SOUGHT = (1e-2, 1e-3)
"""Grids of the privacy loss, in the two coarse searches for the rounds. A search's relative error is twice its
grid."""

NEAR = 0.99
"""The fraction of the target above which the search takes small steps."""


@dataclass(frozen=True)
class Purchase:
    """The most rounds that cost at most `target`. One client has `participations` of them, which cost `epsilon`.

    `dearer` participations would cost `dearer_epsilon`, more than the target. Both are None if a plan cannot have
    more rounds.
    """

    target: float
    rounds: int
    participations: int
    epsilon: float
    dearer: int | None
    dearer_epsilon: float | None


def cost(plan: Plan, rounds: int | None = None) -> Epsilons:
    """Return both epsilons of the plan at its delta, after `rounds` rounds, by default all of them.

    Guarantee: upper bounds for a unit of any client, as `accounting.spent`, if every sum is over at least
    `Plan.least_survivors` devices.
    """
    times = participations(plan, plan.cohort.rounds if rounds is None else rounds)
    event = mechanism_of(plan).event
    return Epsilons(*(spent(_times(event(view), times), plan.privacy.delta) for view in VIEWS))


def _times(event: Event, count: int) -> Spending:
    """Return the events of `count` rounds as one composed event, so that figures equal the plan's own bit for bit."""
    return ((Composed(event, count), 1),)


def with_noise(plan: Plan, noise_multiplier: float) -> Plan:
    """Return the plan with another noise multiplier, and a budget without a limit.

    Raises:
        PlanError: the plan is refused with this noise.
    """
    return _changed(plan, "privacy", noise_multiplier=noise_multiplier, epsilon=sys.float_info.max)


def with_target(plan: Plan, epsilon: float) -> Plan:
    """Return the plan with another budget and the noise calibrated to it.

    Raises:
        PlanError: no noise meets the target.
    """
    return _changed(plan, "privacy", noise_multiplier=None, epsilon=epsilon)


def _changed(plan: Plan, section: str, **changes: float | int | None) -> Plan:
    tables = plan.public()
    table = {key: value for key, value in (tables[section] | changes).items() if value is not None}
    return make_plan(tables | {section: table}, Plan)


def most_rounds(plan: Plan, target: float) -> Purchase:
    """Return the most rounds that cost at most `target` at the plan's noise, in the view that its budget limits.

    The number may be too small by a thousandth of it; below 1,000 participations it is exact.

    Guarantee: the returned rounds cost at most the target, computed as by `cost`.

    Raises:
        PlanError: a single round costs more than the target, or the target is not a positive number.
    """
    if not 0 < target < math.inf:
        raise PlanError(f"epsilon {target:g} is no budget", "give a number above zero")
    mechanism = mechanism_of(plan)
    event, delta = mechanism.event(mechanism.budget_view), plan.privacy.delta

    def price(count: int) -> float:
        return spent(_times(event, count), delta)

    most = participations(plan, MOST_ROUNDS)
    start = _about(event, delta, target, most)
    while start > 1 and price(start) > target:
        start = start * 9 // 10
    if price(start) > target:
        raise PlanError(
            f"one round at noise multiplier {mechanism.noise_multiplier:g} costs epsilon {price(1):.4g}, more than "
            f"{target:g}",
            "raise the epsilon or the noise",
        )
    count, dearer = _last(price, target, start, most, slack=0.001)
    rounds = min(MOST_ROUNDS, count * plan.data.clients // plan.cohort.size)
    beyond = (None, None) if dearer > most else (dearer, price(dearer))
    return Purchase(target, rounds, count, price(count), *beyond)


def _about(event: Event, delta: float, target: float, most: int) -> int:
    """Return a first guess, at least one, of how often the event may happen for at most `target`, by coarse grids."""
    gaussian = as_gaussian(event) == event

    def price(count: int, grid: float) -> float:
        rdp = rdp_epsilon(((event, count),), delta) if count else 0.0
        return pld_epsilon(_times(event, count), delta, grid) if gaussian and 0 < rdp <= VAST else rdp

    count = 0
    for grid in SOUGHT:
        count, _ = _last(partial(price, grid=grid), target, count, most, slack=2 * grid)
    return max(1, count)


def _last(price: Callable[[int], float], target: float, low: int, most: int, slack: float) -> tuple[int, int]:
    """Return the largest count from `low` to `most` that costs at most `target`, and a larger one that costs more.

    The price of `low` must be at most the target. The result may be too small by the fraction `slack`. The logarithm
    of the price is nearly linear in the logarithm of the count, so the search interpolates between the two nearest
    known counts. After it has moved the same end three times, it bisects.
    """
    low_price, high, high_price, moved = price(low), most + 1, math.inf, 0
    while high - low > max(1.0, slack * low):
        line = abs(moved) < 3 or math.isinf(high_price)
        guess = _guess(low, low_price, high, high_price, target) if line else round(math.sqrt(max(low, 1) * high))
        guess = min(max(guess, low + 1), high - 1)
        if (paid := price(guess)) <= target:
            low, low_price, moved = guess, paid, max(moved, 0) + 1
        else:
            high, high_price, moved = guess, paid, min(moved, 0) - 1
    return low, high


def _guess(low: int, low_price: float, high: int, high_price: float, target: float) -> int:
    """Return a guess of where the price meets the target. Without a known upper end, it is rather too large."""
    if low_price <= 0:
        return 2 * low + 1
    if math.isinf(high_price):
        far = 1.01 * (target / low_price) ** 1.5 if low_price < NEAR * target else (target / low_price) ** 2
        return math.ceil(low * far)
    share = math.log(target / low_price) / math.log(high_price / low_price)
    return round(low * (high / low) ** share)
