"""Exact Skellam noise (the difference of two Poisson numbers of one mean) from a keystream, by table look-up.

All arithmetic that decides a sample is in integers.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from math import ceil, isqrt

import numpy as np

from .fixed_point import PRECISION
from .keystream import Keystream
from .table_sampler import LOW_BITS, Samples, SamplingTable, draw, make_table, place_thresholds

CELL_BITS = 20
BITS = CELL_BITS + LOW_BITS
"""Bits of the uniform number that decides a sample."""

LEAST_VARIANCE, MOST_VARIANCE = 0.01, 2.0**28
"""The range of the variance of noise."""

CHUNK = 1 << 16
"""Samples that are drawn from one contiguous part of the keystream."""


def skellam(variance: float, count: int, keystream: Keystream) -> Samples:
    """Return `count` independent Skellam numbers of mean 0 and this variance, int64 [count], secret.

    P[k] = exp(-variance) I_k(variance). A sum of Skellam numbers is Skellam, with the sum of their variances.

    The time of a call reveals a little about its samples, see `table_sampler`.

    Guarantee: if the keystream's bits are uniform, the distribution of a sample is within support * 2^-84 of the
    exact one in total variation. The support, -n..n, has fewer than 21.8 sqrt(variance) + 80 numbers, so the distance
    is 4e-22 at a standard deviation of 350. Only integer arithmetic decides. Proof: see `table_sampler`, with the
    guarantee of `thresholds`. Bernstein's inequality bounds the support, as in `_weights`.
    Reference: Agarwal et al. 2021 for the mechanism.

    Raises:
        ValueError: the variance is outside 0.01..2^28.
    """
    table, noise = tabulate(variance), np.empty(count, dtype=np.int64)
    for start in range(0, count, CHUNK):
        draw(table, noise[start : start + CHUNK], keystream)
    return noise


@lru_cache(maxsize=16)
def tabulate(variance: float) -> SamplingTable:
    """Return the table of a variance: 2 MiB, or 4 MiB for a wide support, and 52 bytes a threshold.

    Raises:
        ValueError: the variance is outside 0.01..2^28.
    """
    if not LEAST_VARIANCE <= variance <= MOST_VARIANCE:
        raise ValueError(f"expected 0.01 <= variance <= 2^28, got {variance}")
    return make_table(thresholds(variance), CELL_BITS)


def thresholds(variance: float) -> tuple[int, ...]:
    """Return P[X <= k] of a Skellam X in units of 2^-84, rounded, for all k = -n..n-1 at which it is not 0 or 1.

    Integer arithmetic gives the same result on every machine.

    Guarantee: before rounding, each is within 2^-120 of the exact probability. So the result is within
    2^-85 + 2^-120, and P[X < -n] + P[X > n] < 2^-84 + 2^-119. Proof: each of the fewer than 2^20 numbers of
    `_weights` has an error below 2^-150 of their sum. The upper half is 1 minus the lower, because the distribution
    is symmetric.

    >>> limits = thresholds(2.0)
    >>> [round(limit / 2**84, 4) for limit in limits[len(limits) // 2 - 1 :][:2]]
    [0.3457, 0.6543]
    """
    return place_thresholds(_weights(variance), BITS)


def _weights(variance: float) -> list[int]:
    """Return I_k(variance) / I_0(variance) in units of 2^-192, for k = 0 until the tails hold less than 2^-200.

    The ratios r_k = I_k / I_(k-1) = 1 / (2 k / variance + r_(k+1)) are computed downwards from r = 0 at the far end,
    then multiplied.

    Error: by Bernstein's inequality, exp(-k^2 / (2 variance + 2 k / 3)) bounds a tail; at `last` it is below 2^-201.
    The start at zero gives I_k -+ K_k I_(last+1) / K_(last+1) up to a factor. K_k grows with k, so no number changes
    by more than I_(last+1). Rounding down changes every ratio and product by at most one unit of 2^-192, and there
    are fewer than 2^19. The recursion multiplies the error of a ratio by r^2 < 1, so no ratio's error exceeds 2^-173,
    and no product's exceeds 2^-153, relative to a sum of at least 1.
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
