"""Exact samples of symmetric laws on the whole numbers, from a keystream, by a table.

A sample is how many of a list of thresholds, whole numbers of so many bits, a uniform whole number of as many has
reached. Its upper bits name a cell of a table. A cell that no threshold cuts has one outcome, and few are cut; only
where one is, the other bits are drawn and compared. No floating-point number decides anything.

How long it takes depends on how many samples fall into cut cells, where numbers far from zero fall more often; so
whoever times a call learns a little about the size of all its samples together. Table look-ups also leave traces in a
processor's cache, for programs that run beside it.

Guarantee: if the keystream's bits are uniform, a sample's law is within (n + 1) (2^-bits + 2^-119) of the exact one
in total variation, where -n..n are the numbers that come out: one more than there are thresholds. Proof: an exact
sample is the least k with u < P[X <= k], for u uniform on [0, 1). Ours, with u rounded down to so many bits, differs
from it only where u lies between a P[X <= k] and its threshold, or where the exact one is outside of -n..n. By what
`place_thresholds` promises the one has probability below 2 n (2^-(bits + 1) + 2^-120), the other below
2^-bits + 2^-119.
Reference: Marsaglia 1963.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from .keystream import Keystream

LOW_BITS = 64
"""Bits of the uniform number that come after those that name a cell."""

PRECISION = 192
"""Bits after the point in the arithmetic that thresholds are computed in."""

CHUNK = 1 << 15
"""Samples made at once, so that the working set stays in cache; what they are does not depend on it."""

LARGEST = 2**64 - 1

Places = NDArray[np.intp]
Cells = NDArray[np.int64]
Words = NDArray[np.uint64]
Codes = NDArray[np.signedinteger]
Samples = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Table:
    """What samples of one law are looked up in; public.

    A uniform number has `cell_bits` for the cell, then 64, then `tail_bits`, 0 or 32. The sample is `least` + i where
    it has reached i of the `thresholds`, which are sorted. `keys`, uint64, are zero, their upper 64 bits, and twice
    the largest word. `settled`, [2^cell_bits], has the outcome of every cell that is not cut, by a threshold or as
    `make_table` was told; of the others the outcome at its start less the number of all outcomes, a code that is
    below `least`.
    """

    cell_bits: int
    tail_bits: int
    thresholds: Sequence[int]
    keys: NDArray[np.uint64]
    settled: Codes

    @property
    def least(self) -> int:
        """The least outcome, that of the uniform number zero."""
        return -(len(self.thresholds) // 2)


def place_thresholds(weights: Sequence[int], bits: int) -> tuple[int, ...]:
    """Return P[X <= k] in units of 2^-bits, rounded, for k = -n..n-1: where it is neither 0 nor 1.

    `weights` are in proportion to P[X = k] = P[X = -k], for k = 0, 1 and so on.

    Guarantee: where weights are such that each P[X <= k] comes out within 2^-120, what is returned is within
    2^-(bits + 1) + 2^-120, and P[X < -n] + P[X > n] < 2^-bits + 2^-119. The upper half is one less the lower, as the
    law is symmetric.

    >>> [limit / 2**10 for limit in place_thresholds([2, 1, 1], 10)]
    [0.1669921875, 0.3330078125, 0.6669921875, 0.8330078125]
    """
    total = 2 * sum(weights) - weights[0]
    sums = accumulate(reversed(weights[1:]))
    rounded = (((below << (bits + 1)) // total + 1) >> 1 for below in sums)
    lower = [limit for limit in rounded if limit]
    return (*lower, *((1 << bits) - limit for limit in reversed(lower)))


def make_table(
    thresholds: Sequence[int], cell_bits: int, tail_bits: int = 0, sure: Sequence[int] | None = None
) -> Table:
    """Return the table of thresholds of `cell_bits` + 64 + `tail_bits`: 2 bytes a cell, 4 if the support is wide.

    With `sure`, one number an outcome, cells that hold a number from there to the next threshold are cut too.
    """
    size, least, low_bits = len(thresholds) + 1, -(len(thresholds) // 2), LOW_BITS + tail_bits
    kind = np.int16 if np.iinfo(np.int16).min <= least - size else np.int32
    keys = [limit >> (cell_bits + tail_bits) for limit in thresholds]
    inside = np.bincount([limit >> low_bits for limit in thresholds], minlength=1 << cell_bits)
    cut, ends = inside > 0, np.cumsum(inside) + least
    if sure is not None:
        cut |= _touched(sure, (*thresholds, 1 << (cell_bits + low_bits)), cell_bits, low_bits)
    settled = np.where(cut, ends - inside - size, ends).astype(kind)
    return Table(cell_bits, tail_bits, thresholds, np.array([0, *keys, LARGEST, LARGEST], dtype=np.uint64), settled)


def _touched(starts: Sequence[int], ends: Sequence[int], cell_bits: int, low_bits: int) -> NDArray[np.bool_]:
    """Return which cells, [2^cell_bits], hold a number of one of the ranges, from a start to before its end."""
    opened = np.bincount([start >> low_bits for start in starts], minlength=(1 << cell_bits) + 1)
    closed = np.bincount([((end - 1) >> low_bits) + 1 for end in ends], minlength=(1 << cell_bits) + 1)
    return np.cumsum(opened - closed)[:-1] > 0


def draw(table: Table, samples: Samples, keystream: Keystream) -> None:
    """Fill `samples`, int64 [count], with independent samples, secret.

    Takes half a word of the keystream for each, and after those of all what `low_bits` takes for each that fell into
    a cut cell.
    """
    left: list[tuple[Places, Cells, Codes]] = []
    for start, cell, code, cut in in_chunks(table, len(samples)):
        np.right_shift(keystream.half_words(len(cell)), 32 - table.cell_bits, out=cell, casting="unsafe")
        found = look_up(table, cell, code, cut)
        left.append((found + start, cell[found], code[found]))
        samples[start : start + len(code)] = code
    if left:
        places, cells, codes = (np.concatenate(arrays) for arrays in zip(*left, strict=True))
        reached, _ = search(table, cells.view(np.uint64), codes, *low_bits(table, len(places), keystream))
        samples[places] = reached + table.least


def in_chunks(table: Table, count: int) -> Iterator[tuple[int, Cells, Codes, NDArray[np.bool_]]]:
    """Return where each chunk of `count` samples starts, and room for its cells, their codes, and which are cut."""
    length = min(CHUNK, count)
    cells, codes, cut = (np.empty(length, kind) for kind in (np.int64, table.settled.dtype, np.bool_))
    for start in range(0, count, CHUNK):
        end = min(CHUNK, count - start)
        yield start, cells[:end], codes[:end], cut[:end]


def look_up(table: Table, cells: Cells, codes: Codes, cut: NDArray[np.bool_]) -> Places:
    """Return the places of the cut cells among these, and leave the codes of all in `codes`."""
    np.take(table.settled, cells, out=codes, mode="wrap")  # all lie inside: it is the mode that copies nothing
    return np.less(codes, table.least, out=cut).nonzero()[0]


def low_bits(table: Table, count: int, keystream: Keystream) -> tuple[Words, NDArray[np.uint32]]:
    """Return the bits after the cell's of `count` uniform numbers: a word of each, then, with tails, half a word."""
    low = keystream.words(count)
    return low, keystream.half_words(count) if table.tail_bits else np.zeros(count, np.uint32)


def search(
    table: Table, cells: Words, codes: Codes, low: Words, tails: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], Words]:
    """Return how many thresholds the uniform numbers in these cut cells have reached, and how far beyond they are.

    The cells have these codes. How far a number is beyond the last threshold it has reached, or beyond zero, is in
    units of the 64th bit, and less than one off.
    """
    cell_bits = np.uint64(table.cell_bits)
    keys = (cells << (np.uint64(64) - cell_bits)) | (low >> cell_bits)
    reached = codes.astype(np.int64) + (len(table.thresholds) + 1 - table.least)
    following = table.keys[1:]
    reached += following[reached] <= keys  # few cells hold more than this one
    beyond = (following[reached] <= keys).nonzero()[0]
    reached[beyond] = following.searchsorted(keys[beyond], side="right")
    above = keys - table.keys[reached]
    for place in (above == 0).nonzero()[0]:  # a tie: the last bits decide
        reached[place] = bisect_right(table.thresholds, join_bits(table, place, cells, low, tails))
        above[place] = keys[place] - table.keys[reached[place]]
    return reached, above


def join_bits(table: Table, place: int | np.intp, cells: Words, low: Words, tails: NDArray[np.uint32]) -> int:
    """Return the uniform number that has the bits at that place."""
    return (((int(cells[place]) << LOW_BITS) | int(low[place])) << table.tail_bits) | int(tails[place])
