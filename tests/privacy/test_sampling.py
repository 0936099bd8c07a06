"""Poisson samples: exact words, and their law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from bract.privacy import Keystream
from bract.privacy.sampling import permutation, poisson_sample

KEYS = [bytes(32), bytes(range(32)), bytes.fromhex("ff" * 32)]
ALARM = 1e-6
"""False-alarm rate of each statistical check under the keys fixed here, had they been drawn at random."""


class Fixed(Keystream):
    """A keystream whose words are given."""

    def __init__(self, words: list[int]) -> None:
        super().__init__(bytes(32))
        self.given = words

    def words(self, count: int) -> np.ndarray:
        assert count == len(self.given)
        return np.array(self.given, dtype=np.uint64)


@pytest.mark.parametrize("rate", [2.0**-64, 1e-12, 0.1, 0.25, 0.5, 0.7, float(np.nextafter(1, 0))])
def test_a_sample_holds_exactly_the_words_below_the_rate(rate: float) -> None:
    numerator, denominator = rate.as_integer_ratio()
    threshold = numerator * 2**64 // denominator
    words = [0, threshold - 1, threshold, 2**64 - 1]
    assert poisson_sample(Fixed(words), rate, 4).tolist() == [True, True, False, False]


def test_rate_one_samples_all_and_the_least_rate_nobody() -> None:
    """The least rate is below 2^-64."""
    assert poisson_sample(Keystream(KEYS[0]), 1.0, 1000).all()
    assert not poisson_sample(Keystream(KEYS[0]), 2.0**-65, 1000).any()


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.25, 0.5, 0.99])
def test_the_size_of_a_sample_is_binomial(key: bytes, rate: float) -> None:
    count = 1_000_000
    low, high = binom.ppf(ALARM / 2, count, rate), binom.isf(ALARM / 2, count, rate)
    assert low <= poisson_sample(Keystream(key), rate, count).sum() <= high


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_members_of_a_sample_are_independent(key: bytes) -> None:
    """Of their neighbours and of the next sample."""
    stream, count = Keystream(key), 1_000_000
    first, second = poisson_sample(stream, 0.25, count), poisson_sample(stream, 0.25, count)
    low, high = binom.ppf(ALARM / 2, count - 1, 1 / 16), binom.isf(ALARM / 2, count - 1, 1 / 16)
    assert low <= (first[1:] & first[:-1]).sum() <= high
    assert low <= (first & second)[1:].sum() <= high


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_sizes_of_small_samples_follow_the_binomial_law(key: bytes) -> None:
    """The whole of it."""
    trials, count, rate = 50_000, 10, 0.3
    sizes = poisson_sample(Keystream(key), rate, trials * count).reshape(trials, count).sum(axis=1)
    cells = np.minimum(sizes, 8)
    expected = trials * np.append(binom.pmf(range(8), count, rate), binom.sf(7, count, rate))
    assert ((np.bincount(cells, minlength=9) - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 8)


@given(st.integers(0, 300), st.binary(min_size=32, max_size=32))
def test_a_permutation_holds_every_number_once(count: int, key: bytes) -> None:
    assert sorted(permutation(Keystream(key), count).tolist()) == list(range(count))


def test_the_six_orders_of_three_are_equally_frequent() -> None:
    stream, trials = Keystream(KEYS[1]), 12_000
    counts = np.zeros(27)
    for _ in range(trials):
        first, second, third = permutation(stream, 3).tolist()
        counts[9 * first + 3 * second + third] += 1
    seen = counts[counts > 0]
    assert len(seen) == 6
    assert ((seen - trials / 6) ** 2 / (trials / 6)).sum() < chi2.isf(ALARM, 5)
