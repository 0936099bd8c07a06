"""What a plan costs, what a budget buys, and how both change: pure functions of a plan, for whoever chooses one.

Single figures are those that a ledger would charge (`accounting.spent`). Curves are Renyi bounds: they lie above such
figures, by about a tenth where the noise is Gaussian, and take a hundredth of the time.
"""

# The library below ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from .accounting import GRIDS, VAST, Spending, pld_epsilon, rdp_epsilon, spent
from .budget import View
from .errors import PlanError
from .events import Composed, Event, Gaussian, PoissonSampled, Skellam
from .plan import Plan
from .plan_file import make_plan

MOST_ROUNDS = 10**7
"""The most rounds that a plan can have."""

ROUGH = 1e-2
"""A grid of the privacy loss on which rounds are sought: quick, and on the private side of those that count."""

VIEWS: tuple[View, ...] = ("server", "released")

Standing = Literal["reported", "bound", "estimate"]
"""What a figure is: the one that is charged, another that is proven, or one that proves nothing."""


@dataclass(frozen=True)
class Epsilons:
    """The two epsilons of a client that takes part most often: infinite where nothing protects."""

    server: float
    released: float

    def of(self, view: View) -> float:
        """The epsilon in one view."""
        return self.server if view == "server" else self.released


@dataclass(frozen=True)
class Purchase:
    """The most rounds that cost at most `target`: so many `participations` of one client, which cost `epsilon`.

    `dearer` participations would cost `dearer_epsilon`, more than the target; None where a plan can have no more.
    """

    target: float
    rounds: int
    participations: int
    epsilon: float
    dearer: int | None
    dearer_epsilon: float | None


@dataclass(frozen=True)
class Figure:
    """What one accountant says; None where it has nothing to say."""

    accountant: str
    epsilon: float | None
    standing: Standing
    why: str


def participations(plan: Plan, rounds: int) -> int:
    """Return the most of so many rounds that any one client takes part in: the cohort is dealt round robin."""
    return -(-rounds * plan.cohort.size // plan.data.clients)


def cost(plan: Plan, rounds: int | None = None) -> Epsilons:
    """Return both epsilons of the plan at its delta, after all of its rounds or so many of them.

    Guarantee: upper bounds for a unit of any client, as `accounting.spent`, if every sum holds the noise of the
    fewest devices that are allowed.
    """
    times = participations(plan, plan.cohort.rounds if rounds is None else rounds)
    return Epsilons(*(spent(_times(plan.event(view), times), plan.privacy.delta) for view in VIEWS))


def bound(plan: Plan, rounds: int | None = None, survivors: int | None = None) -> Epsilons:
    """Return the Renyi bounds beside `cost`, if so many devices are left in every round."""
    times = participations(plan, plan.cohort.rounds if rounds is None else rounds)
    return Epsilons(*(rdp_epsilon(((plan.event(view, survivors), times),), plan.privacy.delta) for view in VIEWS))


def _times(event: Event, count: int) -> Spending:
    """Return so many rounds' events as one, so that a figure is the plan's own to the last bit."""
    return ((Composed(event, count), 1),)


def with_noise(plan: Plan, noise_multiplier: float) -> Plan:
    """Return the plan with another noise multiplier, and a budget without a limit.

    Raises:
        PlanError: there is no such noise.
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
    """Return the most rounds that cost at most `target` at the plan's noise, in the view that its budget binds.

    They are the most but for a thousandth of them: below 1,000 participations, exactly.

    Guarantee: the rounds were computed to cost at most the target, as `cost`.

    Raises:
        PlanError: one round costs more already, or the target is no number above zero.
    """
    event, delta = plan.event(plan.budget.view), plan.privacy.delta

    def price(count: int) -> float:
        return spent(_times(event, count), delta) if count else 0.0

    def rough(count: int) -> float:
        if not count:
            return 0.0
        coarse = _gaussian(event) == event and rdp_epsilon(((event, count),), delta) <= VAST
        return pld_epsilon(_times(event, count), delta, ROUGH) if coarse else rdp_epsilon(((event, count),), delta)

    if not 0 < target < math.inf:
        raise PlanError(f"epsilon {target:g} is no budget", "give a number above zero")
    most = participations(plan, MOST_ROUNDS)
    start, _ = _last(rough, target, 0, most, slack=0.02)
    while start and price(start) > target:
        start = start * 9 // 10
    if not start and price(1) > target:
        raise PlanError(
            f"one round at noise multiplier {plan.noise_multiplier:g} costs epsilon {price(1):.4g}, more than "
            f"{target:g}",
            "raise the epsilon or the noise",
        )
    count, dearer = _last(price, target, max(1, start), most, slack=0.001)
    rounds = min(MOST_ROUNDS, count * plan.data.clients // plan.cohort.size)
    beyond = (None, None) if dearer > most else (dearer, price(dearer))
    return Purchase(target, rounds, count, price(count), *beyond)


def _last(price: Callable[[int], float], target: float, low: int, most: int, slack: float) -> tuple[int, int]:
    """Return the last whole number, from `low` up to `most`, whose price is at most `target`, and one that is dearer.

    `low`'s price must be at most the target. Found is the last but for the share `slack` of it. The logarithm of a
    price is nearly a line over that of the number, so the search follows the line between the two nearest that are
    known; where that moved one end three times, it takes the middle.
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
    """Return about where the price meets the target; with nothing dearer known yet, rather too far than too near."""
    if low_price <= 0:
        return 2 * low + 1
    if math.isinf(high_price):
        return math.ceil(1.01 * low * (target / low_price) ** 1.5)
    share = math.log(target / low_price) / math.log(high_price / low_price)
    return round(low * (high / low) ** share)


def accountants(plan: Plan) -> tuple[Figure, ...]:
    """Return what each accountant says of the whole plan in the view its budget binds, the reported one first."""
    event = Composed(plan.event(plan.budget.view), plan.participations)
    delta, gaussian = plan.privacy.delta, _gaussian(event)
    rdp = rdp_epsilon(((event, 1),), delta)
    if gaussian == event and (reported := spent(((event, 1),), delta)) < rdp:
        figures = [Figure("pld", reported, "reported", PLD), Figure("rdp", rdp, "bound", RDP_BESIDE)]
    elif gaussian == event:
        figures = [Figure("rdp", rdp, "reported", RDP_VAST)]
    else:
        pld = pld_epsilon(((gaussian, 1),), delta, GRIDS[0])
        figures = [Figure("rdp", rdp, "reported", RDP_ALONE), Figure("pld", pld, "estimate", PLD_STAND_IN)]
    return (*figures, _central_limit(gaussian, delta, event == gaussian))


PLD = "privacy loss distributions, rounded up: a proof, and the tightest; this is what the ledger charges"
RDP_BESIDE = "a Renyi bound: a proof too, less tight; computed beside every figure, which may not exceed it"
RDP_VAST = "a Renyi bound: a proof; where nobody is protected finer accounting is idle"
RDP_ALONE = "a Renyi bound: a proof for skellam noise too, so this is what the ledger charges"
PLD_STAND_IN = "for gaussian noise of the same size: no proof for skellam noise"
EXACT = "closed form for gaussian noise without sampling: exact, so it checks the others"
EXACT_STAND_IN = "closed form for gaussian noise of the same size: no proof for skellam noise"
LIMIT = "central limit of gaussian dp: no bound, it can lie below the true value; never charged"


def _gaussian(event: Event) -> Event:
    """Return the event with Gaussian noise of the same size for Skellam noise."""
    match event:
        case Skellam(noise_multiplier, _):
            return Gaussian(noise_multiplier)
        case PoissonSampled(rate, inner):
            return PoissonSampled(rate, _gaussian(inner))
        case Composed(inner, count):
            return Composed(_gaussian(inner), count)
        case _:
            return event


def _central_limit(event: Event, delta: float, proven: bool) -> Figure:
    """Return the figure of Gaussian differential privacy, exact where nothing is sampled.

    Reference: Bu, Dong, Long, Su 2020, Deep Learning with Gaussian Differential Privacy, corollary 4.
    """
    rate, noise_multiplier, count = _flat(event)
    exact = rate == 1
    power = math.inf if noise_multiplier < MOST_CURVED else math.expm1(noise_multiplier**-2)
    mu = math.sqrt(count) / noise_multiplier if exact else rate * math.sqrt(count * power)
    why = (EXACT if proven else EXACT_STAND_IN) if exact else LIMIT
    return Figure("gdp", gaussian_epsilon(mu, delta), "bound" if exact and proven else "estimate", why)


MOST_CURVED = 0.04
"""The least noise multiplier whose chi-square divergence a float can hold."""


def _flat(event: Event, count: int = 1, rate: float = 1.0) -> tuple[float, float, int]:
    """Return sampling rate, noise multiplier and number of steps of an event of Gaussian noise."""
    match event:
        case Composed(inner, times):
            return _flat(inner, count * times, rate)
        case PoissonSampled(part, inner):
            return _flat(inner, count, rate * part)
        case Gaussian(noise_multiplier):
            return rate, noise_multiplier, count
        case _:
            raise ValueError("expected an event of gaussian noise")


def gaussian_epsilon(mu: float, delta: float) -> float | None:
    """Return the epsilon of a mechanism as private as telling N(0, 1) from N(mu, 1); None if mu is beyond all use.

    Reference: Balle, Wang 2018, theorem 8; Dong, Roth, Su 2022, corollary 2.13.
    """
    if mu > MOST_MU:
        return None

    def excess(epsilon: float) -> float:
        below = epsilon + log_ndtr(-mu / 2 - epsilon / mu)
        return float(ndtr(mu / 2 - epsilon / mu) - math.exp(below)) - delta

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, mu**2 / 2 + 40 * mu))  # pyright: ignore


MOST_MU = 1e3
