"""The Renyi bound of Skellam noise against exact laws: of the noise, of rounding before it, of sampling before both.

No law here is approximated: probabilities come from ratios of Bessel functions, mixtures and sums over all outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.special import logsumexp

from bract.privacy import PoissonSampled, Skellam
from bract.privacy.accounting.accountant import renyi

ROOM = 1e-9
"""The relative error that float64 is allowed here."""

FRACTIONS = st.integers(0, 999_999).map(lambda number: number / 1e6)

ORDERS = [2, 3, 4, 5, 8, 13, 32, 64, 256]


def moves_up_to(most: int) -> st.SearchStrategy[float]:
    """Moves of either sign in millionths of a step: next to whole steps, but not so near that float64 sees none."""
    return st.integers(-most * 10**6, most * 10**6).map(lambda number: number / 1e6)


@lru_cache(maxsize=64)
def log_noise(variance: float, most: int) -> np.ndarray:
    """Return log P[k], k = -most..most, of Skellam noise: the ratios I_k / I_(k-1) from the far end, multiplied."""
    ratio, logs = 0.0, []
    for k in range(most + 200 + int(10 * math.sqrt(variance)), 0, -1):
        ratio = 1 / (2 * k / variance + ratio)
        logs.append(math.log(ratio))
    half = np.concatenate([[0.0], np.cumsum(logs[::-1])])[: most + 1]
    whole = np.concatenate([half[:0:-1], half])
    return whole - logsumexp(whole)


def log_law(variance: float, number: float, reach: int) -> np.ndarray:
    """Return log P[k], k = -reach..reach, of floor(number + u) plus Skellam noise, u uniform on [0, 1)."""
    whole = math.floor(number)
    noise = log_noise(variance, _rounded(2 * reach))
    middle = len(noise) // 2

    def moved(by: int) -> np.ndarray:
        return noise[middle - reach - by : middle + reach + 1 - by]

    up = number - whole
    return np.logaddexp(math.log1p(-up) + moved(whole), math.log(up) + moved(whole + 1)) if up else moved(whole)


def _rounded(most: int) -> int:
    """Return one of few larger sizes, so that tables serve again."""
    return 1 << most.bit_length()


def divergence(one: np.ndarray, other: np.ndarray, order: int) -> float:
    """Return the Renyi divergence of the first law from the second; both are logarithms."""
    return float(logsumexp(order * one + (1 - order) * other)) / (order - 1)


def reach(variance: float, order: int, move: float) -> int:
    """Return how far out a law must be summed: all the mass of the order's tilted law lies inside."""
    return int(order * (abs(move) + 1) + 14 * math.sqrt(variance) + 30)


def charged(variance: float, moves: Sequence[float]) -> Skellam:
    """Return the event that such a move of a real vector is charged as."""
    square = sum(move**2 for move in moves) + len(moves) / 4
    return Skellam(math.sqrt(variance / square), variance)


# One coordinate, moved by whole steps


@pytest.mark.parametrize("variance", [0.3, 7.0, 2500.0])
def test_the_exact_law_is_that_of_bessel_functions(variance: float) -> None:
    found = log_noise(variance, 1024)
    for k in (0, 1, 5, 17, 64):
        with mp.workdps(40):
            exact = mp.log(mp.exp(-variance) * mp.besseli(k, variance))
        assert found[1024 + k] == found[1024 - k] == pytest.approx(float(exact), rel=1e-12, abs=1e-11)


def exact(variance: float, steps: int, order: int) -> float:
    size = reach(variance, order, steps)
    return divergence(log_law(variance, steps, size), log_law(variance, 0, size), order)


def rate(variance: float, order: int) -> float:
    """The bound r for a move by one step without rounding, got back from the r (1 + (a - 1) r) of `renyi`."""
    found = renyi(Skellam(math.sqrt(variance), variance), order)
    return (math.sqrt(1 + 4 * (order - 1) * found) - 1) / (2 * (order - 1))


@pytest.mark.parametrize("variance", [0.05, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0, 1e4])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_no_move_by_whole_steps_costs_more_than_the_bound_for_it(variance: float, steps: int) -> None:
    for order in ORDERS:
        found = exact(variance, steps, order)
        assert 0 < found <= steps**2 * rate(variance, order) * (1 + ROOM)
        assert found <= renyi(Skellam(math.sqrt(variance) / steps, variance), order) * (1 + ROOM)


@given(st.floats(0.05, 1e4), st.integers(1, 30), st.integers(2, 256))
@settings(max_examples=40)
def test_no_whole_move_costs_more_than_the_bound(variance: float, steps: int, order: int) -> None:
    """The vector moves by whole steps, at any variance."""
    assert exact(variance, steps, order) <= steps**2 * rate(variance, order) * (1 + ROOM)


@pytest.mark.parametrize("variance", [2500.0, 1e4, 9e4])
def test_the_bound_is_hardly_above_the_exact_divergence(variance: float) -> None:
    """The variance is large here."""
    for order in (2, 3, 8, 32, 64):
        assert exact(variance, 1, order) == pytest.approx(rate(variance, order), rel=1e-3)
        assert exact(variance, 1, order) == pytest.approx(order / (2 * variance), rel=1e-3)


# Coordinates rounded at random: floor(x + u) before the noise


def both_ways(variance: float, number: float, move: float, order: int) -> float:
    """Return the larger of the two divergences between a rounded number, noised, and it moved; exact."""
    size = reach(variance, order, move)
    here, there = log_law(variance, number, size), log_law(variance, number + move, size)
    return max(divergence(here, there, order), divergence(there, here, order))


@pytest.mark.parametrize("variance", [0.5, 1.0, 2.0, 5.0, 12.0, 50.0])
@pytest.mark.parametrize("move", [0.001, 0.25, 0.5, 0.75, 1.0, 1.5, 2.25, 5.5, 20.5])
def test_no_move_of_a_rounded_number_costs_more_than_the_bound(variance: float, move: float) -> None:
    """Rounded coordinates are independent, and bound and divergence are sums over them: one stands for many."""
    for order, number in product((2, 3, 5, 8, 16, 64), (0.0, 0.3, 0.5, 0.9)):
        found = both_ways(variance, number, move, order)
        assert found <= renyi(charged(variance, [move]), order) * (1 + ROOM)


@given(st.floats(0.05, 200.0), FRACTIONS, moves_up_to(12), st.integers(2, 64))
@settings(max_examples=150)
def test_no_rounded_move_costs_more_than_the_bound(variance: float, number: float, move: float, order: int) -> None:
    """A rounded number moves, at any variance."""
    assert both_ways(variance, number, move, order) <= renyi(charged(variance, [move]), order) * (1 + ROOM) + 1e-13


@pytest.mark.parametrize(("variance", "move", "least"), [(12.0, 2.5, 0.7), (50.0, 5.5, 0.9), (400.0, 20.5, 0.985)])
def test_half_a_step_more_nearly_uses_the_bound(variance: float, move: float, least: float) -> None:
    """Moves by half a step more than a whole number."""
    found = max(both_ways(variance, number, move, 2) for number in (0.0, 0.25, 0.5))
    assert least < found / renyi(charged(variance, [move]), 2) <= 1


def test_a_number_next_to_a_rounding_edge_is_no_worse() -> None:
    for number in (1e-9, 1 - 1e-9, 0.5 - 1e-9, 0.5 + 1e-9):
        assert both_ways(2.0, number, 0.5, 4) <= renyi(charged(2.0, [0.5]), 4)
        assert both_ways(2.0, number, 1e-9, 4) <= 1e-9 * renyi(charged(2.0, [1e-9]), 4) + 1e-13


# Vectors, and Poisson sampling of what moves them


def joint(laws: Sequence[np.ndarray]) -> np.ndarray:
    """Return the logarithm of the joint law of independent coordinates."""
    return reduce(np.add.outer, laws).ravel()


def sampled(
    rate: float, variance: float, numbers: Sequence[float], moves: Sequence[float], order: int
) -> tuple[float, float]:
    """Return the divergences of (1 - q) P + q Q from P and of P from it, exact; Q is the law of the moved vector."""
    size = reach(variance, order, max(abs(move) for move in moves))
    here = joint([log_law(variance, number, size) for number in numbers])
    there = joint([log_law(variance, n + move, size) for n, move in zip(numbers, moves, strict=True)])
    mixed = np.logaddexp(math.log1p(-rate) + here, math.log(rate) + there)
    return divergence(mixed, here, order), divergence(here, mixed, order)


def assert_covered(
    rate: float, variance: float, numbers: Sequence[float], moves: Sequence[float], order: int
) -> None:
    """Both exact divergences are at most the bound. Mixtures that hardly differ leave float64 an error of 1e-13."""
    bound = renyi(PoissonSampled(rate, charged(variance, moves)), order)
    assert max(sampled(rate, variance, numbers, moves, order)) <= bound * (1 + ROOM) + 1e-13


RATES = [1e-4, 0.01, 0.1, 0.5, 0.9, 0.9999]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("variance", [0.3, 1.0, 2.0, 6.0, 20.0, 50.0])
def test_no_sampled_rounded_move_costs_more_than_the_bound(rate: float, variance: float) -> None:
    """A rounded number moves if it is sampled."""
    for order, move, number in product((2, 3, 5, 9, 33, 64), (0.4, 0.5, 1.0, 2.5, 7.5), (0.0, 0.5)):
        assert_covered(rate, variance, [number], [move], order)


@given(
    st.floats(1e-3, 1, exclude_max=True),
    st.floats(0.1, 60),
    FRACTIONS,
    moves_up_to(8),
    st.integers(2, 64),
)
@settings(max_examples=150)
def test_no_rounded_move_at_any_rate_costs_more(
    rate: float, variance: float, number: float, move: float, order: int
) -> None:
    """A rounded number moves if it is sampled, at any rate."""
    assert_covered(rate, variance, [number], [move], order)


@given(
    st.floats(1e-3, 1, exclude_max=True),
    st.floats(0.2, 8),
    st.lists(st.tuples(st.sampled_from([0.0, 0.25, 0.5, 0.8]), moves_up_to(2)), min_size=2, max_size=2),
    st.integers(2, 7),
)
@settings(max_examples=25)
def test_no_sampled_move_of_a_pair_costs_more_than_the_bound(
    rate: float, variance: float, pairs: list[tuple[float, float]], order: int
) -> None:
    """Joint laws: under sampling the coordinates of a vector are no longer independent."""
    numbers, moves = zip(*pairs, strict=True)
    assume(reach(variance, order, 2) < 100)
    assert_covered(rate, variance, numbers, moves, order)


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("moves", [(0.5, 0.5, 0.5), (1.0, -0.5, 0.25), (1.5, 0.0, -1.5)])
def test_no_sampled_move_of_three_coordinates_costs_more(rate: float, moves: tuple[float, ...]) -> None:
    """The bound holds beyond one coordinate."""
    for variance, order in ((1.0, 2), (2.0, 4), (3.0, 3)):
        assert_covered(rate, variance, (0.0, 0.25, 0.5), moves, order)


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.99])
def test_the_sampled_bound_is_hardly_above_the_exact_one(rate: float) -> None:
    """So that a test that cannot fail would be seen: with four fifths of the noise the bound would be passed."""
    variance, move = 50.0, [5.5]
    found = max(sampled(rate, variance, [0.0], move, 2))
    bound = renyi(PoissonSampled(rate, charged(variance, move)), 2)
    assert 0.9 < found / bound <= 1


@pytest.mark.parametrize("order", [2, 7, 64])
def test_with_all_sampled_nothing_is_amplified(order: int) -> None:
    event = charged(9.0, [1.5, 0.5])
    assert renyi(PoissonSampled(1.0, event), order) == renyi(event, order)
    assert renyi(PoissonSampled(1 - 1e-12, event), order) == pytest.approx(renyi(event, order), rel=1e-9)
    assert renyi(PoissonSampled(0.3, event), order) < renyi(event, order)
