"""The accountant: the only file that computes an epsilon from events.

Where all noise is Gaussian, the reported epsilon comes from privacy loss distributions (PLD; Koskela et al. 2020,
Doroshenko et al. 2022; pld.py) on a grid of 1e-3, rounded up, and a Renyi bound (RDP; Mironov 2017) checks each.
No PLD is proven for Skellam noise: where there is some, the reported epsilon is the Renyi bound. Neighbouring data
sets differ by adding or removing one unit.
"""

# The libraries below ship no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from ..errors import BractError, PlanError
from .events import Composed, Event, Gaussian, PoissonSampled, Skellam, Unbounded, to_json
from .pld import composed, epsilon_at, sampled_gaussian
from .root_finding import crossing

GRIDS = (1e-3, 1e-4, 1e-5)
"""Grid widths of the privacy loss. The first is the default; many small steps need a finer one."""

STEP_ERROR, TOLERANCE, FINE = 5.0, 0.005, 0.0001
"""A grid overstates epsilon by less than STEP_ERROR grid^2 a step (measured). If that exceeds TOLERANCE (or FINE)
times epsilon, a finer grid is used. All grids err on the private side."""

ORDERS = (*range(2, 33), *(round(2 ** (k / 2)) for k in range(11, 23)))
"""Renyi orders: integers, at which the bound is a finite sum (Mironov et al. 2019, section 3.3)."""

FRACTIONAL_ORDERS = tuple(whole + part / 8 for whole in range(1, 16) for part in range(1, 8))
"""Fractional orders. Linear interpolation bounds them, as (order - 1) rdp is convex (van Erven, Harremoes 2014)."""

NOISE_STEP = 1e-4
"""Relative precision of a calibrated noise multiplier, which is then rounded up to five digits."""

LEAST_NOISE, MOST_NOISE = 0.2, 1e4

VAST = 200.0
"""An epsilon that protects nobody: above it the Renyi bound is reported, because a tighter figure has no use."""

Orders = TypeVar("Orders", float, NDArray[Any])

Spending = tuple[tuple[Event, int], ...]
"""Distinct events, each with its count."""


class AccountingError(BractError):
    """The two accountants contradict each other, so no figure is reported."""


def renyi(event: Event, order: int) -> float:
    """Return an upper bound on the Renyi divergence between neighbours of an event, at an integer order above 1.

    Gaussian: Mironov 2017, corollary 3.

    Skellam of variance v. If one coordinate moves by s integer steps, the divergence of order a is at most s^2 r with
    r = a / (2 v) + (2 a + 5) / (4 v^2): the bound of Agarwal et al. 2021, divided by s^2, is largest at s = 1.
    Coordinates are independent, so a move by an integer vector y gives |y|^2 r. Random rounding makes y random: a
    real move of m + f in coordinate j becomes m or m + 1, with mean square (m + f)^2 + f (1 - f). As
    exp((a - 1) divergence) is jointly convex, its mean over the rounding is an upper bound. With k = (a - 1) r,
    Hoeffding's lemma gives log E exp(k y_j^2) <= k E y_j^2 + k^2 (2 m + 1)^2 / 8 <= k (1 + k) ((m + f)^2 + 1/4).
    Summed over coordinates, the divergence is at most r (1 + k) S. Here S = v / noise_multiplier^2 is the squared
    norm of the real move plus a quarter for each coordinate.

    Poisson sampling, Mironov et al. 2019, section 3.3: the moment E (1 - q + q L)^a, expanded. It bounds the other
    direction too (their theorem 5), because a reflection swaps the noise and the moved noise. The mean over the
    rounding is taken term by term.
    """
    match event:
        case Gaussian() | Skellam():
            return _unsampled(event, order)
        case PoissonSampled(rate, inner) if rate < 1:
            return _sampled_moment(rate, inner, order) / (order - 1)
        case PoissonSampled(_, inner):
            return renyi(inner, order)
        case Composed(inner, count):
            return count * renyi(inner, order)
        case Unbounded():
            return math.inf


def _unsampled(event: Gaussian | Skellam, order: Orders) -> Orders:
    """Return the Renyi divergence of one addition of noise, at one order or at an array of orders."""
    if isinstance(event, Gaussian):
        return order / (2 * event.noise_multiplier**2)
    rate = order / (2 * event.variance) + (2 * order + 5) / (4 * event.variance**2)
    return event.variance / event.noise_multiplier**2 * rate * (1 + (order - 1) * rate)


def _sampled_moment(rate: float, inner: Event, order: int) -> float:
    """Return log sum over k of C(a, k) (1 - q)^(a - k) q^k exp((k - 1) rdp(k)), as log(1 + terms with exp - 1)."""
    k = np.arange(2, order + 1)
    excess = _log_excess(inner, max(order, ORDERS[-1]))[: order - 1]
    logs = _log_choices(order) + (order - k) * math.log1p(-rate) + k * math.log(rate) + excess
    most = float(logs.max())
    return float(np.logaddexp(0.0, most if math.isinf(most) else most + math.log(np.exp(logs - most).sum())))


@lru_cache(maxsize=64)
def _log_choices(order: int) -> NDArray[np.float64]:
    """Return log C(order, k) for k = 2..order, float64 [order - 1]."""
    k = np.arange(2, order + 1)
    return gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)


@lru_cache(maxsize=256)
def _log_excess(event: Event, last: int) -> NDArray[np.float64]:
    """Return log(exp((order - 1) renyi) - 1) at every integer order from 2 to `last`."""
    orders = np.arange(2.0, last + 1)
    if isinstance(event, Gaussian | Skellam):
        curve = _unsampled(event, orders)
    else:
        curve = np.array([renyi(event, order) for order in range(2, last + 1)])
    moments = (orders - 1) * curve
    return moments + np.log(-np.expm1(-moments))


def epsilon(event: Event, delta: float) -> float:
    """Return the epsilon of an event at `delta`, infinite without noise."""
    return spent(((event, 1),), delta)


def spent(events: Spending, delta: float, tolerance: float = TOLERANCE) -> float:
    """Return the epsilon of the composition of all events at `delta`.

    If all noise is Gaussian, this is the PLD figure, checked against RDP. Otherwise it is the Renyi bound. A PLD
    figure exceeds the exact value by about `tolerance` of itself at most, as far as the finest grid allows.

    Guarantee: the figure is an upper bound for the composition of the events (pessimistic discretisation).

    Raises:
        AccountingError: the PLD figure exceeds the Renyi bound on every grid, so one of the two is wrong.
    """
    if not events:
        return 0.0
    rdp = rdp_epsilon(events, delta)
    if VAST < rdp < math.inf or any(_has_skellam(event) for event, _ in events):
        return rdp
    steps = sum(count * _steps(event) for event, count in events)
    for grid in GRIDS:
        pld = pld_epsilon(events, delta, grid)
        exact = pld == 0 or STEP_ERROR * steps * grid**2 <= tolerance * pld
        if pld <= rdp and (exact or grid == GRIDS[-1]):
            return pld
    raise AccountingError(
        f"the pld accountant gives an epsilon above the renyi bound {rdp:g}",
        "no figure is printed that two accountants disagree on; please report the plan",
    )


def _steps(event: Event) -> int:
    return event.count * _steps(event.event) if isinstance(event, Composed) else 1


def pld_epsilon(events: Spending, delta: float, grid: float = GRIDS[0]) -> float:
    """Return the epsilon of the composition of all events at `delta`, by privacy loss distributions on one grid.

    Raises:
        ValueError: no privacy loss distribution is proven for an event.
    """
    if any(_is_unbounded(event) for event, _ in events):
        return math.inf
    return _pld_epsilon(tuple(_sampled_steps(event, count) for event, count in events), delta, grid)


def _sampled_steps(event: Event, count: int) -> tuple[float, float, int]:
    """Return (sampling rate, noise multiplier, steps) of an event that happened `count` times."""
    match event:
        case Composed(inner, times):
            return _sampled_steps(inner, count * times)
        case Gaussian(noise_multiplier) | PoissonSampled(1, Gaussian(noise_multiplier)):
            return 1.0, noise_multiplier / math.sqrt(count), 1
        case PoissonSampled(rate, Gaussian(noise_multiplier)):
            return rate, noise_multiplier, count
        case _:
            raise ValueError(f"no loss distribution is proven for {to_json(event)}")


@lru_cache(maxsize=4096)
def _pld_epsilon(steps: tuple[tuple[float, float, int], ...], delta: float, grid: float) -> float:
    """Return the larger of the epsilons for removing and for adding a unit; without sampling they are equal."""
    found = [0.0]
    for removed in (True, False) if any(rate < 1 for rate, _, _ in steps) else (True,) if steps else ():
        each = [(sampled_gaussian(rate, noise, grid, removed), count) for rate, noise, count in steps]
        found.append(epsilon_at(composed(each, delta), delta))
    return max(found)


@lru_cache(maxsize=4096)
def rdp_epsilon(events: Spending, delta: float) -> float:
    """Return the Renyi bound on the epsilon of the composition of all events at `delta`.

    Reference: Canonne, Kamath, Steinke 2020, proposition 12, converts the divergence to epsilon. Bretagnolle, Huber
    1979 gives epsilon 0 where the divergence is so small that no probability differs by more than delta.
    """
    if any(_is_unbounded(event) for event, _ in events):
        return math.inf
    moments = np.sum([count * _moments(event) for event, count in events], axis=0)
    if np.isnan(moments).any():
        raise AccountingError(
            "the renyi bound of an event is not a number", "no figure is printed; please report the plan"
        )
    chords = np.interp(FRACTIONAL_ORDERS, [1, *ORDERS], [0.0, *moments])
    orders = np.array([*FRACTIONAL_ORDERS, *ORDERS])
    curve = np.array([*chords, *moments]) / (orders - 1)
    bounds = curve + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    return 0.0 if (-np.expm1(-curve) < delta**2).any() else max(0.0, float(bounds.min()))


@lru_cache(maxsize=4096)
def _moments(event: Event) -> NDArray[np.float64]:
    """Return (order - 1) times the Renyi divergence at each of the orders."""
    return np.array([(order - 1) * renyi(event, order) for order in ORDERS])


def _has_skellam(event: Event) -> bool:
    match event:
        case PoissonSampled(_, inner) | Composed(inner, _):
            return _has_skellam(inner)
        case _:
            return isinstance(event, Skellam)


def _is_unbounded(event: Event) -> bool:
    match event:
        case PoissonSampled(_, inner) | Composed(inner, _):
            return _is_unbounded(inner)
        case _:
            return isinstance(event, Unbounded)


def calibrate(event: Callable[[float], Event], target: float, delta: float) -> float:
    """Return the smallest noise multiplier, to a relative 1e-4, whose `event` costs at most `target` at `delta`.

    Guarantee: the epsilon of the returned multiplier was computed, and is at most `target`.

    Raises:
        PlanError: no noise multiplier up to 10,000 meets the target.
    """
    enough = _sufficient_by_rdp(event, target, delta)
    if enough == LEAST_NOISE:
        return LEAST_NOISE

    def excess(log_noise: float) -> float:
        return math.log(max(epsilon(event(math.exp(log_noise)), delta) / target, 1e-9))

    low, high = math.log(max(LEAST_NOISE, enough / 2)), math.log(enough)
    while low > math.log(LEAST_NOISE) and excess(low) <= 0:
        low, high = max(math.log(LEAST_NOISE), low - math.log(2)), low
    root = low if excess(low) <= 0 else crossing(excess, low, high, NOISE_STEP / 100)
    noise_multiplier = _round_up(math.exp(root))
    while epsilon(event(noise_multiplier), delta) > target:
        noise_multiplier = _round_up(noise_multiplier * (1 + NOISE_STEP))
    return noise_multiplier


def _round_up(value: float) -> float:
    """Return the value rounded up to five significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 4)
    return float(f"{math.ceil(value / unit) * unit:.5g}")


def _sufficient_by_rdp(event: Callable[[float], Event], target: float, delta: float) -> float:
    """Return a noise multiplier that suffices by the Renyi bound, within 10 % of the smallest."""

    def exceeds_target(noise_multiplier: float) -> bool:
        return rdp_epsilon(((event(noise_multiplier), 1),), delta) > target

    low = high = LEAST_NOISE
    while exceeds_target(high):
        low, high = high, 2 * high
        if low > MOST_NOISE:
            raise PlanError(
                f"no noise multiplier gives epsilon {target:g} at delta {delta:g} over this number of steps",
                "raise privacy.epsilon or privacy.delta, or lower cohort.rounds or privacy.sampling_rate",
            )
    while high > 1.1 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if exceeds_target(middle) else (low, middle)
    return high
