"""What events cost: the one file that turns what happened into an epsilon.

Reported figures are privacy loss distributions (PLD; Koskela et al. 2020, Doroshenko et al. 2022) on a grid of
1e-3, pessimistic; a Renyi bound (RDP; Mironov 2017, Mironov et al. 2019) is computed beside each as a check.
Both are dp_accounting's. Neighbours differ by adding or removing one unit.
"""

# The libraries below ship no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq

from .errors import BractError, PlanError
from .events import Composed, Event, Gaussian, PoissonSampled, Unbounded

GRIDS = (1e-3, 1e-4, 1e-5)
"""Discretisations of the privacy loss: the first, unless many small steps make it too coarse."""

STEP_ERROR, TOLERANCE, FINE = 5.0, 0.005, 0.0001
"""A grid overstates epsilon by less than STEP_ERROR grid^2 a step (measured); a finer one is taken if that is more
than this share of it. All grids err on the private side."""

ORDERS = (*range(2, 33), *(round(2 ** (k / 2)) for k in range(11, 23)))
"""Renyi orders: whole numbers, for which the bound is a finite sum (Mironov et al. 2019, section 3.3)."""

NOISE_STEP = 1e-4
"""A calibrated noise multiplier is sought to this, relative, and rounded up to five digits."""

LEAST_NOISE, MOST_NOISE = 0.2, 1e4

VAST = 200.0
"""An epsilon that protects nobody: above it the Renyi bound itself is the figure, as finer accounting is idle."""

Spending = tuple[tuple[Event, int], ...]
"""Distinct events with how often each happened."""


class AccountingError(BractError):
    """The two accountants contradict each other: no figure is printed."""


def dp_event(event: Event) -> DpEvent:
    """Return dp_accounting's record of the event."""
    match event:
        case Gaussian(noise_multiplier):
            return GaussianDpEvent(noise_multiplier)
        case PoissonSampled(rate, inner):
            return PoissonSampledDpEvent(rate, dp_event(inner))
        case Composed(inner, count):
            return SelfComposedDpEvent(dp_event(inner), count)
        case Unbounded():
            return NonPrivateDpEvent()


def epsilon(event: Event, delta: float) -> float:
    """Return the epsilon of an event at `delta`: the PLD figure, infinite where nothing protects."""
    return spent(((event, 1),), delta)


def spent(events: Spending, delta: float, tolerance: float = TOLERANCE) -> float:
    """Return the epsilon of all events together at `delta`, by PLD, checked against RDP.

    It is at most about `tolerance` of itself above the exact value, as far as the finest grid allows.

    Guarantee: the figure is an upper bound for the composition of the events (pessimistic discretisation).

    Raises:
        AccountingError: the PLD figure lies above the Renyi bound on every grid, so one of the two is wrong.
    """
    if not events:
        return 0.0
    rdp = rdp_epsilon(events, delta)
    if VAST < rdp < math.inf:
        return rdp
    steps = sum(count * _steps(event) for event, count in events)
    for grid in GRIDS:
        pld = pld_epsilon(events, delta, grid)
        exact = STEP_ERROR * steps * grid**2 <= tolerance * pld
        if pld <= rdp and (exact or grid == GRIDS[-1]):
            return pld
    raise AccountingError(
        f"the pld accountant gives an epsilon above the renyi bound {rdp:g}",
        "no figure is printed that two accountants disagree on; please report the plan",
    )


def _steps(event: Event) -> int:
    return event.count * _steps(event.event) if isinstance(event, Composed) else 1


@lru_cache(maxsize=4096)
def pld_epsilon(events: Spending, delta: float, grid: float = GRIDS[0]) -> float:
    """Return the epsilon of all events together at `delta` by privacy loss distributions on one grid."""
    return _figure(PLDAccountant(value_discretization_interval=grid), events, delta)


@lru_cache(maxsize=4096)
def rdp_epsilon(events: Spending, delta: float) -> float:
    """Return the Renyi bound on the epsilon of all events together at `delta`."""
    return _figure(RdpAccountant(ORDERS), events, delta)


def _figure(accountant: PLDAccountant | RdpAccountant, events: Spending, delta: float) -> float:
    if any(_is_unbounded(event) for event, _ in events):
        return math.inf
    accountant.compose(ComposedDpEvent([SelfComposedDpEvent(dp_event(e), count) for e, count in events]))
    return float(accountant.get_epsilon(delta))


def _is_unbounded(event: Event) -> bool:
    match event:
        case PoissonSampled(_, inner) | Composed(inner, _):
            return _is_unbounded(inner)
        case _:
            return isinstance(event, Unbounded)


def calibrate(event: Callable[[float], Event], target: float, delta: float) -> float:
    """Return the least noise multiplier, up to 1e-4 of it, whose `event` costs at most `target` at `delta`.

    Guarantee: the event of the returned multiplier was computed to cost at most `target`.

    Raises:
        PlanError: no noise multiplier up to 10,000 meets the target.
    """
    enough = _enough_by_rdp(event, target, delta)
    if enough == LEAST_NOISE:
        return LEAST_NOISE

    def excess(log_noise: float) -> float:
        return epsilon(event(math.exp(log_noise)), delta) / target - 1

    low, high = math.log(max(LEAST_NOISE, enough / 2)), math.log(enough)
    while low > math.log(LEAST_NOISE) and excess(low) <= 0:
        low, high = max(math.log(LEAST_NOISE), low - math.log(2)), low
    root = low if excess(low) <= 0 else float(brentq(excess, low, high, xtol=NOISE_STEP / 4))  # pyright: ignore
    noise_multiplier = _round_up(math.exp(root))
    while epsilon(event(noise_multiplier), delta) > target:
        noise_multiplier = _round_up(noise_multiplier * (1 + NOISE_STEP))
    return noise_multiplier


def _round_up(value: float) -> float:
    """Return the next number of five significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 4)
    return float(f"{math.ceil(value / unit) * unit:.5g}")


def _enough_by_rdp(event: Callable[[float], Event], target: float, delta: float) -> float:
    """Return a noise multiplier that the Renyi bound proves sufficient, within 10 % of the least such."""

    def too_dear(noise_multiplier: float) -> bool:
        return rdp_epsilon(((event(noise_multiplier), 1),), delta) > target

    low = high = LEAST_NOISE
    while too_dear(high):
        low, high = high, 2 * high
        if low > MOST_NOISE:
            raise PlanError(
                f"no noise reaches epsilon {target:g} at delta {delta:g} in so many steps",
                "raise privacy.epsilon or privacy.delta, or lower cohort.rounds or privacy.sampling_rate",
            )
    while high > 1.1 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if too_dear(middle) else (low, middle)
    return high
