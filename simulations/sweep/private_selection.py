"""Private selection: what it costs to try a random number of candidates and to release only the best one.

Every try draws one candidate, uniformly and with replacement, and runs it with fresh randomness. The number of tries
is drawn from a law fixed beforehand; it and all tries but the best stay secret. Fixed numbers of tries have no such
bound: the best of N is paid for N times (Liu, Talwar 2019; Papernot, Steinke 2022, section 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from ...privacy.accounting.accountant import ORDERS
from ...privacy.errors import PlanError
from ...privacy.noise.keystream import Keystream

Curve = Callable[[float], float]
"""From an order above 1 to the Renyi divergence by which one try, of whatever candidate, tells neighbours apart at
most. Candidates that cost unlike have the largest of their curves: a mixture's is at most that (van Erven, Harremoes
2014, theorem 13)."""

LAWS = {"logarithmic": 0.0, "geometric": 1.0}
"""Shapes with a name of their own."""

LEAST_GAMMA = 1e-9
TAIL = 2.0**-60
"""A number of tries as unlikely as this is not drawn."""


@dataclass(frozen=True)
class NegativeBinomial:
    """A number of tries of the truncated negative binomial law, 1 at least: Papernot, Steinke 2022, definition 1.

    `shape` is their eta, above -1: 0 is the logarithmic law, 1 the geometric one of Liu and Talwar 2019. `gamma` lies
    between 0 and 1; the nearer it is to 0, the more tries there are.
    """

    shape: float
    gamma: float

    @property
    def mean(self) -> float:
        """The expected number of tries: eta (1 - gamma) / (gamma (1 - gamma^eta))."""
        log = math.log(self.gamma)
        return math.expm1(log) / self.gamma * _ratio(self.shape, log)

    def probabilities(self) -> Iterator[tuple[int, float]]:
        """Yield the numbers of tries from 1 on, without an end, each with its probability."""
        probability = (1 - self.gamma) * _ratio(self.shape, -math.log(self.gamma))
        for number in count(1):
            yield number, probability
            probability *= (1 - self.gamma) * (number + self.shape) / (number + 1)

    def renyi(self, one: Curve, order: float, orders: Sequence[float] = ORDERS) -> float:
        """Return the Renyi divergence at `order` of the best of the tries, if `one` is that of a single try.

        With e = one(a): e + (1 + eta) (1 - 1/b) one(b) + (1 + eta) log(1/gamma) / b + log(mean) / (a - 1), at the
        best order b, which may be 1.

        Reference: Papernot, Steinke 2022, theorem 2.
        """
        log = math.log(1 / self.gamma)
        tail = min([log, *((1 - 1 / b) * one(b) + log / b for b in orders)])
        return one(order) + (1 + self.shape) * tail + math.log(self.mean) / (order - 1)


@dataclass(frozen=True)
class Poisson:
    """A number of tries of the Poisson law with this mean, 1 at least. There may be no try, and so no outcome."""

    mean: float

    def probabilities(self) -> Iterator[tuple[int, float]]:
        """Yield the numbers of tries from 0 on, without an end, each with its probability."""
        probability = math.exp(-self.mean)
        for number in count():
            yield number, probability
            probability *= self.mean / (number + 1)

    def renyi(self, one: Curve, order: float, orders: Sequence[float] = ORDERS) -> float:
        """Return the Renyi divergence at `order` of the best of the tries, if `one` is that of a single try.

        one(a) + mean d + log(mean) / (a - 1), where one try is (log(1 + 1 / (a - 1)), d)-differentially private.

        Reference: Papernot, Steinke 2022, theorem 6.
        """
        delta = least_delta(one, math.log1p(1 / (order - 1)), orders)
        return one(order) + self.mean * delta + math.log(self.mean) / (order - 1)


Law = NegativeBinomial | Poisson


def make_law(name: str, mean: float) -> Law:
    """Return the law of this name, or of this shape, with so many expected tries.

    Raises:
        PlanError: there is no such law, or none with that mean.
    """
    if name == "poisson" and 1 <= mean < math.inf:
        return Poisson(mean)
    shape = _shape(name)
    if shape is None or not 1 < mean < math.inf:
        what = f"{mean:g} expected tries" if shape is not None or name == "poisson" else f"law {name}"
        known = "above 1, with a law of logarithmic, geometric, poisson or a shape above -1"
        raise PlanError(f"private selection has no {what}", f"give a number of tries {known}")
    return NegativeBinomial(shape, _gamma(shape, mean))


def draw(law: Law, keystream: Keystream) -> int:
    """Return a number of tries of that law, secret.

    Guarantee: each number has the law's probability up to 2^-50; that is not a cost, as the law holds no secret.
    """
    left = float(keystream.uniforms(1)[0])
    number, probability = 0, 1.0
    for number, probability in law.probabilities():
        left -= probability
        if left <= 0 or (probability < TAIL and number > law.mean):
            break
    return number


def selection_epsilon(law: Law, one: Curve, delta: float, orders: Sequence[float] = ORDERS) -> float:
    """Return the epsilon at `delta` of releasing the best of the tries alone; `one` is the curve of a single try.

    Guarantee: an upper bound, if the number of tries, the candidates tried and all outcomes but the best stay secret,
    and the score reads either the outcome alone or records outside the guarantee.

    Reference: Papernot, Steinke 2022; from Renyi divergence to epsilon, Canonne et al. 2020, proposition 12.
    """
    figures = (law.renyi(one, a, orders) + math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in orders)
    return max(0.0, min(figures))


def least_delta(one: Curve, epsilon: float, orders: Sequence[float] = ORDERS) -> float:
    """Return the least delta at which the curve proves `epsilon`.

    Reference: Canonne et al. 2020, proposition 12; Bretagnolle, Huber 1979, for the delta of epsilon zero.
    """
    logs = ((a - 1) * (one(a) - epsilon + math.log1p(-1 / a)) - math.log(a) for a in orders)
    return min(math.exp(min(0.0, min(logs))), math.sqrt(-math.expm1(-min(one(a) for a in orders))))


def _ratio(shape: float, log: float) -> float:
    """Return shape / (e^(shape log) - 1), continued to shape 0."""
    return 1 / log if abs(shape * log) < 1e-12 else shape / math.expm1(shape * log)


def _shape(name: str) -> float | None:
    try:
        shape = LAWS.get(name)
        shape = float(name) if shape is None else shape
    except ValueError:
        return None
    return shape if -1 < shape < math.inf else None


def _gamma(shape: float, mean: float) -> float:
    """Return the gamma with which that shape has the mean."""

    low, high = math.log(LEAST_GAMMA), -LEAST_GAMMA
    if NegativeBinomial(shape, math.exp(low)).mean < mean:
        raise PlanError(
            f"the law of shape {shape:g} has no {mean:g} expected tries", "give a smaller number or a larger shape"
        )
    for _ in range(100):
        middle = (low + high) / 2
        few = NegativeBinomial(shape, math.exp(middle)).mean < mean
        low, high = (low, middle) if few else (middle, high)
    return math.exp(low)
