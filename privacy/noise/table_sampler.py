"""Exact samples of symmetric distributions on the integers, from a keystream, by table look-up.

A uniform integer u and sorted integer thresholds of the same number of bits give a sample: the number of thresholds
that are at most u. The upper bits of u select a cell of a table. A cell without a threshold has one outcome. Only for
the few cells that a threshold cuts are the other bits of u drawn and compared. Floating point decides nothing.

The running time depends on how many samples fall into cut cells, which happens more often for samples far from zero.
So the time of a call reveals a little about the total size of its samples. Table look-ups also leave traces in the
processor's cache, which other programs on the machine can observe.

Guarantee: if the keystream's bits are uniform, the distribution of a sample is within (n + 1) (2^-bits + 2^-119) of
the exact one in total variation, for 2 n thresholds and outcomes -n..n. Proof: an exact sample is the smallest k with
u < P[X <= k], for u uniform on [0, 1). Here u is rounded down to `bits` bits. The sample differs only if u lies
between some P[X <= k] and its threshold, or if the exact one is outside -n..n. By the guarantee of
`place_thresholds`, the first has probability below 2 n (2^-(bits + 1) + 2^-120), the second below 2^-bits + 2^-119.
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
"""Bits of the uniform number after the bits that select the cell."""

CHUNK = 1 << 15
"""Samples that are drawn at once, so that they stay in the cache; their values do not depend on it."""

LARGEST_WORD = 2**64 - 1

Places = NDArray[np.intp]
Cells = NDArray[np.int64]
Words = NDArray[np.uint64]
Codes = NDArray[np.signedinteger]
Samples = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class SamplingTable:
    """The look-up table of one distribution; public.

    A uniform number has `cell_bits` for the cell, then 64 bits, then `tail_bits`, 0 or 32. The sample is `least` plus
    the number of sorted `thresholds` that are at most the uniform number. `keys`, uint64, are zero, the upper 64 bits
    of each threshold, and twice the largest word. `settled`, [2^cell_bits], holds a code for each cell: the outcome
    of an uncut cell, or the outcome at the start of a cut cell minus the number of outcomes, which is below `least`.
    """

    cell_bits: int
    tail_bits: int
    thresholds: Sequence[int]
    keys: NDArray[np.uint64]
    settled: Codes

    @property
    def least(self) -> int:
        """The smallest outcome: the uniform number zero gives it."""
        return -(len(self.thresholds) // 2)


def place_thresholds(weights: Sequence[int], bits: int) -> tuple[int, ...]:
    """Return P[X <= k] in units of 2^-bits, rounded, for all k = -n..n-1 at which it is not 0 or 1.

    `weights` are proportional to P[X = k] = P[X = -k], for k = 0, 1 and so on.

    Guarantee: if the weights give each P[X <= k] within 2^-120, the result is within 2^-(bits + 1) + 2^-120, and
    P[X < -n] + P[X > n] < 2^-bits + 2^-119. The upper half is 1 minus the lower, as the distribution is symmetric.

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
) -> SamplingTable:
    """Return the table of thresholds with `cell_bits` + 64 + `tail_bits` bits: 2 bytes a cell, 4 for a wide support.

    `sure` holds one number for each outcome: cells that overlap the range from it to the next threshold are cut too.
    """
    size, least, low_bits = len(thresholds) + 1, -(len(thresholds) // 2), LOW_BITS + tail_bits
    kind = np.int16 if np.iinfo(np.int16).min <= least - size else np.int32
    keys = [limit >> (cell_bits + tail_bits) for limit in thresholds]
    inside = np.bincount([limit >> low_bits for limit in thresholds], minlength=1 << cell_bits)
    cut, ends = inside > 0, np.cumsum(inside) + least
    if sure is not None:
        cut |= _overlapped(sure, (*thresholds, 1 << (cell_bits + low_bits)), cell_bits, low_bits)
    settled = np.where(cut, ends - inside - size, ends).astype(kind)
    return SamplingTable(
        cell_bits, tail_bits, thresholds, np.array([0, *keys, LARGEST_WORD, LARGEST_WORD], dtype=np.uint64), settled
    )


def _overlapped(starts: Sequence[int], ends: Sequence[int], cell_bits: int, low_bits: int) -> NDArray[np.bool_]:
    """Return which cells overlap one of the ranges [start, end), bool [2^cell_bits]."""
    opened = np.bincount([start >> low_bits for start in starts], minlength=(1 << cell_bits) + 1)
    closed = np.bincount([((end - 1) >> low_bits) + 1 for end in ends], minlength=(1 << cell_bits) + 1)
    return np.cumsum(opened - closed)[:-1] > 0


def draw(table: SamplingTable, samples: Samples, keystream: Keystream) -> None:
    """Fill `samples`, int64 [count], with independent samples, secret.

    The keystream first gives half a word for each sample, then the `low_bits` of each sample in a cut cell.
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


def in_chunks(table: SamplingTable, count: int) -> Iterator[tuple[int, Cells, Codes, NDArray[np.bool_]]]:
    """Yield (start, cells, codes, cut) for each chunk of `count` samples: its start, and three buffers of its length.

    The buffers are for the cell of each sample, the cell's code, and whether a threshold cuts the cell.
    """
    length = min(CHUNK, count)
    cells, codes, cut = (np.empty(length, kind) for kind in (np.int64, table.settled.dtype, np.bool_))
    for start in range(0, count, CHUNK):
        end = min(CHUNK, count - start)
        yield start, cells[:end], codes[:end], cut[:end]


def look_up(table: SamplingTable, cells: Cells, codes: Codes, cut: NDArray[np.bool_]) -> Places:
    """Return the places of the cut cells among `cells`, and write the code of every cell to `codes`."""
    np.take(table.settled, cells, out=codes, mode="wrap")  # no index is out of range; this mode makes no copy
    return np.less(codes, table.least, out=cut).nonzero()[0]


def low_bits(table: SamplingTable, count: int, keystream: Keystream) -> tuple[Words, NDArray[np.uint32]]:
    """Return the bits after the cell bits of `count` uniform numbers: 64 bits, and the tail bits (zeros if none)."""
    low = keystream.words(count)
    return low, keystream.half_words(count) if table.tail_bits else np.zeros(count, np.uint32)


def search(
    table: SamplingTable, cells: Words, codes: Codes, low: Words, tails: NDArray[np.uint32]
) -> tuple[NDArray[np.int64], Words]:
    """Return how many thresholds each uniform number in a cut cell has reached, and its distance to the last of them.

    `codes` are the cells' codes. The distance, to zero if no threshold is reached, is in units of the 64th bit, with
    an error below one unit.
    """
    cell_bits = np.uint64(table.cell_bits)
    keys = (cells << (np.uint64(64) - cell_bits)) | (low >> cell_bits)
    reached = codes.astype(np.int64) + (len(table.thresholds) + 1 - table.least)
    following = table.keys[1:]
    reached += following[reached] <= keys  # few cells hold more than one threshold
    beyond = (following[reached] <= keys).nonzero()[0]
    reached[beyond] = following.searchsorted(keys[beyond], side="right")
    above = keys - table.keys[reached]
    for place in (above == 0).nonzero()[0]:  # a tie: the last bits decide
        reached[place] = bisect_right(table.thresholds, join_bits(table, place, cells, low, tails))
        above[place] = keys[place] - table.keys[reached[place]]
    return reached, above


def join_bits(table: SamplingTable, place: int | np.intp, cells: Words, low: Words, tails: NDArray[np.uint32]) -> int:
    """Return the uniform number at `place`, with all its bits."""
    return (((int(cells[place]) << LOW_BITS) | int(low[place])) << table.tail_bits) | int(tails[place])
