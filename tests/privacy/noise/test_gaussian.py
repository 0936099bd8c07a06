"""The law of Gaussian noise in exact arithmetic. Statistics are in test_noise_statistics.py."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from bract.privacy import Keystream
from bract.privacy.noise import gaussian as noise
from bract.privacy.noise import table_sampler as tables
from bract.privacy.noise.gaussian import (
    BITS,
    CELL_BITS,
    LEAST_STD,
    MOST_STD,
    DiscreteGaussian,
    envelope,
    fill_gaps,
    gaussian,
    is_accepted,
    propose,
    tabulate,
    thresholds,
)
from bract.privacy.noise.gaussian_integrals import integral
from bract.privacy.noise.table_sampler import CHUNK, make_table

KEYS = [bytes([i]) * 32 for i in range(2)]
STD = 2.0**30
WIDE = [512.5, 1000.0, 1024.5, 2.0**18, 1e6, STD, MOST_STD]
mp.dps = 60


def below(std: float, k: int) -> mpf:
    """P[X <= k] of the rounded Gaussian law, to 50 digits, for k < 0."""
    return mp.erfc(-(k + mpf(1) / 2) / (mp.sqrt(2) * mpf(std))) / 2


@pytest.mark.parametrize("std", [1.0, 2.5, 31.6, 512.0])
def test_narrow_thresholds_are_the_distribution_function(std: float) -> None:
    """The law is narrow."""
    limits = thresholds(std)
    n = len(limits) // 2
    for i in {*range(0, len(limits), max(1, n // 50)), *range(3), n - 1, n, len(limits) - 1}:
        assert abs(limits[i] - below(std, i - n) * 2**BITS) < 0.5 + 2.0**-6, i
    assert below(std, -n - 1) * 2**BITS < 0.5 + 2.0**-6
    assert n < 12.7 * max(8, std)


@pytest.mark.parametrize("std", [512.5, 1024.0, MOST_STD])
def test_thresholds_of_a_wide_law_are_those_of_the_envelope(std: float) -> None:
    law = tabulate(std)
    limits, cell, reach = law.table.thresholds, mpf(std) / 2**law.shift, (1 + mpf(2) ** -law.shift) / 2
    n = len(limits) // 2
    weights = [mp.exp(-((max(j - reach, 0) / cell) ** 2) / 2) for j in range(n + 300)]
    total = 2 * mp.fsum(weights) - 1
    for j in {0, 1, 2, n // 9, n // 3, n - 1, n}:
        limit = limits[n - 1 - j] if j < n else 0
        assert abs(limit - mp.fsum(weights[j + 1 :]) / total * 2**BITS) < 0.5 + 2.0**-6, j
    assert 256 < cell <= 512
    assert n < 12.7 * cell
    assert (2 * n + 2) * (mpf(2) ** -114 + mpf(2) ** -119) / mpf("0.99") < mpf(2) ** -100


@given(st.floats(512, MOST_STD, exclude_min=True) | st.integers(10, 45).map(lambda bits: 2.0**bits), st.data())
@settings(max_examples=15)
def test_all_that_a_cell_holds_weighs_no_more_than_the_envelope(std: float, data: st.DataObject) -> None:
    """And no less than what is accepted unseen: at the cells' edges and their middle, on both sides."""
    shift, error = tabulate(std).shift, 2 ** (192 - 149)
    upper, lower = envelope(std, shift)
    for j in {0, 1, *data.draw(st.lists(st.integers(0, int(12 * std / 2**shift)), min_size=3, max_size=3))}:
        edges = (j << shift) - (1 << shift - 1), (j << shift), (j << shift) + (1 << shift - 1) - 1
        for x in (*edges, *(-x - 1 for x in edges)):
            weight = integral(Fraction(std) ** 2, x)
            assert lower[j] - error < weight < upper[j] + error


def accepted_share(law: DiscreteGaussian, x: int) -> mpf:
    """P[x is proposed and accepted], by search of the last u that accepts it in its cell's stretch."""
    reached = ((x + (1 << law.shift - 1)) >> law.shift) - law.table.least
    start, end = (0, *law.table.thresholds, 1 << BITS)[reached : reached + 2]
    least, most = start, end
    while least < most:
        middle = (least + most) // 2
        least, most = (middle + 1, most) if is_accepted(law, x, reached, middle) else (least, middle)
    return mpf(least - start) / 2 ** (BITS + law.shift)


def deviation(law: DiscreteGaussian) -> mpf:
    """How far acceptance is from a rounded Gaussian number's law at some numbers, absolutely, times all of them."""
    half, unit = 1 << law.shift - 1, mpf(law.std) * mp.sqrt(2 * mp.pi) / law.total * mpf(2) ** (192 - law.shift)
    places = [
        s * (j << law.shift) + i for j in (0, 1, 300, 1000, 3000) for s in (-1, 1) for i in (-half, 0, half - 1)
    ]
    errors = [accepted_share(law, x) - unit * (below(law.std, -abs(x)) - below(law.std, -abs(x) - 1)) for x in places]
    return max(abs(error) for error in errors) * (2 << law.shift) * -law.table.least


@pytest.mark.parametrize("std", [512.5, 1024.5, STD])
def test_what_is_accepted_has_the_law_of_a_rounded_gaussian(std: float) -> None:
    assert deviation(tabulate(std)) < mpf(2) ** -100


def test_an_envelope_that_is_too_low_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = noise.envelope
    monkeypatch.setattr(noise, "envelope", lambda std, shift: (right(std, shift)[1], right(std, shift)[1]))
    assert deviation(tabulate.__wrapped__(512.5)) > 1e-4


def settled_falsely(law: DiscreteGaussian) -> list[int]:
    """Cells' numbers, every seventh, that the table gives for some u which does not accept all of them, exactly."""
    settled, least, half, found = law.table.settled, law.table.least, 1 << law.shift - 1, list[int]()
    for j in range(-2000, 2001, 7):
        cells = np.flatnonzero(settled == j)
        if len(cells):
            assert bisect_right(law.table.thresholds, int(cells[0]) << 96) == j - least
            last, far = ((int(cells[-1]) + 1) << 96) - 1, (j << law.shift) + (half - 1 if j > 0 else -half)
            if bisect_right(law.table.thresholds, last) != j - least or not is_accepted(law, far, j - least, last):
                found.append(j)
    return found


@pytest.mark.parametrize("std", [512.5, 1000.0, STD])
def test_what_the_table_settles_would_be_accepted(std: float) -> None:
    assert (tabulate(std).table.settled >= tabulate(std).table.least).mean() > 0.98
    assert settled_falsely(tabulate(std)) == []


def test_a_table_that_settles_what_is_not_sure_would_be_seen() -> None:
    law = tabulate(1000.0)
    assert settled_falsely(replace(law, table=make_table(law.table.thresholds, CELL_BITS, 32)))


def read(stream: Keystream, count: int, size: int) -> list[int]:
    return [int.from_bytes(stream.bytes(size), "little") for _ in range(count)]


def slow_narrow(std: float, count: int, stream: Keystream) -> list[int]:
    """Plain whole numbers: cells of all, then the low bits that are needed."""
    limits = thresholds(std)
    cells, cut = [half >> (32 - CELL_BITS) for half in read(stream, count, 4)], {limit >> 96 for limit in limits}
    places = [i for i, cell in enumerate(cells) if cell in cut]
    low = dict(zip(places, read(stream, len(places), 8), strict=True))
    low = {i: x << 32 | tail for (i, x), tail in zip(low.items(), read(stream, len(places), 4), strict=True)}
    return [bisect_right(limits, cell << 96 | low.get(i, 0)) - len(limits) // 2 for i, cell in enumerate(cells)]


def slow_wide(std: float, count: int, stream: Keystream) -> list[int]:
    """Plain whole numbers: words of all; where a cell of u is not sure to be accepted throughout, the other bits."""
    law, made, variance = tabulate(std), count + count // 256 + 16, Fraction(std) ** 2
    limits, (_, least) = law.table.thresholds, envelope(std, law.shift)
    n, starts, half = len(limits) // 2, (0, *limits), 1 << law.shift - 1
    words, inside = read(stream, made, 8), {limit >> 96 for limit in limits}
    cells, inner = [word % 2**18 for word in words], [((word >> 64 - law.shift) ^ half) - half for word in words]
    numbers = [cell << 96 | (2**96 - 1) for cell in cells]
    reached = [bisect_right(limits, u) for u in numbers]
    sure = [
        u - starts[i] < max((least[abs(i - n)] << BITS) // law.total - 1, 0)
        for u, i in zip(numbers, reached, strict=True)
    ]
    open_ = [i for i, cell in enumerate(cells) if cell in inside or not sure[i]]
    for i, low, tail in zip(open_, read(stream, len(open_), 8), read(stream, len(open_), 4), strict=True):
        numbers[i] = (cells[i] << 64 | low) << 32 | tail
        reached[i] = bisect_right(limits, numbers[i])
    found = [((i - n) << law.shift) + low for i, low in zip(reached, inner, strict=True)]
    weights = ((integral(variance, x) << BITS) // law.total for x in found)
    accepted = [u - starts[i] < weight for u, i, weight in zip(numbers, reached, weights, strict=True)]
    spare = iter([x for x, kept in zip(found[count:], accepted[count:], strict=True) if kept])
    return [x if kept else next(spare) for x, kept in zip(found[:count], accepted[:count], strict=True)]


@pytest.mark.parametrize("std", [LEAST_STD, 512.0, *WIDE])
def test_noise_is_that_of_whole_number_arithmetic(std: float) -> None:
    stream, other = Keystream(KEYS[0]), Keystream(KEYS[0])
    slow = slow_narrow if std <= 512 else slow_wide
    assert gaussian(std, 3000, stream).tolist() == slow(std, 3000, other)
    assert stream.bytes(16) == other.bytes(16)


def test_noise_is_the_same_if_whole_numbers_decide_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    noises, asked = [gaussian(std, 3000, Keystream(KEYS[1])).tolist() for std in WIDE], list[int]()
    monkeypatch.setattr(noise, "MARGIN", 1e30)
    monkeypatch.setattr(noise, "is_accepted", lambda law, *rest: asked.append(1) or is_accepted(law, *rest))
    assert noises == [gaussian(std, 3000, Keystream(KEYS[1])).tolist() for std in WIDE]
    assert len(asked) > 3000 * len(WIDE) * 0.01


@pytest.mark.parametrize("share", [0, 0.5, 2.7, -3.9, 9.3])
@pytest.mark.parametrize("std", [512.5, STD])
def test_close_calls_are_decided_exactly(std: float, share: float) -> None:
    """The last u that accepts a number, and the next one, which floating point cannot tell apart."""
    law, x = tabulate(std), int(share * std) + 1
    reached = ((x + (1 << law.shift - 1)) >> law.shift) - law.table.least
    start = law.table.thresholds[reached - 1]
    edge = start + (integral(Fraction(std) ** 2, x) << BITS) // law.total
    for u, expected in ((edge - 1, True), (edge, False)):
        word = np.array([(x % (1 << law.shift)) << 64 - law.shift | u >> 96], np.uint64)
        bits = np.array([u >> 32 & 2**64 - 1], np.uint64), np.array([u & 2**32 - 1], np.uint32)
        codes = law.table.settled[[u >> 96]]
        assert codes[0] < law.table.least
        numbers, accepted = noise.decide(law, word, codes, *bits)
        assert (numbers.tolist(), accepted.tolist()) == ([x], [expected])


@pytest.mark.parametrize("std", [512.001, 777.7, STD, MOST_STD])
def test_floating_point_errs_by_less_than_what_it_may_decide_on(std: float) -> None:
    law, numbers = tabulate(std), (np.linspace(-12.9, 12.9, 50) * std).astype(np.int64)
    for x, found in zip(numbers.tolist(), noise._weight_of(law, numbers), strict=True):
        exact = mpf(integral(Fraction(std) ** 2, x)) / law.total * 2**64
        assert abs(found - exact) < noise.MARGIN / 2 * exact + noise.LEAST_MARGIN / 4


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.data())
def test_accepted_numbers_at_the_end_replace_rejected_ones(kept: list[bool], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(kept)))
    found, open_ = fill_gaps(np.arange(len(kept)), np.flatnonzero(~np.array(kept)), count)
    spare = iter([i for i in range(count, len(kept)) if kept[i]])
    expected = [i if kept[i] else next(spare, None) for i in range(count)]
    assert [None if i in open_ else x for i, x in enumerate(found.tolist())] == expected


def test_places_that_stay_open_are_filled_by_more_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = list[int]()

    def fewer(law: DiscreteGaussian, count: int, stream: Keystream) -> tuple[np.ndarray, np.ndarray]:
        numbers, _ = propose(law, count, stream)
        refused.extend(numbers[: count // 2].tolist())
        return numbers, np.arange(count // 2)

    monkeypatch.setattr(noise, "propose", fewer)
    found = gaussian(STD, 1000, Keystream(KEYS[0]))
    assert not set(found.tolist()) & set(refused)
    assert len(set(found.tolist())) > 990
    assert len(refused) > 600


@given(st.floats(LEAST_STD, MOST_STD), st.integers(0, 300), st.sampled_from([1, 7, 100, 4096]))
@settings(max_examples=15, deadline=None)
def test_noise_is_the_same_whatever_is_made_at_once(std: float, count: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "CHUNK", chunk)
        found = gaussian(std, count, Keystream(KEYS[1]))
    assert found.tolist() == gaussian(std, count, Keystream(KEYS[1])).tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 101, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_gives_as_many_whole_numbers_as_asked_for(count: int) -> None:
    found = gaussian(STD, count, Keystream(KEYS[0]))
    assert (found.shape, found.dtype) == ((count,), np.int64)
    assert (found != 0).all()  # a zero has probability 4e-10: a place that was left out would show


def test_no_number_repeats_across_chunks_and_draws() -> None:
    stream = Keystream(KEYS[0])
    found = np.concatenate([gaussian(MOST_STD, 2 * CHUNK, stream), gaussian(MOST_STD, 2 * CHUNK, stream)])
    assert len(np.unique(np.abs(found))) == len(found)


class Constant(Keystream):
    """A keystream of one byte."""

    def __init__(self, byte: int) -> None:
        super().__init__(bytes(32))
        self.byte = byte

    def bytes(self, count: int) -> bytes:
        return bytes([self.byte]) * count

    def fill(self, words: np.ndarray) -> None:
        words.view(np.uint8)[:] = self.byte


@pytest.mark.parametrize("std", [LEAST_STD, 512.0, 512.5, STD, MOST_STD])
def test_extreme_uniform_numbers_give_the_ends_of_the_law(std: float) -> None:
    """The least and the largest give what the law reaches to."""
    law = tabulate(std)
    for byte, end in ((0, law.table.least), (255, -law.table.least)):
        found = propose(law, 2, Constant(byte))[0] if law.shift else gaussian(std, 2, Constant(byte))
        edge = (end << law.shift) - (1 if byte and law.shift else 0)
        assert found.tolist() == [edge, edge]
        assert 11 * std < abs(edge) < 14 * std


@pytest.mark.parametrize("std", [0.0, -1e6, 0.999, MOST_STD * 1.001, 1e300, math.inf, -math.inf, math.nan])
def test_a_standard_deviation_outside_the_range_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="std"):
        gaussian(std, 10, Keystream(bytes(32)))


@pytest.mark.parametrize("std", [LEAST_STD, MOST_STD])
def test_the_ends_of_the_range_are_accepted(std: float) -> None:
    assert gaussian(std, 1000, Keystream(KEYS[0])).std() == pytest.approx(std, rel=0.2)
