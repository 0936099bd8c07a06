"""The law of Gaussian noise: in exact arithmetic, and by statistics."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy.stats import binom, chi2, kstwobign, norm

from bract.privacy import Keystream, tables
from bract.privacy.noise import BITS, CELL_BITS, LEAST_STD, MOST_STD, gaussian, levels, tabulate, thresholds
from bract.privacy.tables import CHUNK

KEYS = [bytes([i]) * 32 for i in range(3)]
ALARM = 1e-6
"""False-alarm rate of each statistical check under the keys fixed here, had they been drawn at random."""
Z = float(norm.isf(ALARM / 2))

COUNT = 1 << 20
STD = 2.0**30
DISCRETE = [Fraction(1), Fraction(25, 2), Fraction(252), Fraction(262140), Fraction(2**20 - 4)]
ROUNDED = [Fraction(1), Fraction(5, 2), Fraction(1000), Fraction(512**2), Fraction(2**20)]
keys = pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
mp.dps = 60


def draw(key: bytes, std: float = STD, count: int = COUNT) -> np.ndarray:
    return gaussian(std, count, Keystream(key)) / std


def number(variance: Fraction) -> mpf:
    return mpf(variance.numerator) / variance.denominator


@lru_cache
def weights(variance: Fraction) -> list[mpf]:
    """P[j] of the discrete Gaussian law for j = 0, 1 ... on, to 50 digits."""
    bells = [mp.exp(-mpf(j * j) / (2 * number(variance))) for j in range(16 * math.isqrt(math.ceil(variance)) + 20)]
    total = 2 * mp.fsum(bells) - bells[0]
    return [bell / total for bell in bells]


@lru_cache
def below(variance: Fraction, k: int) -> mpf:
    """P[X <= k] of the rounded Gaussian law, to 50 digits."""
    return mp.erfc(-(k + mpf(1) / 2) / mp.sqrt(2 * number(variance))) / 2


def rounded(variance: Fraction, k: int) -> mpf:
    """P[X = k] of that law; taken on the side where nothing cancels."""
    return below(variance, -abs(k)) - below(variance, -abs(k) - 1)


@pytest.mark.parametrize("variance", ROUNDED)
def test_thresholds_of_a_rounded_gaussian_are_its_distribution_function(variance: Fraction) -> None:
    limits = thresholds(variance, rounded=True)
    n = len(limits) // 2
    for i in {*range(0, len(limits), max(1, n // 50)), *range(3), n - 1, n, len(limits) - 1}:
        assert abs(limits[i] - below(variance, i - n) * 2**BITS) < 0.5 + 2.0**-10, i
    assert below(variance, -n - 1) * 2**BITS < 0.5 + 2.0**-10


@pytest.mark.parametrize("variance", DISCRETE)
def test_thresholds_of_a_discrete_gaussian_are_its_distribution_function(variance: Fraction) -> None:
    limits, law, sums = thresholds(variance, rounded=False), weights(variance), mpf(0)
    n = len(limits) // 2
    for k in range(1 - len(law), n):
        sums += law[abs(k)]
        limit = limits[k + n] if k >= -n else 0
        assert abs(limit - sums * 2**BITS) < 0.5 + 2.0**-10, k
    assert n < 12.7 * max(8, math.sqrt(variance))
    assert (12.7 * 1024 + 1) * (1 + 5 / 2) * (2.0**-BITS + 2.0**-119) < 2.0**-98


@given(st.floats(LEAST_STD, MOST_STD) | st.integers(0, 45).map(lambda bits: 2.0**bits))
def test_variances_of_the_levels_add_up_to_the_whole_exactly(std: float) -> None:
    found = levels(std)
    assert sum(variance * 256 ** (2 * place) for place, variance in enumerate(found)) == Fraction(std) ** 2
    assert (12 if len(found) > 1 else 1) <= found[-1] <= 2**20
    assert found[:-1] == (512**2, 512**2 - 4, 512**2 - 4, 512**2 - 4, 512**2 - 4)[: len(found) - 1]


def deviation(coarse: Fraction, smooth: int, u: mpf) -> mpf:
    """How far the density of a discrete Gaussian number and a real one is from a Gaussian's at u, relatively."""
    law, whole = weights(coarse), number(coarse) + smooth**2
    near = range(math.floor(u) - 40 * smooth, math.ceil(u) + 40 * smooth)
    density = mp.fsum(law[abs(j)] * mp.npdf(u, j, smooth) for j in near if abs(j) < len(law))
    return abs(density / mp.npdf(u, 0, mp.sqrt(whole)) - 1)


@pytest.mark.parametrize("coarse", [Fraction(12), *DISCRETE[1:]])
def test_a_level_and_the_gaussian_below_it_are_a_gaussian(coarse: Fraction) -> None:
    t = number(coarse) * 4 / (number(coarse) + 4)
    stated = 4 * mp.exp(-2 * mp.pi**2 * t) * (1 + mp.exp(-6 * mp.pi**2 * t))
    assert stated < mpf(2) ** -83
    for u in (mpf(0), mpf("0.25"), mpf("0.5"), mpf("3.7"), mpf("11.1")):
        assert deviation(coarse, 2, u) < stated
    assert deviation(Fraction(12), 2, mpf(0)) > mpf(2) ** -90  # and to so many digits it is seen


def relative_error(variances: list[Fraction], k: int) -> mpf:
    """How far two levels' law is from the rounded Gaussian's at k, in exact arithmetic."""
    fine, coarse = variances
    law, edge = weights(coarse), math.isqrt(math.ceil(fine)) * 14
    places = range(-(-(k - edge) // 256), (k + edge) // 256 + 1)
    total = mp.fsum(law[abs(j)] * rounded(fine, k - 256 * j) for j in places if abs(j) < len(law))
    return abs(total / rounded(fine + 256**2 * coarse, k) - 1)


NUMBERS = (0, 1, 64, 128, 255, 256, 1000, 3000, 5000)


@pytest.mark.parametrize("std", [1024.001, 1100.0, 4096.0])
def test_the_sum_of_the_levels_is_a_rounded_gaussian_number(std: float) -> None:
    """By convolution; below 2^-83 of each probability, as the module proves, and so in total variation too."""
    assert max(relative_error(list(levels(std)), k) for k in NUMBERS) < mpf(2) ** -83


def test_the_convolution_would_tell_a_real_gaussian_that_is_half_as_wide() -> None:
    fine, whole = Fraction(256**2), Fraction(1100**2)
    assert max(relative_error([fine, (whole - fine) / 256**2], k) for k in NUMBERS) > mpf(2) ** -30


def slow(std: float, count: int, stream: Keystream) -> list[int]:
    """The noise in plain whole numbers: coarsest level first; cells of all, then the low bits that are needed."""
    noise = [0] * count
    for place, variance in reversed(list(enumerate(levels(std)))):
        limits = thresholds(variance, rounded=place == 0)
        cut = {limit >> 96 for limit in limits}
        cells = [int.from_bytes(stream.bytes(4), "little") >> (32 - CELL_BITS) for _ in range(count)]
        low = [int.from_bytes(stream.bytes(8), "little") << 32 if cell in cut else 0 for cell in cells]
        low = [
            x | int.from_bytes(stream.bytes(4), "little") if c in cut else 0 for c, x in zip(cells, low, strict=True)
        ]
        found = [bisect_right(limits, (c << 96) | x) - len(limits) // 2 for c, x in zip(cells, low, strict=True)]
        noise = [256 * x + sample for x, sample in zip(noise, found, strict=True)]
    return noise


@pytest.mark.parametrize("std", [1.0, 1000.0, 1024.5, 2.0**18, 1e6, STD, MOST_STD])
def test_noise_is_that_of_whole_number_arithmetic(std: float) -> None:
    stream, other = Keystream(KEYS[0]), Keystream(KEYS[0])
    assert gaussian(std, 5000, stream).tolist() == slow(std, 5000, other)
    assert stream.bytes(16) == other.bytes(16)


@given(st.floats(LEAST_STD, MOST_STD), st.integers(0, 300), st.sampled_from([1, 7, 100, 4096]))
@settings(max_examples=15, deadline=None)
def test_noise_is_the_same_whatever_is_made_at_once(std: float, count: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CHUNK", chunk)
        found = gaussian(std, count, Keystream(KEYS[1]))
    assert found.tolist() == gaussian(std, count, Keystream(KEYS[1])).tolist()


@keys
def test_mean_variance_skewness_and_kurtosis_are_those_of_the_gaussian(key: bytes) -> None:
    x = draw(key)
    assert abs(x.mean()) < Z / math.sqrt(COUNT)
    assert abs((x**2).mean() - 1) < Z * math.sqrt(2 / COUNT)
    assert abs((x**3).mean()) < Z * math.sqrt(15 / COUNT)
    assert abs((x**4).mean() - 3) < Z * math.sqrt(96 / COUNT)


@keys
@pytest.mark.parametrize("std", [2.0**10, 1e6, STD, MOST_STD])
def test_the_distribution_function_is_the_gaussian_one(key: bytes, std: float) -> None:
    """Kolmogorov and Smirnov; rounding shifts the function by at most 0.4 / std, which is allowed for."""
    x = np.sort(draw(key, std))
    expected, ranks = norm.cdf(x), np.arange(COUNT + 1) / COUNT
    distance = max(np.abs(expected - ranks[1:]).max(), np.abs(expected - ranks[:-1]).max())
    assert distance < kstwobign.isf(ALARM) / math.sqrt(COUNT) + 0.4 / std


@keys
@pytest.mark.parametrize("std", [LEAST_STD, 5.5, 1024.0, 1030.0])
def test_every_whole_number_has_the_probability_of_the_rounded_gaussian(key: bytes, std: float) -> None:
    """Chi-square on single whole numbers, the ends pooled; on both sides of where levels become two."""
    edge = math.ceil(2.5 * std)
    numbers = np.clip(gaussian(std, 2 * COUNT, Keystream(key)), -edge, edge)
    cuts = norm.cdf((np.arange(-edge, edge) + 0.5) / std)
    expected = 2 * COUNT * np.diff(np.concatenate([[0.0], cuts, [1.0]]))
    counts = np.bincount(numbers + edge, minlength=2 * edge + 1)
    assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 2 * edge)


def test_tails_beyond_4_and_5_standard_deviations_have_their_frequency() -> None:
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
def test_a_number_is_independent_of_the_next_and_of_its_place_in_the_next_chunk(key: bytes, look) -> None:
    x = look(draw(key))
    for lag in (1, 2, CHUNK // 2, CHUNK):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < Z / math.sqrt(COUNT - lag)


@keys
def test_a_numbers_remainder_is_independent_of_the_rest_of_it(key: bytes) -> None:
    """Of a wide Gaussian number the last byte is uniform, whatever is above; chi-square on it and 16 ranges."""
    noise = gaussian(STD, COUNT, Keystream(key))
    ranges = np.digitize(noise / STD, norm.ppf(np.arange(1, 16) / 16))
    counts = np.bincount(ranges * 256 + noise % 256, minlength=4096)
    expected = COUNT / 4096
    assert ((counts - expected) ** 2 / expected).sum() < chi2.isf(ALARM, 4095)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 101, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_gives_as_many_whole_numbers_as_asked_for(count: int) -> None:
    noise = gaussian(STD, count, Keystream(KEYS[0]))
    assert noise.shape == (count,)
    assert noise.dtype == np.int64
    assert (noise != 0).all()  # a zero has probability 4e-10: a place that was left out would show


def test_no_number_repeats_across_chunks_and_draws() -> None:
    stream = Keystream(KEYS[0])
    noise = np.concatenate([gaussian(MOST_STD, 2 * CHUNK, stream), gaussian(MOST_STD, 2 * CHUNK, stream)])
    assert len(np.unique(np.abs(noise))) == len(noise)


@pytest.mark.parametrize("std", [LEAST_STD, 1024.5, STD, MOST_STD])
def test_the_least_uniform_numbers_give_what_all_levels_reach_to(std: float) -> None:
    class Smallest(Keystream):
        def bytes(self, count: int) -> bytes:
            return bytes(count)

    last = len(levels(std)) - 1
    ends = [tabulate(variance, rounded=place == 0).least for place, variance in enumerate(levels(std))]
    least = sum(end * 256**place for place, end in enumerate(ends))
    assert gaussian(std, 2, Smallest(bytes(32))).tolist() == [least, least]
    assert 11 * std < -least < (19 if last else 14) * std


@pytest.mark.parametrize("std", [0.0, -1e6, 0.999, MOST_STD * 1.001, 1e300, math.inf, -math.inf, math.nan])
def test_a_standard_deviation_outside_the_range_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="std"):
        gaussian(std, 10, Keystream(bytes(32)))


@pytest.mark.parametrize("std", [LEAST_STD, MOST_STD])
def test_the_ends_of_the_range_are_accepted(std: float) -> None:
    assert gaussian(std, 1000, Keystream(KEYS[0])).std() == pytest.approx(std, rel=0.2)
