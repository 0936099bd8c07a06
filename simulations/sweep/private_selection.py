"""Private selection: the cost of trying a random number of candidates and releasing only the best one.

Every try draws one candidate, uniformly and with replacement, and runs it with fresh randomness. The number of tries
has a distribution that is fixed beforehand; the number, and all tries but the best, stay secret. A fixed number N of
tries has no such bound: the best of N costs as much as N releases.

Reference: Liu, Talwar 2019; Papernot, Steinke 2022, section 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from ...privacy.accounting.accountant import ORDERS
from ...privacy.errors import PlanError
from ...privacy.noise.keystream import Keystream

RenyiCurve = Callable[[float], float]
"""Maps an order above 1 to a bound on the Renyi divergence between one try's outputs on neighbouring data, for any
candidate. If candidates differ, it is the maximum of their curves, which bounds their mixture (van Erven, Harremoes
2014, theorem 13)."""

LAWS = {"logarithmic": 0.0, "geometric": 1.0}
"""Shapes of the negative binomial distribution that have a name."""

LEAST_GAMMA = 1e-9
TAIL = 2.0**-60
"""`draw` never returns a number above the mean whose probability is below this."""


@dataclass(frozen=True)
class NegativeBinomial:
    """The truncated negative binomial distribution of the number of tries, which is at least 1.

    `shape` is eta > -1: 0 gives the logarithmic distribution, 1 the geometric one of Liu and Talwar 2019. `gamma` is
    between 0 and 1; a smaller gamma means more tries.

    Reference: Papernot, Steinke 2022, definition 1.
    """

    shape: float
    gamma: float

    @property
    def mean(self) -> float:
        """The expected number of tries: eta (1 - gamma) / (gamma (1 - gamma^eta))."""
        log = math.log(self.gamma)
        return math.expm1(log) / self.gamma * _ratio(self.shape, log)

    def probabilities(self) -> Iterator[tuple[int, float]]:
        """Yield (number of tries, probability) for 1, 2, ... without end."""
        probability = (1 - self.gamma) * _ratio(self.shape, -math.log(self.gamma))
        for number in count(1):
            yield number, probability
            probability *= (1 - self.gamma) * (number + self.shape) / (number + 1)

    def renyi(self, one: RenyiCurve, order: float, orders: Sequence[float] = ORDERS) -> float:
        """Return the Renyi divergence at `order` of the best try, if `one` is the curve of a single try.

        With e = one(a): e + (1 + eta) (1 - 1/b) one(b) + (1 + eta) log(1/gamma) / b + log(mean) / (a - 1), at the
        best order b, which may be 1.

        Reference: Papernot, Steinke 2022, theorem 2.
        """
        log = math.log(1 / self.gamma)
        tail = min([log, *((1 - 1 / b) * one(b) + log / b for b in orders)])
        return one(order) + (1 + self.shape) * tail + math.log(self.mean) / (order - 1)


@dataclass(frozen=True)
class Poisson:
    """The Poisson distribution of the number of tries, with a mean of at least 1. No try means no outcome."""

    mean: float

    def probabilities(self) -> Iterator[tuple[int, float]]:
        """Yield (number of tries, probability) for 0, 1, ... without end."""
        probability = math.exp(-self.mean)
        for number in count():
            yield number, probability
            probability *= self.mean / (number + 1)

    def renyi(self, one: RenyiCurve, order: float, orders: Sequence[float] = ORDERS) -> float:
        """Return the Renyi divergence at `order` of the best try, if `one` is the curve of a single try.

        It is one(a) + mean d + log(mean) / (a - 1), where one try is (log(1 + 1 / (a - 1)), d)-DP.

        Reference: Papernot, Steinke 2022, theorem 6.
        """
        delta = least_delta(one, math.log1p(1 / (order - 1)), orders)
        return one(order) + self.mean * delta + math.log(self.mean) / (order - 1)


Repetitions = NegativeBinomial | Poisson


def make_repetitions(name: str, mean: float) -> Repetitions:
    """Return the distribution with this name or shape, and with `mean` expected tries.

    Raises:
        PlanError: no such distribution exists, or none with that mean.
    """
    if name == "poisson" and 1 <= mean < math.inf:
        return Poisson(mean)
    shape = _shape(name)
    if shape is None or not 1 < mean < math.inf:
        what = f"{mean:g} expected tries" if shape is not None or name == "poisson" else f"law {name}"
        known = "above 1, and --law logarithmic, geometric, poisson or a shape above -1"
        raise PlanError(f"private selection has no {what}", f"give --tries {known}")
    return NegativeBinomial(shape, _gamma(shape, mean))


def draw(law: Repetitions, keystream: Keystream) -> int:
    """Draw the number of tries; it is secret.

    Guarantee: each number has its probability up to 2^-50. The error costs no privacy: the law holds no secret.
    """
    left = float(keystream.uniforms(1)[0])
    number, probability = 0, 1.0
    for number, probability in law.probabilities():
        left -= probability
        if left <= 0 or (probability < TAIL and number > law.mean):
            break
    return number


def selection_epsilon(law: Repetitions, one: RenyiCurve, delta: float, orders: Sequence[float] = ORDERS) -> float:
    """Return the epsilon at `delta` of releasing only the best try; `one` is the curve of a single try.

    Guarantee: an upper bound, if the number of tries, the candidates tried and all outcomes but the best stay secret,
    and if the score depends only on the outcome and on records outside the guarantee.

    Reference: Papernot, Steinke 2022; from Renyi divergence to epsilon, Canonne et al. 2020, proposition 12.
    """
    figures = (law.renyi(one, a, orders) + math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in orders)
    return max(0.0, min(figures))


def least_delta(one: RenyiCurve, epsilon: float, orders: Sequence[float] = ORDERS) -> float:
    """Return the least delta at which the curve proves `epsilon`.

    Reference: Canonne et al. 2020, proposition 12; Bretagnolle, Huber 1979, for the delta of epsilon zero.
    """
    logs = ((a - 1) * (one(a) - epsilon + math.log1p(-1 / a)) - math.log(a) for a in orders)
    return min(math.exp(min(0.0, min(logs))), math.sqrt(-math.expm1(-min(one(a) for a in orders))))


def _ratio(shape: float, log: float) -> float:
    """Return shape / (e^(shape log) - 1), or its limit 1 / log at shape 0."""
    return 1 / log if abs(shape * log) < 1e-12 else shape / math.expm1(shape * log)


def _shape(name: str) -> float | None:
    try:
        shape = LAWS.get(name)
        shape = float(name) if shape is None else shape
    except ValueError:
        return None
    return shape if -1 < shape < math.inf else None


def _gamma(shape: float, mean: float) -> float:
    """Return the gamma for which the distribution of that shape has this mean."""

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
