"""Gaussian noise on integer sums, from a keystream: a rounded Gaussian number, by a table and rejection.

Up to a standard deviation of 512 a table holds the law. Wider, numbers lie in cells of 2^s of them, such that 256 <
std / 2^s <= 512: cell j has the numbers j 2^s + i, -2^(s-1) <= i < 2^(s-1). A table gives j, in proportion to an
envelope that is nowhere below the law, and s uniform bits give i. The number is accepted with probability law /
envelope: 0.997 at least on the average.

The envelope. Up to one factor, P[x] is w(x), the integral of exp(-t^2 / 2 std^2) from x - 1/2 to x + 1/2. Where x is
in cell j, all |t| lie between (|j| - h) 2^s and (|j| + h) 2^s, h = 1/2 + 2^-(s+1). So with b(t) =
exp(-t^2 / 2 (std / 2^s)^2), b(|j| + h) <= w(x) <= e(j), where e(j) = b(|j| - h), but e(0) = 1.

One uniform number u decides on j and on acceptance. With z the sum of e(j), the table's thresholds cut 0..1 into
stretches of length e(j) / z. Where u is in that of j, x is accepted if u is less than w(x) / z from its start. So
each x is accepted with probability w(x) / z 2^s, in proportion to its own. Where u is less than b(|j| + h) / z from
the start, nothing is left to decide, whatever i is; the table marks all its cells of u that hold other numbers too, 1
to 2 % of them.

Which is larger, u less the start or w(x) / z, is found in floating point where they differ by more than 2^-30 of
the latter and 4 units of 2^-64, and elsewhere in whole numbers. Floating point errs by less than that, so the noise
is the same on every machine. Proof: u less the start is known to one unit. w(x) is exp(-y^2 / 2) (1 + (y^2 - 1) /
24 std^2), y = x / std, but for less than 2^-31.9 of it: by Taylor's theorem the 1920th part of the fourth derivative,
which is less than 1.02 (y^4 + 6 y^2 + 3) / std^4 of it, where std > 512 and |y| < 13. Rounding moves the exponent,
below 85, by less than 2^-44, and an exponential function that errs by a thousand units in the last place does no
worse.

Rejection. More numbers are made than are wanted, and accepted ones at the end take the places of rejected ones, in
order. Given which were rejected, the others are independent and have the law, and where each of them goes depends on
nothing else; so the same holds for what comes out. How many were rejected tells nothing about it.

Reference: von Neumann 1951 for rejection; Marsaglia 1963 for tables; Karney 2016 for Gaussian numbers made exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, isqrt

import numpy as np
from numpy.typing import NDArray

from .gaussian_integrals import ONE, bells, integral, integrals
from .keystream import Keystream
from .table_sampler import (
    LOW_BITS,
    PRECISION,
    Codes,
    Places,
    Samples,
    Table,
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
"""The standard deviations, in steps, that noise can be made for."""

WIDEST_BITS = 9
"""A table's law has a standard deviation of 2^9 at most."""

CELL_BITS = 18
"""A table of 2^18 cells takes half a MiB, and stays in cache while its numbers are made."""

CELL_MASK = np.uint64((1 << CELL_BITS) - 1)

TAIL_BITS = 32
BITS = CELL_BITS + LOW_BITS + TAIL_BITS
"""Bits of the uniform number that decides."""

MARGIN, LEAST_MARGIN = 2.0**-30, 4
"""Floating point decides where numbers differ by more than this part of w(x) / z and so many units of 2^-64."""


@dataclass(frozen=True, repr=False)
class Law:
    """What Gaussian numbers of a standard deviation are made from; public.

    The table is that of the numbers themselves where `shift` is 0, else of cells of 2^shift numbers; `total` is then
    the sum of the envelope over all cells, in units of 2^-192.
    """

    std: float
    shift: int
    table: Table
    total: int


def gaussian(std: float, count: int, keystream: Keystream) -> Samples:
    """Return `count` independent Gaussian numbers of mean 0 and standard deviation `std`, rounded, [count], secret.

    P[k] is that of a real Gaussian number between k - 1/2 and k + 1/2. Whoever times a call learns a little about its
    numbers, as `tables` says.

    Guarantee: added to an integer vector, the sum is the rounding of the exact vector plus real Gaussian noise,
    thus a post-processing of the Gaussian mechanism; no bit below the grid exists that could tell a value from
    its neighbour (Mironov 2012). If the keystream's bits are uniform, a number's law is within 2^-100 = 8e-31 of the
    exact one in total variation. Floating point decides nothing that is close. Proof: of a table alone it is what
    `tables` says. Else the probability that a number in cell j is accepted as x = j 2^s + i is, given i, within d =
    2^-114 + 2^-119 of w(x) / z, by the guarantee of `place_thresholds` for the stretch of j and as w(x) is rounded to
    2^-114; of all cells that are left out together within d of 0. Summed, with 1 / 2^s for i, that is less than
    (2 n + 2) d, where -n..n are the cells and by Chernoff's bound n < 12.7 * 512; and to be given acceptance, which
    has probability 0.99 at least, multiplies it by that much at most.

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
def tabulate(std: float) -> Law:
    """Return what numbers of that standard deviation are made from: 1/2 MiB, and 52 bytes a threshold.

    Raises:
        ValueError: `std` is outside 1..2^45.
    """
    if not LEAST_STD <= std <= MOST_STD:
        raise ValueError(f"expected 1 <= std <= 2^45, got {std}")
    shift = max((ceil(std) - 1).bit_length() - WIDEST_BITS, 0)
    if not shift:
        return Law(std, 0, make_table(thresholds(std), CELL_BITS, TAIL_BITS), ONE)
    upper, lower = envelope(std, shift)
    total = 2 * sum(upper) - upper[0]
    limits = place_thresholds(upper, BITS)
    sure = _sure(limits, [max((bell << BITS) // total - 1, 0) for bell in lower])  # one less, as bells err by 2^-155
    return Law(std, shift, make_table(limits, CELL_BITS, TAIL_BITS, sure), total)


def thresholds(std: float) -> tuple[int, ...]:
    """Return P[X <= k] in units of 2^-114, rounded, for k = -n..n-1: where it is neither 0 nor 1; std 1 to 2^9.

    Guarantee: before it is rounded, each is within 2^-120 of the exact probability. Proof: weights err by less than
    2^-145 each and are fewer than 2^13, next to a sum of 2.5 standard deviations at least; those left out are, as
    exp(-k^2 / 2 std^2) < 2^-122 at the last, below 2^-125 standard deviations on each side.

    >>> limits = thresholds(1.0)
    >>> [round(limit / 2**114, 4) for limit in limits[len(limits) // 2 - 1 :][:2]]
    [0.3085, 0.6915]
    """
    variance = Fraction(std) ** 2
    return place_thresholds(integrals(variance, isqrt(170 * ceil(variance)) + 1), BITS)


def envelope(std: float, shift: int) -> tuple[list[int], list[int]]:
    """Return what the numbers in cells 0, 1 and so on weigh at most and at least, in units of 2^-192, within 2^-155.

    As with `thresholds`, the cells left out weigh below 2^-125 standard deviations, counted in cells.
    """
    variance, reach = (Fraction(std) / 2**shift) ** 2, Fraction(1, 2) + Fraction(1, 2 ** (shift + 1))
    last = isqrt(170 * ceil(variance)) + 2
    return [ONE, *bells(variance, last, -reach)[1:]], bells(variance, last, reach)


def _sure(limits: tuple[int, ...], lengths: list[int]) -> list[int]:
    """Return up to where u is sure to be accepted in each cell's stretch, if the least accepted lengths are these."""
    n, starts = len(limits) // 2, (0, *limits)
    found = [start + lengths[abs(i - n)] for i, start in enumerate(starts)]
    return [min(sure, end) for sure, end in zip(found, (*limits, 1 << BITS), strict=True)]


def propose(law: Law, count: int, keystream: Keystream) -> tuple[Samples, Places]:
    """Return `count` numbers under the envelope, [count], and the places of the rejected ones in order; secret.

    Takes a word of the keystream for each: its last 18 bits are the first of u, its first s, at most 36, are i. After
    those of all come the other bits of each u that is left to decide.
    """
    noise, left = np.empty(count, dtype=np.int64), list[tuple[Places, Words, Codes]]()
    for start, cells, codes, cut in in_chunks(law.table, count):
        part = noise[start : start + len(cells)]
        words = part.view(np.uint64)
        keystream.fill(words)
        np.bitwise_and(words, CELL_MASK, out=cells.view(np.uint64))
        found = look_up(law.table, cells, codes, cut)
        left.append((found + start, words[found], codes[found]))
        part >>= 64 - law.shift  # in place of the words, now i
        cells[:] = codes
        cells <<= law.shift
        part += cells
    places, words, codes = (np.concatenate(arrays) for arrays in zip(*left, strict=True))
    noise[places], accepted = decide(law, words, codes, *low_bits(law.table, len(places), keystream))
    return noise, places[~accepted]


def decide(
    law: Law, words: Words, codes: Codes, low: Words, tails: NDArray[np.uint32]
) -> tuple[Samples, NDArray[np.bool_]]:
    """Return the numbers of these first words, whose cells of u have these codes, and which are accepted."""
    cells = words & CELL_MASK
    reached, above = search(law.table, cells, codes, low, tails)
    numbers = ((reached + law.table.least) << law.shift) + (words.view(np.int64) >> (64 - law.shift))
    bell = _bell(law, numbers)
    excess = above - bell
    accepted = excess < 0
    for place in (np.abs(excess) <= MARGIN * bell + LEAST_MARGIN).nonzero()[0]:
        uniform = join_bits(law.table, place, cells, low, tails)
        accepted[place] = is_accepted(law, int(numbers[place]), int(reached[place]), uniform)
    return numbers, accepted


def _bell(law: Law, numbers: Samples) -> NDArray[np.float64]:
    """Return w(x) / z of the numbers x, in units of 2^-64, nearly."""
    square = (numbers / law.std) ** 2
    scale, small = (1 << (64 + PRECISION)) / law.total, 1 / (24 * law.std**2)
    return np.exp(square * -0.5) * (square * (scale * small) + scale * (1 - small))


def is_accepted(law: Law, number: int, reached: int, uniform: int) -> bool:
    """Return whether u, in units of 2^-114, accepts the number, exactly; u has reached so many thresholds."""
    start = law.table.thresholds[reached - 1] if reached else 0
    return uniform - start < (integral(Fraction(law.std) ** 2, number) << BITS) // law.total


def fill_gaps(noise: Samples, rejected: Places, count: int) -> tuple[Samples, Places]:
    """Return the first `count` numbers, accepted later ones in place of rejected ones, and the places still open."""
    edge, spare = int(rejected.searchsorted(count)), np.ones(len(noise) - count, dtype=np.bool_)
    spare[rejected[edge:] - count] = False
    gaps, others = rejected[:edge], noise[count:][spare]
    filled = gaps[: len(others)]
    noise[filled] = others[: len(filled)]
    return noise[:count], gaps[len(filled) :]
