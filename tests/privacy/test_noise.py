from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binom, chi2, kstwobign, norm

from bract.privacy import Keystream
from bract.privacy.noise import CHUNK, gaussian

KEYS = [bytes([i]) * 32 for i in range(3)]
ALARM = 1e-6
"""False-alarm rate of each statistical check under the keys fixed here, had they been drawn at random."""
Z = float(norm.isf(ALARM / 2))

COUNT = 1 << 20
STD = 2.0**30


def draw(key: bytes, std: float = STD, count: int = COUNT) -> np.ndarray:
    return gaussian(std, count, Keystream(key)) / std


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_mean_variance_skewness_and_kurtosis_are_those_of_the_gaussian(key: bytes) -> None:
    x = draw(key)
    assert abs(x.mean()) < Z / math.sqrt(COUNT)
    assert abs((x**2).mean() - 1) < Z * math.sqrt(2 / COUNT)
    assert abs((x**3).mean()) < Z * math.sqrt(15 / COUNT)
    assert abs((x**4).mean() - 3) < Z * math.sqrt(96 / COUNT)


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("std", [2.0**10, 1e6, STD, 2.0**45])
def test_the_distribution_function_is_the_gaussian_one(key: bytes, std: float) -> None:
    """Kolmogorov and Smirnov; rounding shifts the function by at most 0.4 / std, which is allowed for."""
    x = np.sort(draw(key, std))
    expected, ranks = norm.cdf(x), np.arange(COUNT + 1) / COUNT
    distance = max(np.abs(expected - ranks[1:]).max(), np.abs(expected - ranks[:-1]).max())
    assert distance < kstwobign.isf(ALARM) / math.sqrt(COUNT) + 0.4 / std


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_every_whole_number_has_the_probability_of_the_rounded_gaussian(key: bytes) -> None:
    """Chi-square on single whole numbers at the least standard deviation, the ends pooled."""
    std, edge = 2.0**10, 2500
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


def halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers made of cosines and those made of sines, pair by pair."""
    parts = x.reshape(-1, 2, CHUNK)
    return parts[:, 0].ravel(), parts[:, 1].ravel()


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
@pytest.mark.parametrize("look", [lambda x: x, np.square, np.abs, lambda x: x**3], ids=["x", "x2", "abs", "x3"])
def test_the_two_numbers_of_a_pair_are_independent(key: bytes, look) -> None:
    cosines, sines = halves(draw(key))
    correlation = np.corrcoef(look(cosines), look(sines))[0, 1]
    assert abs(correlation) < Z / math.sqrt(len(cosines))


@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_a_number_is_independent_of_the_next_and_of_its_place_in_the_next_chunk(key: bytes) -> None:
    x = draw(key)
    for lag in (1, 2, CHUNK // 2, 2 * CHUNK):
        assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < Z / math.sqrt(COUNT - lag)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 101, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 6 * CHUNK + 5])
def test_gives_as_many_whole_numbers_as_asked_for(count: int) -> None:
    noise = gaussian(STD, count, Keystream(KEYS[0]))
    assert noise.shape == (count,)
    assert noise.dtype == np.int64
    assert (noise != 0).all()  # a zero has probability 4e-10: a place that was left out would show


def test_no_number_repeats_across_chunks() -> None:
    noise = gaussian(2.0**45, 4 * CHUNK, Keystream(KEYS[0]))
    assert len(np.unique(noise)) == len(noise)
    assert len(np.unique(np.abs(noise))) == len(noise)


def test_the_next_draw_from_the_same_keystream_is_new() -> None:
    stream = Keystream(KEYS[1])
    first, second = gaussian(STD, 1000, stream), gaussian(STD, 1000, stream)
    assert not set(first.tolist()) & set(second.tolist())


def test_is_box_and_mullers_transform_of_the_keystream() -> None:
    """Known answers, by the math module from the keystream's own bytes: radii first, then angles."""
    half, stream = 500, Keystream(KEYS[2])
    u = [(int.from_bytes(stream.bytes(8), "little") + 1) / 2**64 for _ in range(2 * half)]
    radius = [STD * math.sqrt(-2 * math.log(v)) for v in u[:half]]
    angle = [2 * math.pi * v for v in u[half:]]
    cosines = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    sines = [r * math.sin(a) for r, a in zip(radius, angle, strict=True)]
    found = gaussian(STD, 2 * half, Keystream(KEYS[2]))
    assert np.abs(found - np.array(cosines + sines)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("value", [0, 1, -7, 2**30, -(2**46), 2**46 - 1])
def test_a_noised_whole_number_is_the_rounding_of_the_number_plus_the_real_noise(value: int) -> None:
    """In exact arithmetic: what is released is a function of (value + real Gaussian) alone."""

    class Recorded(Keystream):
        drawn: list[np.ndarray]

        def uniforms(self, count: int) -> np.ndarray:
            self.drawn = [*getattr(self, "drawn", []), super().uniforms(count)]
            return self.drawn[-1]

    stream = Recorded(KEYS[0])
    released = value + gaussian(1e6, 64, stream)
    radius = 1e6 * np.sqrt(-2 * np.log(stream.drawn[0]))
    angle = 2 * np.pi * stream.drawn[1]
    real = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).tolist()
    assert released.tolist() == [round(value + Fraction(noise)) for noise in real]


def test_numbers_never_exceed_what_64_bits_of_uniform_allow() -> None:
    class Smallest(Keystream):
        def words(self, count: int) -> np.ndarray:
            return np.zeros(count, dtype=np.uint64)

    largest = gaussian(2.0**45, 2, Smallest(bytes(32)))
    assert 9.4 * 2**45 < largest[0] < 9.5 * 2**45
    assert largest[1] == pytest.approx(0, abs=1e-3 * 2**45)


@pytest.mark.parametrize("std", [0.0, -1e6, 1.0, 1023.9, 2.0**45 * 1.001, 1e300, math.inf, math.nan])
def test_a_standard_deviation_outside_the_range_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="std"):
        gaussian(std, 10, Keystream(bytes(32)))


@pytest.mark.parametrize("std", [2.0**10, 2.0**45])
def test_the_ends_of_the_range_are_accepted(std: float) -> None:
    assert gaussian(std, 1000, Keystream(KEYS[0])).std() == pytest.approx(std, rel=0.2)
