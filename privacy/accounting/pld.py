"""Privacy loss distributions of Gaussian noise, with or without Poisson sampling: discretised, composed, evaluated.

One unit moves the output of a step from N(0, s^2) to N(1, s^2) with probability q. Here s is the noise multiplier and
q the sampling rate. `Losses` holds the distribution of the privacy loss for one direction: the unit is removed, or
added. Its delta(epsilon) = infinite + sum of mass (1 - exp(epsilon - loss)) over the losses above epsilon. This is
nowhere below the true delta: at grid points it is the true value, rounded up; between them it is a chord, as a
function of exp(epsilon), of a convex curve. Losses below the grid count as its smallest loss, losses above it as
infinite. So the ends of the grid change how tight a figure is, never whether it holds.

Tests compare single steps with sixty-digit values, compositions with closed forms, and both with dp_accounting.

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
"""Log masses of each step, [places], with the number of times that the step is taken."""

FARTHEST = 10.0
"""Standard deviations of noise that a step's grid covers. The 1e-23 beyond counts as an infinite loss."""

TAIL = 1e-15
"""The most mass of a tilted composition that both ends leave out together."""

ROUNDING_NOISE = 2.0**-40
"""The fraction of delta that is added for each step of a composition, because masses are rounded."""

BLUR = 2.0**-46
"""The largest error of a tilted step's Fourier transform: 128 units in the last place of its largest value, 1."""

ROUNDING = 2.0**-50
"""Four units in the last place of 1. Delta is rounded up by ROUNDING (1 + |loss|) times its first term."""

NORMAL, SKEWED = np.array([0.5, 0.75, 1.0, 1.4]), np.array([2.0, 5.0, 10.0, 18.0, 30.0])
"""Orders of Chernoff's bound to try: NORMAL times the best order of a normal distribution, SKEWED over the width."""


@dataclass(frozen=True)
class Losses:
    """A discrete distribution of the privacy loss: `masses[i]` at `(lowest + i) * grid`, and `infinite` at infinity.

    Masses are not negative. The masses of a step sum to about 1.
    """

    grid: float
    lowest: int
    masses: Floats
    infinite: float


Composition = Sequence[tuple[Losses, int]]
"""The losses of each kind of step, all on one grid, with the number of times that the step is taken."""


@lru_cache(maxsize=8)
def sampled_gaussian(rate: float, noise_multiplier: float, grid: float, removed: bool) -> Losses:
    """Return the losses of one step for a unit that is removed, else for one that is added.

    Guarantee: delta is nowhere more than 1e-15 below the true one, for noise multipliers of 0.3 or more.
    """
    farthest = FARTHEST / noise_multiplier + 0.5 / noise_multiplier**2
    ends = np.logaddexp(_log_unsampled(rate), math.log(rate) + np.array([-farthest, farthest]))
    low, high = map(float, ends if removed else -ends[::-1])
    lowest = math.floor(low / grid)
    epsilons = np.arange(lowest, max(math.ceil(high / grid), lowest + 1) + 1) * grid
    return _connect(step_delta(epsilons, rate, noise_multiplier, removed), grid, lowest)


def step_delta(epsilons: Floats, rate: float, noise_multiplier: float, removed: bool) -> Floats:
    """Return the delta of one step at each epsilon, of either sign, rounded up.

    Let f be the density of outputs without the unit, g the density with it, and D(p, r) the integral of max(p - r,
    0). If the unit is removed, delta is D((1 - q) f + q g, exp(epsilon) f) = q D(g, exp(loss) f), with
    exp(loss) = 1 + (exp(epsilon) - 1) / q. If it is added, delta is D(f, exp(epsilon) ((1 - q) f + q g)) =
    (1 - (1 - q) exp(epsilon)) D(f, exp(loss) g), with exp(-loss) = 1 + (exp(-epsilon) - 1) / q. Where no such loss
    exists, the two densities do not cross, and delta is max(0, 1 - exp(epsilon)).

    Reference: Balle, Barthe, Gaboardi 2018, theorem 2, for epsilons above zero.
    """
    sign, least = (1 if removed else -1), _log_unsampled(rate)
    deltas, some = np.maximum(0.0, -np.expm1(np.minimum(epsilons, 1.0))), sign * epsilons > least
    weight = rate if removed else -np.expm1(epsilons[some] + least)
    deltas[some] = weight * _gaussian_delta(sign * _unsampled_loss(sign * epsilons[some], rate), noise_multiplier)
    return np.minimum(deltas, 1.0)


def _log_unsampled(rate: float) -> float:
    return math.log1p(-rate) if rate < 1 else -math.inf


def _unsampled_loss(loss: Floats, rate: float) -> Floats:
    """Return log(1 + (exp(loss) - 1) / rate), with an error relative to the result near zero, else to log(rate)."""
    share = np.expm1(np.minimum(loss, 1.0)) / rate
    far = loss - math.log(rate) + np.log(-np.expm1(_log_unsampled(rate) - loss))
    return np.where(np.abs(share) < 0.5, np.log1p(np.maximum(share, -0.5)), far)


def _gaussian_delta(loss: Floats, noise_multiplier: float) -> Floats:
    """Return the delta of Gaussian noise at an epsilon of either sign, rounded up: F(a) - exp(loss) F(b).

    F is the normal distribution function, a = 1 / (2 s) - loss s, and b = a - 1 / s. exp(loss) is the normal density
    at a over the density at b. So where b is negative, the second term is the density at a times a Mills ratio, and
    no exponential overflows.

    Reference: Balle, Wang 2018, theorem 8.
    """
    a = 0.5 / noise_multiplier - loss * noise_multiplier
    b = a - 1 / noise_multiplier
    ratio = 0.5 * np.exp(-(a**2) / 2) * erfcx(-np.minimum(b, 0.0) / math.sqrt(2))
    above, below = ndtr(a), np.where(b < 0, ratio, np.exp(np.minimum(loss, 0.0)) * ndtr(b))
    return above - below + ROUNDING * (1 + np.abs(loss)) * above


def _connect(deltas: Floats, grid: float, lowest: int) -> Losses:
    """Return losses on a grid from `lowest * grid` on, whose delta at each grid point is at least that in `deltas`.

    Reference: Doroshenko et al. 2022, algorithm 1. The order of its differences lets rounding errors move mass
    between neighbours, and never create or remove mass.
    """
    falling = np.maximum.accumulate(deltas[::-1])[::-1]
    steps = np.diff(falling)
    slopes = np.append(steps / math.expm1(grid), 0.0)
    masses = np.append(1 - falling[0] + slopes[0], np.diff(slopes) - steps)
    return Losses(grid, lowest, np.maximum(masses, 0.0), float(falling[-1]))


def composed(steps: Composition, delta: float) -> Losses:
    """Return the losses of the composition of all steps, accurate near the epsilon at `delta` and above it.

    A product of Fourier transforms has a rounding error of 1e-16 a step, which would swamp a small delta. So masses
    are first tilted by exp(t place) / E exp(t place), and tilted back at the end. At the order t of the best Chernoff
    bound, the tilted sum is centred near the epsilon, and rounding is small compared with delta.

    Guarantee: masses cut off above the grid count as infinite losses, and those below as the smallest loss. For every
    t, no mass is rounded down: its largest error is added before it is tilted back.
    """
    if len(steps) == 1 and steps[0][1] == 1:
        return steps[0][0]
    logs = [(np.log(np.maximum(losses.masses, 1e-300)), count) for losses, count in steps]
    t = _best_order(logs, delta)
    tilted = [(log + t * np.arange(len(log)), count) for log, count in logs]
    tilted = [(log - _log_sum(log), count) for log, count in tilted]
    low, high = _interval(tilted)
    back = _moment(logs, t) - t * np.arange(low, high + 1)
    masses = _convolved(tilted, low, high) * np.exp(np.minimum(back, 700.0))
    finite = sum(count * math.log1p(-losses.infinite) for losses, count in steps)
    charged = TAIL * math.exp(float(back[-1])) + ROUNDING_NOISE * sum(count for _, count in steps) * delta
    lowest = low + sum(losses.lowest * count for losses, count in steps)
    return Losses(steps[0][0].grid, lowest, masses, charged - math.expm1(finite))


def _convolved(logs: Logs, low: int, high: int) -> Floats:
    """Return the masses of the sum of all places, from `low` to `high`, rounded up; masses outside wrap around.

    The error of a mass is at most the mean, over all frequencies, of the error of the product of the transforms.
    """
    size = _fft_size(max(high - low + 1, *(len(log) for log, _ in logs)))
    factors = [(np.fft.rfft(np.exp(log), size), count) for log, count in logs]
    product = math.prod(factor**count for factor, count in factors)
    most = math.prod((np.abs(factor) + BLUR) ** count for factor, count in factors)
    error = 2 * float((most - np.abs(product)).sum()) / size
    return np.roll(np.fft.irfft(product, size), -low)[: high - low + 1] + error


def _interval(logs: Logs) -> tuple[int, int]:
    """Return an interval that the sum of all places leaves with probability TAIL at most.

    By Chernoff's bound, P(sum >= high) is at most exp(log E exp(t sum) - t high) for every t above zero; a t below
    zero bounds the lower end in the same way.
    """
    least, low, high = math.log(TAIL / 2), 0, sum((len(log) - 1) * count for log, count in logs)
    for t in _orders(logs, TAIL / 2):
        low = max(low, math.floor((least - _moment(logs, -t)) / t))
        high = min(high, math.ceil((_moment(logs, t) - least) / t))
    return low, max(high, low)


def _best_order(logs: Logs, delta: float) -> float:
    """Return the order t of the best Chernoff bound, within about 3 %.

    Where rare large losses dominate delta, a t that is further off gives a larger rounding error.
    """

    def bound(t: float) -> float:
        return (_moment(logs, t) - math.log(delta)) / t

    t, spread = min(_orders(logs, delta), key=bound), 1.6
    for _ in range(5):
        t, spread = min((t / spread, t, t * spread), key=bound), math.sqrt(spread)
    return t


def _orders(logs: Logs, tail: float) -> list[float]:
    """Return orders t to try for Chernoff's bound on a tail: every order is valid, and one is nearly the best."""
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


def _fft_size(size: int) -> int:
    """Return the smallest number from `size` on that is a power of two times 1, 3, 5, 9 or 15."""
    return min(base << (-(-size // base) - 1).bit_length() for base in (1, 3, 5, 9, 15))


def epsilon_at(losses: Losses, delta: float) -> float:
    """Return the smallest epsilon, at least zero and at least the smallest loss, whose delta is at most `delta`."""
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
