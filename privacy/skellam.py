"""Exact Skellam noise from a keystream: the difference of two Poisson numbers of one mean, by a table.

A sample is how many of a list of thresholds, whole numbers of 84 bits, a uniform whole number of 84 bits has reached.
Its upper 20 bits name a cell of a table. A cell that no threshold cuts has one outcome, and few are cut; only where
one is, the other 64 bits are drawn and compared. No floating-point number decides anything.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import ceil, isqrt

import numpy as np
from numpy.typing import NDArray

from .keystream import Keystream

CELL_BITS, LOW_BITS = 20, 64
BITS = CELL_BITS + LOW_BITS
"""Bits of the uniform number that decides a sample."""

KEY_BITS = 64 - CELL_BITS
"""Of the low bits, those that are compared in one word together with the cell."""

PRECISION = 192
"""Bits after the point in the arithmetic that thresholds are computed in."""

LEAST_VARIANCE, MOST_VARIANCE = 0.01, 2.0**28
"""The variances that noise can be made for."""

CHUNK = 1 << 16
"""Samples made at once, so that the working set stays in cache."""

Cells = NDArray[np.intp]
Samples = NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Table:
    """What samples of one variance are looked up in; public.

    The sample is `least` + i where the uniform number has reached i of the `thresholds`, which are sorted. `keys`,
    uint64, are their upper 64 bits. `settled`, [2^20], has the outcome of every cell that no threshold cuts, and
    `cut` for the others.
    """

    least: int
    cut: int
    thresholds: Sequence[int]
    keys: NDArray[np.uint64]
    settled: NDArray[np.signedinteger]


def skellam(variance: float, count: int, keystream: Keystream) -> Samples:
    """Return `count` independent Skellam numbers of mean 0 and that variance, shape [count], secret.

    P[k] = exp(-variance) I_k(variance). Sums are Skellam of the summed variance.

    How long it takes depends on how many samples fall into cut cells, where numbers far from zero fall more often; so
    whoever times a call learns a little about the size of all its samples together. Table look-ups also leave traces
    in a processor's cache, for programs that run beside it.

    Guarantee: if the keystream's bits are uniform, a sample's law is within support * 2^-84 of the exact one in total
    variation, where the support, -n..n, has fewer than 21.8 sqrt(variance) + 80 numbers: 4e-22 at a standard
    deviation of 350. Nothing but whole numbers decides. Proof: an exact sample is the least k with u < P[X <= k], for
    u uniform on [0, 1). Ours, with u rounded down to 84 bits, differs from it only where u lies between a P[X <= k]
    and its threshold, or where the exact one is outside of the support. By the guarantee of `thresholds` the one has
    probability below 2 n (2^-85 + 2^-120), the other below 2^-84 + 2^-119, together below (2 n + 1) 2^-84. The bound
    on the support is Bernstein's, as in `_weights`.
    Reference: Agarwal et al. 2021 for the mechanism; Marsaglia 1963 for sampling by tables.

    Raises:
        ValueError: the variance is outside 0.01..2^28.
    """
    table = tabulate(variance)
    noise = np.empty(count, dtype=np.int64)
    cells = np.empty(min(CHUNK, count), dtype=np.intp)
    outcomes = np.empty(len(cells), dtype=table.settled.dtype)
    cut = np.empty(len(cells), dtype=np.bool_)
    for start in range(0, count, CHUNK):
        samples = noise[start : start + CHUNK]
        cell, outcome = cells[: len(samples)], outcomes[: len(samples)]
        np.right_shift(keystream.half_words(len(samples)), 32 - CELL_BITS, out=cell, casting="unsafe")
        np.take(table.settled, cell, out=outcome, mode="wrap")  # all lie inside: it is the mode that copies nothing
        samples[:] = outcome
        places = np.flatnonzero(np.equal(outcome, table.cut, out=cut[: len(samples)]))
        if len(places):
            samples[places] = search(table, cell[places], keystream.words(len(places)))
    return noise


def search(table: Table, cells: Cells, low: NDArray[np.uint64]) -> Samples:
    """Return the samples of the uniform numbers whose upper 20 bits are `cells` and whose lower 64 are `low`."""
    keys = (cells.astype(np.uint64) << np.uint64(KEY_BITS)) | (low >> np.uint64(LOW_BITS - KEY_BITS))
    reached = np.searchsorted(table.keys, keys, side="right")
    for place in np.flatnonzero(table.keys[reached - 1] == keys):  # a tie: the last 20 bits decide
        number = (int(cells[place]) << LOW_BITS) | int(low[place])
        reached[place] = bisect_right(table.thresholds, number)
    return reached + table.least


@lru_cache(maxsize=16)
def tabulate(variance: float) -> Table:
    """Return the table of a variance: 2 MiB, or 4 where the support needs it, and 52 bytes a threshold.

    Raises:
        ValueError: the variance is outside 0.01..2^28.
    """
    if not LEAST_VARIANCE <= variance <= MOST_VARIANCE:
        raise ValueError(f"expected 0.01 <= variance <= 2^28, got {variance}")
    limits = thresholds(variance)
    least = -(len(limits) // 2)
    kind = np.int16 if np.iinfo(np.int16).min < least else np.int32
    cut = int(np.iinfo(kind).min)
    keys = np.array([limit >> (LOW_BITS - KEY_BITS) for limit in limits], dtype=np.uint64)
    inside = np.bincount((keys >> np.uint64(KEY_BITS)).astype(np.intp), minlength=1 << CELL_BITS)
    settled = np.where(inside > 0, cut, np.cumsum(inside) + least).astype(kind)
    return Table(least, cut, limits, keys, settled)


def thresholds(variance: float) -> tuple[int, ...]:
    """Return P[X <= k] in units of 2^-84, rounded, for k = -n..n-1, X Skellam: where it is neither 0 nor 1.

    The same on every machine: computed in whole numbers.

    Guarantee: before it is rounded, each is within 2^-120 of the exact probability; so what is returned is within
    2^-85 + 2^-120, and P[X < -n] + P[X > n] < 2^-84 + 2^-119. Proof: `_weights` errs by less than 2^-150 of the sum
    in each of fewer than 2^20 numbers. The upper half is one less the lower, as the law is symmetric.

    >>> limits = thresholds(2.0)
    >>> [round(limit / 2**84, 4) for limit in limits[len(limits) // 2 - 1 :][:2]]
    [0.3457, 0.6543]
    """
    weights = _weights(variance)
    total = 2 * sum(weights) - weights[0]
    sums = accumulate(reversed(weights[1:]))
    rounded = (((below << (BITS + 1)) // total + 1) >> 1 for below in sums)
    lower = [limit for limit in rounded if limit]
    return (*lower, *((1 << BITS) - limit for limit in reversed(lower)))


def _weights(variance: float) -> list[int]:
    """Return I_k(variance) / I_0(variance) in units of 2^-192, for k = 0 to where the tails hold less than 2^-200.

    The ratios r_k = I_k / I_(k-1) = 1 / (2 k / variance + r_(k+1)) are computed from the far end, where r is taken to
    be zero, and multiplied.

    How exact: by Bernstein's inequality, exp(-k^2 / (2 variance + 2 k / 3)) bounds a tail, below 2^-201 at `last`. To
    start from zero there gives I_k -+ K_k I_(last+1) / K_(last+1) up to a factor, and K_k grows with k: no number
    moves by more than I_(last+1). Rounding down costs each of the fewer than 2^19 ratios and products one unit of
    2^-192; an error of a ratio is multiplied by r^2 < 1 on its way inwards, so none exceeds 2^-173, and no product
    of ratios errs by more than 2^-153, next to a sum of at least 1.
    Reference: the recursion is Miller's; Olver, NIST Digital Library of Mathematical Functions, 10.33 and 3.6.
    """
    top, bottom = variance.as_integer_ratio()
    last = 95 + isqrt(280 * ceil(variance))
    ratio, ratios = 0, list[int]()
    for k in range(last, 0, -1):
        ratio = (top << (2 * PRECISION)) // ((2 * k * bottom << PRECISION) + top * ratio)
        ratios.append(ratio)
    products = accumulate(reversed(ratios), lambda weight, ratio: weight * ratio >> PRECISION, initial=1 << PRECISION)
    return list(products)
