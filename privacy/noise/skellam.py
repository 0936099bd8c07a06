"""Exact Skellam noise from a keystream: the difference of two Poisson numbers of one mean, by a table.

The table's thresholds are computed in whole numbers; no floating-point number decides anything.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import ceil, isqrt

import numpy as np

from .keystream import Keystream
from .table_sampler import LOW_BITS, PRECISION, Samples, Table, draw, make_table, place_thresholds

CELL_BITS = 20
BITS = CELL_BITS + LOW_BITS
"""Bits of the uniform number that decides a sample."""

LEAST_VARIANCE, MOST_VARIANCE = 0.01, 2.0**28
"""The variances that noise can be made for."""

CHUNK = 1 << 16
"""Samples whose part of the keystream lies together."""


def skellam(variance: float, count: int, keystream: Keystream) -> Samples:
    """Return `count` independent Skellam numbers of mean 0 and that variance, shape [count], secret.

    P[k] = exp(-variance) I_k(variance). Sums are Skellam of the summed variance.

    Whoever times a call learns a little about its samples, as `tables` says.

    Guarantee: if the keystream's bits are uniform, a sample's law is within support * 2^-84 of the exact one in total
    variation, where the support, -n..n, has fewer than 21.8 sqrt(variance) + 80 numbers: 4e-22 at a standard
    deviation of 350. Nothing but whole numbers decides. Proof: that of the module `tables`, by the guarantee of
    `thresholds`. The bound on the support is Bernstein's, as in `_weights`.
    Reference: Agarwal et al. 2021 for the mechanism.

    Raises:
        ValueError: the variance is outside 0.01..2^28.
    """
    table, noise = tabulate(variance), np.empty(count, dtype=np.int64)
    for start in range(0, count, CHUNK):
        draw(table, noise[start : start + CHUNK], keystream)
    return noise


@lru_cache(maxsize=16)
def tabulate(variance: float) -> Table:
    """Return the table of a variance: 2 MiB, or 4 where the support needs it, and 52 bytes a threshold.

    Raises:
        ValueError: the variance is outside 0.01..2^28.
    """
    if not LEAST_VARIANCE <= variance <= MOST_VARIANCE:
        raise ValueError(f"expected 0.01 <= variance <= 2^28, got {variance}")
    return make_table(thresholds(variance), CELL_BITS)


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
    return place_thresholds(_weights(variance), BITS)


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
