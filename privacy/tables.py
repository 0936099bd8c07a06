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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from .keystream import Keystream

LOW_BITS = 64
"""Bits of the uniform number that come after those that name a cell."""

PRECISION = 192
"""Bits after the point in the arithmetic that thresholds are computed in."""

CHUNK = 1 << 16
"""Samples made at once, so that the working set stays in cache; what they are does not depend on it."""

Cells = NDArray[np.intp]
Codes = NDArray[np.signedinteger]
Samples = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Table:
    """What samples of one law are looked up in; public.

    A uniform number has `cell_bits` for the cell, then 64, then `tail_bits`, 0 or 32. The sample is `least` + i where
    it has reached i of the `thresholds`, which are sorted. `keys`, uint64, are their upper 64 bits, and after them
    the largest word. `settled`, [2^cell_bits], has the outcome of every cell that no threshold cuts; of the others
    the outcome at its start less the number of all outcomes, a code that is below `least`.
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


def make_table(thresholds: Sequence[int], cell_bits: int, tail_bits: int = 0) -> Table:
    """Return the table of thresholds of `cell_bits` + 64 + `tail_bits`: 2 bytes a cell, 4 if the support is wide."""
    size, least = len(thresholds) + 1, -(len(thresholds) // 2)
    kind = np.int16 if np.iinfo(np.int16).min <= least - size else np.int32
    keys = np.array([limit >> (cell_bits + tail_bits) for limit in thresholds], dtype=np.uint64)
    inside = np.bincount((keys >> np.uint64(64 - cell_bits)).astype(np.intp), minlength=1 << cell_bits)
    ends = np.cumsum(inside) + least
    settled = np.where(inside > 0, ends - inside - size, ends).astype(kind)
    return Table(cell_bits, tail_bits, thresholds, np.append(keys, np.uint64(2**64 - 1)), settled)


def draw(table: Table, samples: Samples, keystream: Keystream, shift: int | None = None) -> None:
    """Fill `samples`, int64 [count], with independent samples, secret; with `shift`, added to 2^shift times itself.

    Takes half a word of the keystream for each, after those of all a word for each that fell into a cut cell, and
    after these half a word for each of the same, if the table has tails.
    """
    length = min(CHUNK, len(samples))
    cells, cut = np.empty(length, dtype=np.intp), np.empty(length, dtype=np.bool_)
    codes = np.empty(length, dtype=table.settled.dtype)
    left: list[tuple[Cells, Cells, Codes]] = []
    for start in range(0, len(samples), CHUNK):
        part = samples[start : start + CHUNK]
        cell, code = cells[: len(part)], codes[: len(part)]
        np.right_shift(keystream.half_words(len(part)), 32 - table.cell_bits, out=cell, casting="unsafe")
        np.take(table.settled, cell, out=code, mode="wrap")  # all lie inside: it is the mode that copies nothing
        found = np.flatnonzero(np.less(code, table.least, out=cut[: len(part)]))
        left.append((found + start, cell[found], code[found]))
        if shift is None:
            part[:] = code
        else:
            part <<= shift
            part += code
    if left:
        places, cells, codes = (np.concatenate(arrays) for arrays in zip(*left, strict=True))
        low = keystream.words(len(places))
        tails = keystream.half_words(len(places)) if table.tail_bits else None
        samples[places] += search(table, cells, codes, low, tails) - codes


def search(
    table: Table, cells: Cells, codes: Codes, low: NDArray[np.uint64], tails: NDArray[np.uint32] | None
) -> Samples:
    """Return the samples of the uniform numbers in these cut cells, which have these codes, with these low bits."""
    cell_bits = np.uint64(table.cell_bits)
    keys = (cells.astype(np.uint64) << (np.uint64(64) - cell_bits)) | (low >> cell_bits)
    reached = codes.astype(np.int64) + (len(table.thresholds) + 1 - table.least)
    reached += table.keys[reached] <= keys  # few cells hold more than this one
    beyond = np.flatnonzero(table.keys[reached] <= keys)
    reached[beyond] = np.searchsorted(table.keys, keys[beyond], side="right")
    for place in np.flatnonzero(table.keys[reached - 1] == keys):  # a tie: the last bits decide
        number = (int(cells[place]) << LOW_BITS) | int(low[place])
        tail = 0 if tails is None else int(tails[place])
        reached[place] = bisect_right(table.thresholds, (number << table.tail_bits) | tail)
    return reached + table.least
