"""Rounded Gaussian noise for integer sums, from a keystream: by table look-up, and by rejection where it is wide.

Up to a standard deviation of 512, one table holds the whole distribution. Above, the integers are grouped into blocks
of 2^s, with 256 < std / 2^s <= 512: block j holds the integers j 2^s + i, -2^(s-1) <= i < 2^(s-1). A table draws j
from an envelope that lies nowhere below the distribution, and s uniform bits give i. The integer is accepted with
probability distribution / envelope, on average at least 0.997.

The envelope. Up to a constant factor, P[x] is w(x), the integral of exp(-t^2 / 2 std^2) from x - 1/2 to x + 1/2. For
x in block j, |t| lies between (|j| - h) 2^s and (|j| + h) 2^s, with h = 1/2 + 2^-(s+1). With
b(t) = exp(-t^2 / 2 (std / 2^s)^2), this gives b(|j| + h) <= w(x) <= e(j), where e(0) = 1 and else e(j) = b(|j| - h).

One uniform number u decides both j and acceptance. Let z be the sum of all e(j). The table's thresholds cut 0..1 into
intervals of length e(j) / z. If u lies in the interval of j, x is accepted if u exceeds its start by less than
w(x) / z. So x is accepted with probability w(x) / z 2^s, which is proportional to P[x]. If u exceeds the start by
less than b(|j| + h) / z, x is accepted for every i. The table marks each cell that also holds other values of u: 1 to
2 % of its cells.

The comparison of u - start with w(x) / z uses floating point if the two differ by more than the margin, 2^-30 w(x) /
z plus 4 units of 2^-64, and else integers. The floating-point error is below the margin, so the noise is the same on
every machine. Proof: u - start is known to one unit. With y = x / std, w(x) is exp(-y^2 / 2)
(1 + (y^2 - 1) / 24 std^2) up to a relative error of 2^-31.9. By Taylor's theorem this error is 1/1920 of the fourth
derivative, which is less than 1.02 (y^4 + 6 y^2 + 3) / std^4 relative to w(x), for std > 512 and |y| < 13. Rounding
changes the exponent, which is below 85, by less than 2^-44; an exponential function with an error of a thousand units
in the last place adds no more.

Rejection. More integers are drawn than are needed, and accepted ones from the end replace the rejected ones, in
order. Given the positions of the rejected integers, the accepted integers are independent and have the distribution,
and these positions alone decide their order. So the same holds for the result, and the number of rejections reveals
nothing about it.

Reference: von Neumann 1951 (rejection); Marsaglia 1963 (tables); Karney 2016 (exact Gaussian sampling).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, isqrt

import numpy as np
from numpy.typing import NDArray

from .fixed_point import ONE, PRECISION
from .gaussian_integrals import gaussian_values, integral, integrals
from .keystream import Keystream
from .table_sampler import (
    LOW_BITS,
    Codes,
    Places,
    Samples,
    SamplingTable,
    Words,
    draw,
    in_chunks,
    join_bits,
    look_up,
    low_bits,
    make_table,
    place_thresholds,
    search,
)

LEAST_STD, MOST_STD = 1.0, 2.0**45
"""The range of the standard deviation of noise, in steps of the integer grid."""

WIDEST_BITS = 9
"""The distribution in a table has a standard deviation of at most 2^9."""

CELL_BITS = 18
"""A table of 2^18 cells takes half a MiB, so it stays in the cache."""

CELL_MASK = np.uint64((1 << CELL_BITS) - 1)

TAIL_BITS = 32
BITS = CELL_BITS + LOW_BITS + TAIL_BITS
"""Bits of the uniform number that decides a sample."""

MARGIN, LEAST_MARGIN = 2.0**-30, 4
"""Floating point decides if the numbers differ by more than MARGIN w(x) / z plus LEAST_MARGIN units of 2^-64."""


@dataclass(frozen=True, repr=False)
class DiscreteGaussian:
    """The sampler's data for one standard deviation; public.

    If `shift` is 0, the table holds the distribution of the integers. Else it holds the envelope of the blocks of
    2^shift integers, and `total` is the sum of the envelope, in units of 2^-192.
    """

    std: float
    shift: int
    table: SamplingTable
    total: int


def gaussian(std: float, count: int, keystream: Keystream) -> Samples:
    """Return `count` independent rounded Gaussian numbers of mean 0, int64 [count], secret.

    P[k] is the probability that a real Gaussian number lies between k - 1/2 and k + 1/2. The time of a call reveals a
    little about its numbers, see `table_sampler`.

    Guarantee: the sum of an integer vector and this noise is the rounding of the vector plus real Gaussian noise: a
    post-processing of the Gaussian mechanism. It has no bits below the grid that could tell a value from its
    neighbour (Mironov 2012). If the keystream's bits are uniform, the distribution of a number is within
    2^-100 = 8e-31 of the exact one in total variation. Floating point decides no close comparison.
    Proof: for a table alone, see `table_sampler`. Else let d = 2^-114 + 2^-119. Given i, the probability that block j
    is drawn and x = j 2^s + i accepted is within d of w(x) / z: the guarantee of `place_thresholds` bounds the
    interval of j, and w(x) / z is rounded to 2^-114. All blocks that are left out have a probability of d at most
    together. Averaged over i and summed over the blocks -n..n, with n < 12.7 * 512 by Chernoff's bound, the error is
    below (2 n + 2) d. Conditioning on acceptance, which has probability 0.99 at least, divides the error by 0.99 at
    most.

    Raises:
        ValueError: `std` is outside 1..2^45.
    """
    law = tabulate(std)
    if not law.shift:
        noise = np.empty(count, dtype=np.int64)
        draw(law.table, noise, keystream)
        return noise
    noise, rejected = propose(law, count + (count >> 8) + 16, keystream)
    noise, missing = fill_gaps(noise, rejected, count)
    if len(missing):
        noise[missing] = gaussian(std, len(missing), keystream)
    return noise


@lru_cache(maxsize=16)
def tabulate(std: float) -> DiscreteGaussian:
    """Return the sampler's data for a standard deviation: 1/2 MiB, and 52 bytes a threshold.

    Raises:
        ValueError: `std` is outside 1..2^45.
    """
    if not LEAST_STD <= std <= MOST_STD:
        raise ValueError(f"expected 1 <= std <= 2^45, got {std}")
    shift = max((ceil(std) - 1).bit_length() - WIDEST_BITS, 0)
    if not shift:
        return DiscreteGaussian(std, 0, make_table(thresholds(std), CELL_BITS, TAIL_BITS), ONE)
    upper, lower = envelope(std, shift)
    total = 2 * sum(upper) - upper[0]
    limits = place_thresholds(upper, BITS)
    sure = _certain(
        limits, [max((weight << BITS) // total - 1, 0) for weight in lower]
    )  # one less, because a weight has an error of up to 2^-155
    return DiscreteGaussian(std, shift, make_table(limits, CELL_BITS, TAIL_BITS, sure), total)


def thresholds(std: float) -> tuple[int, ...]:
    """Return P[X <= k] in units of 2^-114, rounded, for all k = -n..n-1 at which it is not 0 or 1; `std` is 1 to 2^9.

    Guarantee: before rounding, each is within 2^-120 of the exact probability. Proof: fewer than 2^13 weights have an
    error below 2^-145 each, and their sum is at least 2.5 standard deviations. The weights that are left out on one
    side sum to less than 2^-125 standard deviations, as exp(-k^2 / 2 std^2) < 2^-122 at the last k.

    >>> limits = thresholds(1.0)
    >>> [round(limit / 2**114, 4) for limit in limits[len(limits) // 2 - 1 :][:2]]
    [0.3085, 0.6915]
    """
    variance = Fraction(std) ** 2
    return place_thresholds(integrals(variance, isqrt(170 * ceil(variance)) + 1), BITS)


def envelope(std: float, shift: int) -> tuple[list[int], list[int]]:
    """Return upper and lower bounds on w(x) in blocks 0, 1 and so on, in units of 2^-192, each within 2^-155.

    As in `thresholds`, the blocks that are left out weigh less than 2^-125 standard deviations, counted in blocks.
    """
    variance, reach = (Fraction(std) / 2**shift) ** 2, Fraction(1, 2) + Fraction(1, 2 ** (shift + 1))
    last = isqrt(170 * ceil(variance)) + 2
    return [ONE, *gaussian_values(variance, last, -reach)[1:]], gaussian_values(variance, last, reach)


def _certain(limits: tuple[int, ...], lengths: list[int]) -> list[int]:
    """Return, for each block, the start of its interval plus its certain length: a smaller u is always accepted."""
    n, starts = len(limits) // 2, (0, *limits)
    found = [start + lengths[abs(i - n)] for i, start in enumerate(starts)]
    return [min(sure, end) for sure, end in zip(found, (*limits, 1 << BITS), strict=True)]


def propose(law: DiscreteGaussian, count: int, keystream: Keystream) -> tuple[Samples, Places]:
    """Return `count` proposals from the envelope, int64 [count], and the sorted places of the rejected ones; secret.

    Each proposal takes one word of the keystream: the last 18 bits are the first bits of u, the first s bits, at most
    36, are i. After all these words, the keystream gives the remaining bits of each u whose cell is cut.
    """
    noise, left = np.empty(count, dtype=np.int64), list[tuple[Places, Words, Codes]]()
    for start, cells, codes, cut in in_chunks(law.table, count):
        part = noise[start : start + len(cells)]
        words = part.view(np.uint64)
        keystream.fill(words)
        np.bitwise_and(words, CELL_MASK, out=cells.view(np.uint64))
        found = look_up(law.table, cells, codes, cut)
        left.append((found + start, words[found], codes[found]))
        part >>= 64 - law.shift  # `part` shares memory with `words`: it now holds i
        cells[:] = codes
        cells <<= law.shift
        part += cells
    places, words, codes = (np.concatenate(arrays) for arrays in zip(*left, strict=True))
    noise[places], accepted = decide(law, words, codes, *low_bits(law.table, len(places), keystream))
    return noise, places[~accepted]


def decide(
    law: DiscreteGaussian, words: Words, codes: Codes, low: Words, tails: NDArray[np.uint32]
) -> tuple[Samples, NDArray[np.bool_]]:
    """Return the proposals of these words, int64, and which are accepted; `codes` are the codes of their cells."""
    cells = words & CELL_MASK
    reached, above = search(law.table, cells, codes, low, tails)
    numbers = ((reached + law.table.least) << law.shift) + (words.view(np.int64) >> (64 - law.shift))
    weight = _weight_of(law, numbers)
    excess = above - weight
    accepted = excess < 0
    for place in (np.abs(excess) <= MARGIN * weight + LEAST_MARGIN).nonzero()[0]:
        uniform = join_bits(law.table, place, cells, low, tails)
        accepted[place] = is_accepted(law, int(numbers[place]), int(reached[place]), uniform)
    return numbers, accepted


def _weight_of(law: DiscreteGaussian, numbers: Samples) -> NDArray[np.float64]:
    """Return w(x) / z of the numbers x in floating point, in units of 2^-64."""
    square = (numbers / law.std) ** 2
    scale, small = (1 << (64 + PRECISION)) / law.total, 1 / (24 * law.std**2)
    return np.exp(square * -0.5) * (square * (scale * small) + scale * (1 - small))


def is_accepted(law: DiscreteGaussian, number: int, reached: int, uniform: int) -> bool:
    """Return whether u, in units of 2^-114, accepts the number, in integer arithmetic.

    `reached` is the number of thresholds that are at most u.
    """
    start = law.table.thresholds[reached - 1] if reached else 0
    return uniform - start < (integral(Fraction(law.std) ** 2, number) << BITS) // law.total


def fill_gaps(noise: Samples, rejected: Places, count: int) -> tuple[Samples, Places]:
    """Return the first `count` numbers, rejected ones replaced by later accepted ones, and the places still open."""
    edge, spare = int(rejected.searchsorted(count)), np.ones(len(noise) - count, dtype=np.bool_)
    spare[rejected[edge:] - count] = False
    gaps, others = rejected[:edge], noise[count:][spare]
    filled = gaps[: len(others)]
    noise[filled] = others[: len(filled)]
    return noise[:count], gaps[len(filled) :]
