"""Privacy loss distributions of Gaussian noise, Poisson-sampled or not: rounded up onto a grid, composed, read off.

One unit's presence moves the output of a step from N(0, s^2) to N(1, s^2), s being the noise multiplier, with the
sampling rate as its probability. `Losses` holds, for one direction (the unit is removed, or added), how likely which
privacy loss is. Its delta(epsilon) = infinite + sum of mass (1 - exp(epsilon - loss)) over larger losses lies nowhere
below the true one: on the grid's points it is the true one, rounded up, and between them a chord, over exp(epsilon),
of a convex curve. What lies beyond the ends of a grid counts as its least loss, or as an infinite one, so ends change
how tight a figure is and never whether it holds.

Tests hold steps against numbers of sixty digits, compositions against closed forms, and both against dp_accounting.

Reference: Koskela et al. 2020 and 2021 (composition by Fourier transform); Doroshenko et al. 2022 (the grid).
"""

# The library below ships no types:
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

Floats = NDArray[np.floating[Any]]
Logs = Sequence[tuple[Floats, int]]
"""Logarithms of masses, each with how often a place is drawn by them."""

FARTHEST = 10.0
"""A step's grid ends where noise is beyond so many standard deviations: 1e-23 of it, which counts as lost."""

TAIL = 1e-15
"""The most mass, of a tilted composition, that is left out at both ends together."""

NOISE = 2.0**-40
"""The share of delta that is charged for each step of a composition: masses are known to the last digits only."""

BLUR = 2.0**-46
"""What a tilted step's Fourier transform errs by at most: 128 units in the last place of its largest value, 1."""

ROUNDING = 2.0**-50
"""Four units in the last place of 1: added to each term of delta, relative to it and to one and its loss."""

NORMAL, SKEWED = np.array([0.5, 0.75, 1.0, 1.4]), np.array([2.0, 5.0, 10.0, 18.0, 30.0])
"""Orders of Chernoff's bound at which ends are sought: times the best for a normal distribution; over the width."""


@dataclass(frozen=True)
class Losses:
    """How likely which privacy loss is: `masses[i]` for `(lowest + i) * grid`, and `infinite` for an infinite one.

    Masses are not negative, and those of a step sum up to about 1.
    """

    grid: float
    lowest: int
    masses: Floats
    infinite: float


Steps = Sequence[tuple[Losses, int]]
"""One step's losses on one grid, each with how often the step is taken."""


@lru_cache(maxsize=8)
def sampled_gaussian(rate: float, noise_multiplier: float, grid: float, removed: bool) -> Losses:
    """Return the losses of one step, where the unit is removed or where it is added.

    Guarantee: delta is nowhere below the true one by more than 1e-15 for noise multipliers from 0.3 on.
    """
    farthest = FARTHEST / noise_multiplier + 0.5 / noise_multiplier**2
    ends = np.logaddexp(_log_unsampled(rate), math.log(rate) + np.array([-farthest, farthest]))
    low, high = map(float, ends if removed else -ends[::-1])
    lowest = math.floor(low / grid)
    epsilons = np.arange(lowest, max(math.ceil(high / grid), lowest + 1) + 1) * grid
    return _connect(step_delta(epsilons, rate, noise_multiplier, removed), grid, lowest)


def step_delta(epsilons: Floats, rate: float, noise_multiplier: float, removed: bool) -> Floats:
    """Return the delta of one step at each epsilon, of either sign, rounded up.

    With f the density of outputs without the unit and g that with it, delta is the integral of what (1 - q) f + q g
    exceeds exp(epsilon) f by, if the unit is removed, which is q times what g exceeds exp(loss) f by, for
    exp(loss) = 1 + (exp(epsilon) - 1) / q. If it is added, f exceeds exp(epsilon) ((1 - q) f + q g), which is
    1 - (1 - q) exp(epsilon) times what f exceeds exp(loss) g by, for exp(-loss) = 1 + (exp(-epsilon) - 1) / q. Where
    there is no such loss every output is beyond, so delta is 1 - exp(epsilon), or none is.

    Reference: Balle, Barthe, Gaboardi 2018, theorem 2, for epsilons above zero.
    """
    sign, least = (1 if removed else -1), _log_unsampled(rate)
    deltas, some = np.maximum(0.0, -np.expm1(np.minimum(epsilons, 1.0))), sign * epsilons > least
    weight = rate if removed else -np.expm1(epsilons[some] + least)
    deltas[some] = weight * _gaussian_delta(sign * _before_sampling(sign * epsilons[some], rate), noise_multiplier)
    return np.minimum(deltas, 1.0)


def _log_unsampled(rate: float) -> float:
    return math.log1p(-rate) if rate < 1 else -math.inf


def _before_sampling(loss: Floats, rate: float) -> Floats:
    """Return log(1 + (exp(loss) - 1) / rate), near zero to the last digits of the result, elsewhere of log(rate)."""
    share = np.expm1(np.minimum(loss, 1.0)) / rate
    far = loss - math.log(rate) + np.log(-np.expm1(_log_unsampled(rate) - loss))
    return np.where(np.abs(share) < 0.5, np.log1p(np.maximum(share, -0.5)), far)


def _gaussian_delta(loss: Floats, noise_multiplier: float) -> Floats:
    """Return the delta of Gaussian noise at an epsilon of either sign, rounded up: F(a) - exp(loss) F(a - 1 / s).

    F is the normal distribution function, a = 1 / (2 s) - loss s. exp(loss) is the ratio of the normal density at a
    to that at a - 1 / s, so where that is negative the second term is the density at a times a Mills ratio: no
    exponential is large.

    Reference: Balle, Wang 2018, theorem 8.
    """
    a = 0.5 / noise_multiplier - loss * noise_multiplier
    b = a - 1 / noise_multiplier
    ratio = 0.5 * np.exp(-(a**2) / 2) * erfcx(-np.minimum(b, 0.0) / math.sqrt(2))
    above, below = ndtr(a), np.where(b < 0, ratio, np.exp(np.minimum(loss, 0.0)) * ndtr(b))
    return above - below + ROUNDING * (1 + np.abs(loss)) * above


def _connect(deltas: Floats, grid: float, lowest: int) -> Losses:
    """Return the losses on a grid, `lowest` times it the least, whose delta there is `deltas`, or above.

    Reference: Doroshenko et al. 2022, algorithm 1, its differences arranged so that rounding moves mass between
    neighbours and adds or takes none.
    """
    falling = np.maximum.accumulate(deltas[::-1])[::-1]
    steps = np.diff(falling)
    slopes = np.append(steps / math.expm1(grid), 0.0)
    masses = np.append(1 - falling[0] + slopes[0], np.diff(slopes) - steps)
    return Losses(grid, lowest, np.maximum(masses, 0.0), float(falling[-1]))


def composed(steps: Steps, delta: float) -> Losses:
    """Return the losses of all steps together, as they are above about the epsilon that belongs to `delta`.

    The product of their Fourier transforms would be rounded by 1e-16 a step, beside which a small delta drowns. So
    masses are tilted first, by exp(t place) / E exp(t place), and back at the end: if t is that of the best Chernoff
    bound, the tilted sum lies about the epsilon and rounding is small beside delta.

    Guarantee: masses left out above are charged as infinite losses; those below count as the least loss. Whatever t
    is, no mass is rounded down: what it may err by is added before it is tilted back.
    """
    if len(steps) == 1 and steps[0][1] == 1:
        return steps[0][0]
    logs = [(np.log(np.maximum(losses.masses, 1e-300)), count) for losses, count in steps]
    t = _best_order(logs, delta)
    tilted = [(log + t * np.arange(len(log)), count) for log, count in logs]
    tilted = [(log - _log_sum(log), count) for log, count in tilted]
    low, high = _ends(tilted)
    back = _moment(logs, t) - t * np.arange(low, high + 1)
    masses = _convolved(tilted, low, high) * np.exp(np.minimum(back, 700.0))
    finite = sum(count * math.log1p(-losses.infinite) for losses, count in steps)
    charged = TAIL * math.exp(float(back[-1])) + NOISE * sum(count for _, count in steps) * delta
    lowest = low + sum(losses.lowest * count for losses, count in steps)
    return Losses(steps[0][0].grid, lowest, masses, charged - math.expm1(finite))


def _convolved(logs: Logs, low: int, high: int) -> Floats:
    """Return the masses of the sum of all places from `low` to `high`, rounded up; what lies outside wraps around.

    A mass errs by no more than the mean over the transform of what the product would grow by with every factor.
    """
    size = _fast(max(high - low + 1, *(len(log) for log, _ in logs)))
    factors = [(np.fft.rfft(np.exp(log), size), count) for log, count in logs]
    product = math.prod(factor**count for factor, count in factors)
    most = math.prod((np.abs(factor) + BLUR) ** count for factor, count in factors)
    error = 2 * float((most - np.abs(product)).sum()) / size
    return np.roll(np.fft.irfft(product, size), -low)[: high - low + 1] + error


def _ends(logs: Logs) -> tuple[int, int]:
    """Return two places outside of which the sum of all places, each drawn by its mass, is with at most TAIL.

    By Chernoff's bound: P(sum >= high) is at most exp(log E exp(t sum) - t high) for every t above zero, and below
    zero likewise for the lower end.
    """
    least, low, high = math.log(TAIL / 2), 0, sum((len(log) - 1) * count for log, count in logs)
    for t in _orders(logs, TAIL / 2):
        low = max(low, math.floor((least - _moment(logs, -t)) / t))
        high = min(high, math.ceil((_moment(logs, t) - least) / t))
    return low, max(high, low)


def _best_order(logs: Logs, delta: float) -> float:
    """Return the order t of the best Chernoff bound, within 3 % or so.

    Where rare large losses make up delta, rounding is the larger beside it the farther t is off.
    """

    def bound(t: float) -> float:
        return (_moment(logs, t) - math.log(delta)) / t

    t, spread = min(_orders(logs, delta), key=bound), 1.6
    for _ in range(5):
        t, spread = min((t / spread, t, t * spread), key=bound), math.sqrt(spread)
    return t


def _orders(logs: Logs, tail: float) -> list[float]:
    """Return orders t for Chernoff's bound on a tail; one is near the best, others cost tightness only."""
    variance = sum(count * _variance(np.exp(log)) for log, count in logs)
    width = max(len(log) for log, _ in logs)
    return [*(NORMAL * math.sqrt(-2 * math.log(min(tail, 0.5)) / variance)).tolist(), *(SKEWED / width).tolist()]


def _variance(masses: Floats) -> float:
    places = np.arange(len(masses))
    return max(float((places - places @ masses / masses.sum()) ** 2 @ masses), 1.0)


def _moment(logs: Logs, t: float) -> float:
    """Return log E exp(t sum), t of either sign."""
    return sum(count * _log_sum(log + t * np.arange(len(log))) for log, count in logs)


def _log_sum(logs: Floats) -> float:
    """Return log sum exp(logs)."""
    most = float(logs.max())
    return most + math.log(np.exp(logs - most).sum())


def _fast(size: int) -> int:
    """Return the least number, at least `size`, that is a power of two or 3, 5, 9 or 15 times one."""
    return min(base << (-(-size // base) - 1).bit_length() for base in (1, 3, 5, 9, 15))


def epsilon_at(losses: Losses, delta: float) -> float:
    """Return the least epsilon, from zero and the least loss on, at which the losses' delta is at most `delta`."""
    if losses.infinite > delta:
        return math.inf
    first = max(0, 1 - losses.lowest)
    values = np.arange(losses.lowest + first, losses.lowest + len(losses.masses)) * losses.grid
    above = losses.infinite + np.cumsum(losses.masses[first:][::-1])[::-1]
    below = np.cumsum((losses.masses[first:] * np.exp(-values))[::-1])[::-1]
    over = np.flatnonzero(above - np.exp(np.minimum(values, 700.0)) * below > delta)
    place = int(over[-1]) + 1 if len(over) else 0
    start = max(0.0, losses.lowest * losses.grid, float(values[place - 1]) if place else 0.0)
    if place == len(values) or above[place] <= delta:
        return start
    exact = math.log((above[place] - delta) / below[place]) if below[place] > 0 else math.inf
    return max(start, min(exact, float(values[place])))
