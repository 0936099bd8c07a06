"""Tables of small laws, whose thresholds were chosen to fall together. test_skellam.py goes through larger ones."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Keystream
from bract.privacy.noise.table_sampler import SamplingTable, draw, make_table, place_thresholds, search

CELL_BITS = 3
BITS = CELL_BITS + 64
END = 1 << BITS
LOW = 1 << 64
both = pytest.mark.parametrize("tail_bits", [0, 32])


class Fed(Keystream):
    """A keystream of bytes chosen beforehand."""

    def __init__(self, given: bytes) -> None:
        super().__init__(bytes(32))
        self.left = given

    def bytes(self, count: int) -> bytes:
        given, self.left = self.left[:count], self.left[count:]
        return given


def feed(table: SamplingTable, numbers: list[int]) -> Fed:
    low_bits = 64 + table.tail_bits
    cut = {limit >> low_bits for limit in table.thresholds}
    cells = b"".join((number >> low_bits << 29 | 5).to_bytes(4, "little") for number in numbers)
    rest = [number % (1 << low_bits) for number in numbers if number >> low_bits in cut]
    low = b"".join((number >> table.tail_bits).to_bytes(8, "little") for number in rest)
    tails = b"".join((number % (1 << 32)).to_bytes(4, "little") for number in rest if table.tail_bits)
    return Fed(cells + low + tails)


def sample(table: SamplingTable, number: int) -> int:
    return bisect_right(table.thresholds, number) - len(table.thresholds) // 2


places = st.integers(1, END // 2 - 1) | st.integers(1, 20) | st.integers(LOW - 5, LOW + 5)


@both
@given(st.lists(places, max_size=8).map(sorted), st.lists(st.integers(0, END - 1), max_size=30))
def test_a_sample_is_how_many_thresholds_its_number_has_reached(
    tail_bits: int, lower: list[int], others: list[int]
) -> None:
    """Several in one cell, several at one number, and numbers just before, at and after them, and at the ends."""
    lower, end = [limit << tail_bits | limit % (1 << tail_bits) for limit in lower], END << tail_bits
    limits = [*lower, *(end - limit for limit in reversed(lower))]
    table = make_table(limits, CELL_BITS, tail_bits)
    near = [min(max(limit + step, 0), end - 1) for limit in limits for step in (-1, 0, 1)]
    numbers = [0, 1, end - 2, end - 1, *near, *(other << tail_bits for other in others)]
    stream, samples = feed(table, numbers), np.full(len(numbers), 10)
    draw(table, samples, stream)
    assert samples.tolist() == [sample(table, number) for number in numbers]
    assert stream.left == b""


@given(st.lists(places, min_size=1, max_size=8, unique=True).map(sorted), st.data())
def test_cells_that_hold_anything_unsure_are_cut(lower: list[int], data: st.DataObject) -> None:
    limits = [*lower, *(END - limit for limit in reversed(lower) if limit < END // 2)]
    edges = [0, *limits, END]
    sure = [data.draw(st.integers(start, end)) for start, end in pairwise(edges)]
    settled = make_table(limits, CELL_BITS, sure=sure).settled
    for cell, code in enumerate(settled.tolist()):
        first, last = cell * LOW, cell * LOW + LOW - 1
        i = bisect_right(limits, first)
        if code >= -(len(limits) // 2):
            assert code == i - len(limits) // 2
            assert last < min(edges[i + 1], sure[i])
        else:
            assert code == i - len(limits) // 2 - len(edges) + 1 - (first in limits)
            assert first in limits or last >= min(edges[i + 1], sure[i])


def test_how_far_a_number_is_beyond_its_threshold_is_told() -> None:
    table = make_table((END // 8 + 5 * 8, END // 8 * 7 - 5 * 8), CELL_BITS)
    cells, low = np.array([1, 1, 6, 6], dtype=np.uint64), np.array([39, 48, LOW - 41, LOW - 8], dtype=np.uint64)
    reached, above = search(table, cells, table.settled[cells], low, np.zeros(4, np.uint32))
    assert reached.tolist() == [0, 1, 1, 2]
    assert above.tolist() == [2**61 + 4, 1, 3 * 2**62 - 11, 4]


def test_thresholds_are_rounded_and_mirror_each_other() -> None:
    """They are rounded to the nearest."""
    assert place_thresholds([2, 1, 1], 4) == (3, 5, 11, 13)  # 1/6, 2/6, 4/6, 5/6 of 16: 2.67, 5.33, 10.67, 13.33
    assert place_thresholds([1], 4) == ()
    assert place_thresholds([2**10, 1], 4) == ()


def test_a_law_of_one_number_needs_no_low_bits() -> None:
    samples, stream = np.full(5, 7), Fed(bytes(range(20)))
    draw(make_table((), CELL_BITS), samples, stream)
    assert samples.tolist() == [0] * 5
    assert stream.left == b""


@pytest.mark.parametrize(("outcomes", "kind"), [(21_845, np.int16), (21_847, np.int32)])
def test_outcomes_and_codes_fit_their_words(outcomes: int, kind: type) -> None:
    """All thresholds in the first cells and the last: codes go down to one and a half times the outcomes."""
    half = outcomes // 2
    lower = list(range(1, half + 1))
    table = make_table((*lower, *(END - limit for limit in reversed(lower))), CELL_BITS)
    assert table.settled.dtype == kind
    cells, low = np.zeros(3, dtype=np.uint64), np.array([0, 1, LOW - 1], dtype=np.uint64)
    reached, _ = search(table, cells, table.settled[cells], low, np.zeros(3, np.uint32))
    assert reached.tolist() == [0, 1, half]
