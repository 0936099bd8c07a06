"""Private selection: the bounds hold for outcomes computed exactly, and agree with a second implementation."""

from __future__ import annotations

import math
from collections import Counter
from itertools import takewhile

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, norm

from bract.privacy import Keystream, PlanError
from bract.privacy.accounting.accountant import ORDERS
from bract.simulations.sweep.private_selection import (
    NegativeBinomial,
    Poisson,
    Repetitions,
    draw,
    least_delta,
    make_repetitions,
    selection_epsilon,
)

NAMES = ("logarithmic", "geometric", "poisson", "0.5", "-0.5", "3")
WHOLE = tuple(range(2, 65))


def gaussian(noise_multiplier: float):
    return lambda order: order / (2 * noise_multiplier**2)


def likely(law: Repetitions) -> list[tuple[int, float]]:
    """All numbers of tries that are not absurdly unlikely."""
    return list(takewhile(lambda pair: pair[0] < law.mean or pair[1] > 1e-18, law.probabilities()))


def divergence(p: np.ndarray, q: np.ndarray, order: float) -> float:
    """The Renyi divergence, in the direction in which it is larger."""
    one, other = (np.sum(a**order * b ** (1 - order)) for a, b in ((p, q), (q, p)))
    return max(0.0, math.log(max(one, other)) / (order - 1))


def best_of(law: Repetitions, chances: np.ndarray) -> np.ndarray:
    """The chances of no outcome, and of each outcome to be the best of the tries; later outcomes are better."""
    below = np.concatenate([[0.0], np.cumsum(chances)])
    below[-1] = 1.0
    generating = sum(probability * below**number for number, probability in likely(law))
    nothing = next(law.probabilities())[1] if isinstance(law, Poisson) else 0.0
    return np.concatenate([[nothing] if nothing else [], np.diff(generating)])


@pytest.mark.parametrize("mean", [1.5, 4.0, 40.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_law_has_the_mean_that_was_asked_for(name: str, mean: float) -> None:
    law = make_repetitions(name, mean)
    pairs = likely(law)
    assert sum(probability for _, probability in pairs) == pytest.approx(1, abs=1e-9)
    assert sum(number * probability for number, probability in pairs) == pytest.approx(mean, rel=1e-6)
    assert law.mean == pytest.approx(mean, rel=1e-9)


def test_the_geometric_law_is_that_of_liu_and_talwar() -> None:
    law = make_repetitions("geometric", 5)
    assert isinstance(law, NegativeBinomial)
    assert law.gamma == pytest.approx(0.2)
    assert [p for _, p in likely(law)[:4]] == pytest.approx([0.2, 0.16, 0.128, 0.1024])


def test_the_logarithmic_law_is_the_limit_of_its_neighbours() -> None:
    law, near = make_repetitions("logarithmic", 6), make_repetitions("1e-9", 6)
    for (_, one), (_, other) in zip(likely(law)[:50], likely(near)[:50], strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    assert law.renyi(gaussian(3), 8) == pytest.approx(near.renyi(gaussian(3), 8), rel=1e-6)


outcomes = st.lists(st.floats(0.02, 1), min_size=3, max_size=3).map(lambda w: np.array(w) / sum(w))


@settings(max_examples=150)
@given(
    p=outcomes,
    q=outcomes,
    name=st.sampled_from(NAMES),
    mean=st.sampled_from([1.2, 3.0, 12.0]),
    order=st.sampled_from([2, 3, 8, 30]),
)
def test_the_best_of_the_tries_costs_at_most_the_bound(
    p: np.ndarray, q: np.ndarray, name: str, mean: float, order: int
) -> None:
    """One try has three outcomes, so the chances of every outcome of the selection are known exactly."""
    law = make_repetitions(name, mean)
    exact = divergence(best_of(law, p), best_of(law, q), order)
    assert exact <= law.renyi(lambda a: divergence(p, q, a), order, WHOLE) + 1e-9


@pytest.mark.parametrize("name", ["logarithmic", "geometric", "poisson", "3"])
def test_the_best_of_the_tries_costs_more_than_one_try(name: str) -> None:
    """So a bound that forgot the selection would be seen: the rare best outcome tells neighbours apart better."""
    p, q = np.array([0.5, 0.49, 0.01]), np.array([0.5, 0.48, 0.02])
    law = make_repetitions(name, 12)
    assert divergence(best_of(law, p), best_of(law, q), 8) > 1.2 * divergence(p, q, 8)


@pytest.mark.parametrize("mean", [3.0, 12.0])
@pytest.mark.parametrize("noise_multiplier", [0.8, 4.0, 20.0])
@pytest.mark.parametrize(
    ("name", "shape"), [("logarithmic", 0.0), ("geometric", 1.0), ("2", 2.0), ("poisson", math.inf)]
)
def test_epsilon_is_that_of_dp_accounting(name: str, shape: float, noise_multiplier: float, mean: float) -> None:
    accountant = RdpAccountant(ORDERS)
    accountant.compose(RepeatAndSelectDpEvent(GaussianDpEvent(noise_multiplier), mean, shape))
    ours, theirs = (
        selection_epsilon(make_repetitions(name, mean), gaussian(noise_multiplier), 1e-5),
        accountant.get_epsilon(1e-5),
    )
    assert ours <= theirs * (1 + 1e-9)
    if noise_multiplier > 1:  # with less noise theorem 2 is best at order 1, which dp_accounting does not try
        assert ours == pytest.approx(theirs, rel=1e-6)


def test_theorem_2_by_hand() -> None:
    """Geometric, mean 4, orders 2 and 10, a curve of a / 2: each term written out."""
    law, one = NegativeBinomial(1.0, 0.25), gaussian(1)
    tail = min(math.log(4), 0.5 * 1 + math.log(4) / 2, 0.9 * 5 + math.log(4) / 10)
    assert law.renyi(one, 10, (2, 10)) == pytest.approx(5 + 2 * tail + math.log(4) / 9)


def test_theorem_6_by_hand() -> None:
    """Poisson, mean 3, at order 2 with a curve of a / 200: one try is (log 2, delta)-private."""
    delta = math.exp(9 * (0.05 - math.log(2) + math.log(0.9))) / 10
    assert Poisson(3.0).renyi(gaussian(10), 2, (10,)) == pytest.approx(0.01 + 3 * delta + math.log(3))


def test_a_curve_near_zero_proves_a_delta_near_zero() -> None:
    """Two Gaussians apart by a shift of m have total variation 2 Phi(m / 2) - 1: the bound is above it, and near."""
    exact = 2 * norm.cdf(0.01 / 2) - 1
    assert exact <= least_delta(gaussian(100), 0.0) < 4 * exact


def test_no_curve_proves_a_delta_above_one() -> None:
    assert least_delta(gaussian(0.01), 0.0) == 1.0
    assert least_delta(lambda order: math.inf, 1.0) == 1.0


def test_where_nothing_protects_a_try_nothing_protects_the_best() -> None:
    for name in NAMES:
        assert selection_epsilon(make_repetitions(name, 4), lambda order: math.inf, 1e-5) == math.inf


@pytest.mark.parametrize("name", NAMES)
def test_drawn_numbers_follow_the_law(name: str) -> None:
    """Chi-square over 4,000 draws from a fixed key; it goes off by chance once in a million keys."""
    law, keystream = make_repetitions(name, 4), Keystream(bytes(31) + b"\x05")
    drawn = Counter(min(draw(law, keystream), 12) for _ in range(4000))
    probability = {number: p for number, p in likely(law) if number < 12}
    probability[12] = 1 - sum(probability.values())
    seen = [drawn[number] for number in probability]
    assert sum(seen) == 4000
    assert chisquare(seen, [4000 * p for p in probability.values()]).pvalue > 1e-6


def test_a_draw_ends_where_chances_no_longer_add_up() -> None:
    class Highest(Keystream):
        def uniforms(self, count: int) -> np.ndarray:
            return np.ones(count)

    for name in NAMES:
        assert draw(make_repetitions(name, 4), Highest(bytes(32))) < 10_000


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("binomial", 4),
        ("-1", 4),
        ("inf", 4),
        ("nan", 4),
        ("geometric", 1),
        ("geometric", 0),
        ("poisson", 0.5),
        ("poisson", math.inf),
        ("logarithmic", math.nan),
        ("-0.9", 1e6),
    ],
)
def test_a_law_that_there_is_not_is_refused(name: str, mean: float) -> None:
    with pytest.raises(PlanError):
        make_repetitions(name, mean)
