"""Skellam noise: its thresholds, its law and its samples."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from bract.privacy import Keystream
from bract.privacy.noise.skellam import CHUNK, LEAST_VARIANCE, MOST_VARIANCE, skellam, tabulate, thresholds

KEYS = [bytes([i]) * 32 for i in range(3)]
VARIANCES = [0.01, 0.3, 1.0, 2.5, 25.0, 2500.0, 150.0**2, 350.0**2, 1e6, 2.0**28]
LOW = 1 << 64
"""The numbers of 64 bits: how far apart cells are."""
END = 1 << 84
"""The uniform numbers: they lie in 0..END - 1."""
KNOWN = {
    0.5: [0, 0, 0, 0, 0, 1, 0, 0],
    25.0: [3, 4, -1, 0, 2, 6, -4, -4],
    350.0**2: [195, 314, -74, 2, 165, 443, -302, -248],
    2.0**28: [9112, 14684, -3458, 75, 7731, 20717, -14156, -11619],
}
mp.dps = 60
thresholds_of = lru_cache(thresholds)


class Fed(Keystream):
    """A keystream that gives bytes chosen beforehand, and then no more."""

    def __init__(self, given: bytes) -> None:
        super().__init__(bytes(32))
        self.left = given

    def bytes(self, count: int) -> bytes:
        assert count <= len(self.left)
        given, self.left = self.left[:count], self.left[count:]
        return given


@lru_cache
def cut_cells(variance: float) -> frozenset[int]:
    """Return the cells that hold a threshold."""
    return frozenset(limit // LOW for limit in thresholds_of(variance))


def sample(variance: float, number: int) -> int:
    """Return the sample of one uniform number of 84 bits, from the thresholds alone."""
    limits = thresholds_of(variance)
    return bisect_right(limits, number) - len(limits) // 2


def feed(variance: float, numbers: Sequence[int]) -> Fed:
    """Return a keystream from which the samples of these uniform numbers are drawn."""
    given = bytearray()
    for start in range(0, len(numbers), CHUNK):
        part = numbers[start : start + CHUNK]
        for place, number in enumerate(part):
            given += (number // LOW << 12 | place * 977 % 4096).to_bytes(4, "little")
        for number in part:
            if number // LOW in cut_cells(variance):
                given += (number % LOW).to_bytes(8, "little")
    return Fed(bytes(given))


def drawn(variance: float, numbers: Sequence[int]) -> list[int]:
    """Return what the sampler makes of these uniform numbers; it must use up the keystream."""
    stream = feed(variance, numbers)
    samples = skellam(variance, len(numbers), stream).tolist()
    assert stream.left == b""
    return samples


def slow(variance: float, count: int, stream: Keystream) -> list[int]:
    """The sampler in plain whole numbers, from the same keystream: cells first, then the low bits that are needed."""
    samples: list[int] = []
    for start in range(0, count, CHUNK):
        cells = [int.from_bytes(stream.bytes(4), "little") >> 12 for _ in range(min(CHUNK, count - start))]
        for cell in cells:
            low = int.from_bytes(stream.bytes(8), "little") if cell in cut_cells(variance) else 0
            samples.append(sample(variance, cell * LOW + low))
    return samples


@lru_cache
def distribution(variance: float) -> Callable[[int], mpf]:
    """Return k -> P[X <= k] to 30 digits, by the characteristic function exp(v (cos t - 1)) on a lattice of angles.

    On a lattice of m angles a law comes out as it is wrapped around a circle of m numbers; here m is 40 standard
    deviations and 240 more, and beyond m / 2 lies nothing. Numbers are summed from -m / 2 up, as geometric series.
    """
    size = 2 * (20 * math.isqrt(math.ceil(variance)) + 120)
    heights = []
    for j in range(1, size // 2):
        angle = 2 * mp.pi * j / size
        height = mp.exp(mpf(variance) * (mp.cos(angle) - 1))
        if height < mpf(10) ** -45:
            break
        heights.append((angle, height / mp.sin(angle / 2)))

    def below(k: int) -> mpf:
        terms = k + size // 2 + 1  # of cos(j t), for j = -size / 2 .. k
        middle = mpf(k - size // 2) / 2
        waves = (h * mp.sin(terms * t / 2) * mp.cos(middle * t) for t, h in heights)
        ends = mp.exp(-2 * mpf(variance)) * sum((-1) ** j for j in range(-size // 2, k + 1))
        return (terms + 2 * mp.fsum(waves) + ends) / size

    return below


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 2.5, 25.0, 100.0])
def test_the_lattice_of_angles_gives_the_bessel_numbers(variance: float) -> None:
    below = distribution(variance)
    for k in range(-30, 31):
        exact = mp.exp(-mpf(variance)) * mp.besseli(abs(k), mpf(variance))
        assert abs(below(k) - below(k - 1) - exact) < mpf(10) ** -35


@pytest.mark.parametrize("variance", VARIANCES)
def test_thresholds_are_the_exact_law_rounded_to_84_bits(variance: float) -> None:
    """The law is given by its distribution function."""
    limits, below = thresholds(variance), distribution(variance)
    least = -(len(limits) // 2)
    steps = range(0, len(limits), max(1, len(limits) // 60))
    for i in {*steps, *range(5), -least - 1, -least, len(limits) - 1}:
        assert abs(limits[i] - below(least + i) * END) < 0.5 + 2.0**-20, i


@pytest.mark.parametrize("variance", VARIANCES)
def test_beyond_the_support_is_less_than_a_unit_of_84_bits(variance: float) -> None:
    limits = thresholds(variance)
    least = -(len(limits) // 2)
    assert limits[0] >= 1
    assert 2 * distribution(variance)(least - 1) * END < 1 + 2.0**-20
    assert len(limits) + 1 < 21.8 * variance**0.5 + 80


@pytest.mark.parametrize("variance", [0.01, 0.3, 1.0, 2.5, 25.0, 400.0])
def test_the_law_is_within_the_stated_total_variation(variance: float) -> None:
    """It is the law of a sample."""
    limits = thresholds(variance)
    support, least = len(limits) + 1, -(len(limits) // 2)
    exact = [distribution(variance)(least + i) for i in range(-1, support)]
    ours = np.diff([0, *limits, END])
    inside = sum(abs(mpf(ours[i]) / END - (exact[i + 1] - exact[i])) for i in range(support))
    assert (inside + 2 * exact[0]) / 2 < mpf(support) / END


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_law_of_a_sample_is_symmetric_to_the_last_bit(variance: float) -> None:
    limits = thresholds(variance)
    assert list(limits) == sorted(limits)
    assert all(low + high == END for low, high in zip(limits, reversed(limits), strict=True))


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("key", KEYS, ids=["key0", "key1", "key2"])
def test_samples_are_those_of_whole_number_arithmetic(variance: float, key: bytes) -> None:
    stream, other = Keystream(key), Keystream(key)
    assert skellam(variance, 3000, stream).tolist() == slow(variance, 3000, other)
    assert stream.bytes(16) == other.bytes(16)


@pytest.mark.parametrize("count", [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_samples_of_any_number_are_those_of_exact_arithmetic(count: int) -> None:
    """Python's whole numbers are exact."""
    samples = skellam(2500.0, count, Keystream(KEYS[1]))
    assert samples.dtype == np.int64
    assert samples.shape == (count,)
    assert samples.tolist() == slow(2500.0, count, Keystream(KEYS[1]))


@given(st.floats(LEAST_VARIANCE, 1e5), st.binary(min_size=32, max_size=32), st.integers(0, 500))
@settings(max_examples=60)
def test_samples_of_any_variance_match_exact_arithmetic(variance: float, key: bytes, count: int) -> None:
    """Python's whole numbers are exact."""
    assert skellam(variance, count, Keystream(key)).tolist() == slow(variance, count, Keystream(key))


variances = st.sampled_from([0.01, 1.0, 2500.0, 350.0**2, 16e6])
near = st.tuples(
    st.floats(0, 1), st.sampled_from([0, 1, 2, 1 << 20, 1 << 63]) | st.integers(0, 1 << 64), st.booleans()
)
anywhere = st.integers(0, END - 1)


@given(variances, st.lists(near | anywhere, max_size=60))
def test_numbers_at_and_around_thresholds_fall_on_their_side(variance: float, places: list) -> None:
    limits = thresholds_of(variance)
    numbers = []
    for place in places:
        if isinstance(place, tuple):
            share, distance, above = place
            number = limits[round(share * (len(limits) - 1))] + (distance if above else -distance)
            numbers.append(min(max(number, 0), END - 1))
        else:
            numbers.append(place)
    assert drawn(variance, numbers) == [sample(variance, number) for number in numbers]


@pytest.mark.parametrize("variance", VARIANCES[:-2])
def test_each_threshold_parts_two_neighbouring_numbers(variance: float) -> None:
    """The numbers just before and at a threshold have 64 bits or more in common: only the last ones part them."""
    limits = [limit for limit in thresholds(variance) if limit % (1 << 20)]
    assert len(limits) > 10
    before, at = drawn(variance, [limit - 1 for limit in limits]), drawn(variance, limits)
    assert before == [sample(variance, limit - 1) for limit in limits]
    assert at == [sample(variance, limit) for limit in limits]
    assert all(x < y for x, y in zip(before, at, strict=True))


@pytest.mark.parametrize("variance", VARIANCES)
def test_extreme_numbers_give_the_ends_of_the_support(variance: float) -> None:
    """The least and the greatest."""
    limits = thresholds(variance)
    end = len(limits) // 2
    numbers = [0, limits[0] - 1, limits[-1], END - 1]
    assert drawn(variance, numbers) == [-end, -end, end, end]


@pytest.mark.parametrize("variance", [1.0, 2500.0, 1e6, 16e6])
def test_every_settled_cell_has_one_sample_and_it_is_the_tables(variance: float) -> None:
    table, cut = tabulate(variance), cut_cells(variance)
    assert set(np.flatnonzero(table.settled < table.least).tolist()) == cut
    for cell in range(0, 1 << 20, 7):
        if cell not in cut:
            ends = {sample(variance, cell * LOW), sample(variance, cell * LOW + LOW - 1)}
            assert ends == {int(table.settled[cell])}


def test_first_samples_of_a_key_are_known() -> None:
    """Found from the keystream's bytes by `distribution`: the least k with u < P[X <= k]."""
    assert {variance: skellam(variance, 8, Keystream(bytes(range(32)))).tolist() for variance in KNOWN} == KNOWN


def test_a_second_draw_continues_the_keystream() -> None:
    stream = Keystream(KEYS[2])
    first, second = skellam(1e6, 1000, stream), skellam(1e6, 1000, stream)
    assert first.tolist() != second.tolist()
    assert len(np.unique(np.concatenate([first, second]))) > 1000


@pytest.mark.parametrize(
    "variance", [0.0, -1.0, LEAST_VARIANCE * 0.999, MOST_VARIANCE * 1.001, math.inf, -math.inf, math.nan]
)
def test_a_variance_outside_the_range_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance"):
        skellam(variance, 10, Keystream(bytes(32)))


@pytest.mark.parametrize("variance", [LEAST_VARIANCE, MOST_VARIANCE])
def test_the_ends_of_the_range_are_accepted(variance: float) -> None:
    found = skellam(variance, 1 << 17, Keystream(KEYS[0])).var()
    assert found == pytest.approx(variance, rel=0.2)
