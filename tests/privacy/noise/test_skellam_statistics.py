"""Samples beside the exact law, by statistics; that they are right bit by bit is tested in test_skellam.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2, norm
from scipy.stats import skellam as exact

from bract.privacy import Keystream
from bract.privacy.noise.skellam import CHUNK, skellam

KEYS = [bytes([i]) * 32 for i in range(3)]
ALARM = 1e-6
"""False-alarm rate of each statistical check under the keys fixed here, had they been drawn at random."""
Z = float(norm.isf(ALARM / 2))
COUNT = 1 << 21
SHARES = 20


def chi_square(samples: np.ndarray, variance: float, width: int = 1) -> tuple[float, int]:
    """Return the statistic and its degrees of freedom, over cells of `width` numbers; those under 20 are pooled."""
    end = math.ceil(12 * math.sqrt(variance) + 20) // width * width
    cuts = np.arange(-end, end + 1, width)
    below = exact.cdf(cuts - 1, variance / 2, variance / 2)
    expected = len(samples) * np.diff(np.concatenate([[0.0], below, [1.0]]))
    counts = np.bincount(np.searchsorted(cuts, samples, side="right"), minlength=len(expected)).astype(float)
    usual = expected >= 20
    expected = np.append(expected[usual], expected[~usual].sum())
    counts = np.append(counts[usual], counts[~usual].sum())
    if expected[-1] < 20:  # too few even together: they go to the last one
        expected = np.append(expected[:-2], expected[-2:].sum())
        counts = np.append(counts[:-2], counts[-2:].sum())
    return float(((counts - expected) ** 2 / expected).sum()), len(expected) - 1


def check_moments(samples: np.ndarray, variance: float) -> None:
    """Hold the first four moments to those of the law, whose even cumulants all are the variance."""
    v, x, root = variance, samples.astype(float), math.sqrt(len(samples))
    fourth, sixth = v + 3 * v**2, v + 15 * v**2 + 15 * v**3
    eighth = v + 63 * v**2 + 210 * v**3 + 105 * v**4
    assert abs(x.mean()) < Z * math.sqrt(v) / root
    assert abs((x**2).mean() - v) < Z * math.sqrt(fourth - v**2) / root
    assert abs((x**3).mean()) < Z * math.sqrt(sixth) / root
    assert abs((x**4).mean() - fourth) < Z * math.sqrt(eighth - fourth**2) / root


def sums(variance: float, count: int, key: bytes) -> np.ndarray:
    """Return sums of shares, as a round opens them: each device's share from a keystream of its own."""
    streams = [Keystream(bytes([device, *key[1:]])) for device in range(SHARES)]
    return sum(skellam(variance / SHARES, count, stream) for stream in streams)  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 25.0, 50.0**2, 150.0**2, 350.0**2])
def test_every_whole_number_has_its_probability(variance: float, key: bytes) -> None:
    statistic, freedom = chi_square(skellam(variance, COUNT, Keystream(key)), variance)
    assert statistic < chi2.isf(ALARM, freedom)


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize(("variance", "width"), [(1e6, 16), (2.0**28, 300)])
def test_ranges_of_wide_laws_have_their_probability(variance: float, width: int, key: bytes) -> None:
    statistic, freedom = chi_square(skellam(variance, COUNT, Keystream(key)), variance, width)
    assert statistic < chi2.isf(ALARM, freedom)


def test_the_chi_square_sees_a_variance_that_is_two_percent_off() -> None:
    statistic, freedom = chi_square(skellam(2500.0 * 1.02, COUNT, Keystream(KEYS[0])), 2500.0)
    assert statistic > chi2.isf(ALARM, freedom)


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("variance", [0.01, 1.0, 25.0, 350.0**2, 2.0**28])
def test_the_first_four_moments_are_those_of_the_law(variance: float, key: bytes) -> None:
    """They are mean, variance, skewness and kurtosis."""
    check_moments(skellam(variance, COUNT, Keystream(key)), variance)


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("variance", [0.5, 4.0, 50.0**2])
def test_a_sum_of_shares_is_skellam_of_the_whole_variance(variance: float, key: bytes) -> None:
    total = sums(variance, 1 << 18, key)
    check_moments(total, variance)
    statistic, freedom = chi_square(total, variance)
    assert statistic < chi2.isf(ALARM, freedom)


def test_the_kurtosis_of_a_sum_is_one_over_its_variance() -> None:
    """The estimate's deviation is near sqrt(24 / count) for a Gaussian and below four times that for variance 0.5."""
    for variance in (0.5, 1.0, 4.0):
        x = sums(variance, 1 << 20, KEYS[0]).astype(float)
        excess = (x**4).mean() / (x**2).mean() ** 2 - 3
        assert abs(excess - 1 / variance) < Z * 4 * math.sqrt(24 / len(x)) < 1 / variance


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("look", [lambda x: x, np.square, np.sign], ids=["x", "x2", "sign"])
def test_a_sample_is_independent_of_the_next(key: bytes, look) -> None:
    """And of its place in the next chunk."""
    x = look(skellam(350.0**2, COUNT, Keystream(key)).astype(float))
    for lag in (1, 2, CHUNK // 2, CHUNK - 1, CHUNK):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < Z / math.sqrt(COUNT - lag)


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_shares_of_two_devices_are_independent(key: bytes) -> None:
    one, other = (skellam(25.0, COUNT, Keystream(bytes([device, *key[1:]]))) for device in (10, 11))
    for x, y in ((one, other), (one**2, other**2)):
        assert abs(np.corrcoef(x, y)[0, 1]) < Z / math.sqrt(COUNT)
