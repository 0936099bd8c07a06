"""Whole-number arithmetic of the Gaussian function, against 60 digits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from bract.privacy.noise.gaussian_integrals import gaussian_values, integral, integrals

ONE = mpf(2) ** 192
WIDE = [Fraction(513**2), Fraction(1000.5) ** 2, Fraction(2**60), Fraction(2**45 - 0.25) ** 2]


@pytest.fixture(autouse=True, scope="module")
def sixty_digits() -> Iterator[None]:
    with mp.workdps(60):
        yield


def number(x: Fraction) -> mpf:
    return mpf(x.numerator) / x.denominator


def area(variance: Fraction, k: int) -> mpf:
    """The integral, taken on the side where nothing cancels, to 50 digits."""
    with mp.workdps(100):
        unit = mp.sqrt(2 * number(variance))
        ends = [mp.erfc((2 * abs(k) + side) / (2 * unit)) for side in (-1, 1)]
        return (ends[0] - ends[1]) * unit * mp.sqrt(mp.pi) / 2


@given(st.fractions(1, 2**18, max_denominator=2**40), st.fractions(-1, 1, max_denominator=2**40))
@settings(max_examples=20)
def test_values_are_the_gaussian_at_whole_numbers_and_an_offset(variance: Fraction, offset: Fraction) -> None:
    last = 13 * math.isqrt(math.ceil(variance)) + 2
    found = gaussian_values(variance, last, offset)
    assert len(found) == last + 1
    for k in {0, 1, 2, last, *range(0, last, 1 + last // 20)}:
        exact = mp.exp(-((k + number(offset)) ** 2) / (2 * number(variance)))
        assert abs(found[k] / ONE - exact) < mpf(2) ** -155, k


@pytest.mark.parametrize("variance", [Fraction(1), Fraction(5, 2), Fraction(1000), Fraction(2**18)])
def test_integrals_are_those_of_the_gaussian_over_intervals(variance: Fraction) -> None:
    last = math.isqrt(170 * math.ceil(variance)) + 1
    found = integrals(variance, last)
    for k in {0, 1, 2, last, *range(0, last, 1 + last // 20)}:
        assert abs(found[k] / ONE - area(variance, k)) < mpf(2) ** -145, k


@pytest.mark.parametrize("variance", WIDE)
@pytest.mark.parametrize("share", [0, 1e-9, 0.3, -1, 4, -8.5, 12.99])
def test_one_integral_is_that_of_the_gaussian(variance: Fraction, share: float) -> None:
    k = int(share * math.isqrt(math.floor(variance)))
    assert abs(integral(variance, k) / ONE - area(variance, k)) < mpf(2) ** -150
    assert integral(variance, k) == integral(variance, -k)
