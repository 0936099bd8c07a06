"""Statistics of Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, chi2, kstwobign, norm

from bract.privacy import Keystream
from bract.privacy.noise.gaussian import LEAST_STD, MOST_STD, gaussian
from bract.privacy.noise.table_sampler import CHUNK

ALARM = 1e-6
"""False-alarm rate of each check under the keys fixed here, had they been drawn at random."""
Z = float(norm.isf(ALARM / 2))

COUNT = 1 << 20
STD = 2.0**30
KEYS = [bytes([i]) * 32 for i in range(3)]
keys = pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])


def draw(key: bytes, std: float = STD, count: int = COUNT) -> np.ndarray:
    return gaussian(std, count, Keystream(key)) / std


@keys
def test_the_first_four_moments_are_those_of_the_gaussian(key: bytes) -> None:
    """They are mean, variance, skewness and kurtosis."""
    x = draw(key)
    assert abs(x.mean()) < Z / math.sqrt(COUNT)
    assert abs((x**2).mean() - 1) < Z * math.sqrt(2 / COUNT)
    assert abs((x**3).mean()) < Z * math.sqrt(15 / COUNT)
    assert abs((x**4).mean() - 3) < Z * math.sqrt(96 / COUNT)


@keys
@pytest.mark.parametrize("std", [600.0, 1e6, STD, MOST_STD])
def test_the_distribution_function_is_the_gaussian_one(key: bytes, std: float) -> None:
    """Kolmogorov and Smirnov; rounding shifts the function by at most 0.4 / std, which is allowed for."""
    x = np.sort(draw(key, std))
    expected, ranks = norm.cdf(x), np.arange(COUNT + 1) / COUNT
    distance = max(np.abs(expected - ranks[1:]).max(), np.abs(expected - ranks[:-1]).max())
    assert distance < kstwobign.isf(ALARM) / math.sqrt(COUNT) + 0.4 / std


@keys
@pytest.mark.parametrize("std", [LEAST_STD, 5.5, 512.0, 513.0])
def test_every_number_has_the_rounded_gaussians_probability(key: bytes, std: float) -> None:
    """Chi-square on single whole numbers, the ends pooled; on both sides of where numbers begin to be rejected."""
    edge = math.ceil(2.5 * std)
    numbers = np.clip(gaussian(std, 2 * COUNT, Keystream(key)), -edge, edge)
    cuts = norm.cdf((np.arange(-edge, edge) + 0.5) / std)
    expected = 2 * COUNT * np.diff(np.concatenate([[0.0], cuts, [1.0]]))
    counts = np.bincount(numbers + edge, minlength=2 * edge + 1)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 2 * edge)


def test_tails_beyond_4_and_5_deviations_have_their_frequency() -> None:
    count, beyond = 10_000_000, dict.fromkeys((4.0, 4.5, 5.0), 0)
    for i in range(10):
        x = np.abs(draw(bytes([100 + i]) * 32, count=count // 10))
        for edge in beyond:
            beyond[edge] += int((x > edge).sum())
    for edge, found in beyond.items():
        p = 2 * norm.sf(edge)
        assert binom.ppf(ALARM / 2, count, p) <= found <= binom.isf(ALARM / 2, count, p), edge
    assert beyond[5.0] > 0


@keys
@pytest.mark.parametrize("look", [lambda x: x, np.square, np.sign], ids=["x", "x2", "sign"])
def test_a_number_is_independent_of_the_next(key: bytes, look: Callable[[np.ndarray], np.ndarray]) -> None:
    """And of its place in the next chunk."""
    x = look(draw(key))
    for lag in (1, 2, CHUNK // 2, CHUNK):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < Z / math.sqrt(COUNT - lag)


@keys
def test_a_numbers_remainder_is_independent_of_the_rest_of_it(key: bytes) -> None:
    """Of a wide Gaussian number the last byte is uniform, whatever is above; chi-square on it and 16 ranges."""
    found = gaussian(STD, COUNT, Keystream(key))
    ranges = np.digitize(found / STD, norm.ppf(np.arange(1, 16) / 16))
    counts = np.bincount(ranges * 256 + found % 256, minlength=4096)
    expected = COUNT / 4096
    assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 4095)
