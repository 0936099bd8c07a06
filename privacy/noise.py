"""Gaussian noise on integer sums, from a keystream: a rounded Gaussian number, put together from small tables.

A number is X_0 + 256 X_1 + ... + 256^k X_k. X_0 is a Gaussian number rounded to a whole one. The others are discrete
Gaussian: on the whole numbers, with P[j] in proportion to exp(-j^2 / 2 s^2). All but X_k have the same law at every
standard deviation; what X_k adds makes up the variance, exactly. No floating-point number decides anything.

Why the sum is a rounded Gaussian. Let X be discrete Gaussian with s, and Y a real Gaussian number of standard
deviation 2. The density of X + Y at u is, up to a factor, the sum of exp(-j^2 / 2 s^2 - (u - j)^2 / 8) over all j.
Completing the square gives exp(-u^2 / 2 (s^2 + 4)), times the sum of exp(-(j - c)^2 / 2 t^2), where c goes with u,
and t^2 = 4 s^2 / (s^2 + 4). Whatever c is, by Poisson's summation formula this sum is t sqrt(2 pi) times a number
between 1 - e and 1 + e, e = 2 exp(-2 pi^2 t^2) + 2 exp(-8 pi^2 t^2) + ...; so is, with s > t for t, the one that
makes the P[j] add up to one. Thus the density is that of the Gaussian of variance s^2 + 4 times a number within 2 e
of 1. At all standard deviations s^2 > 12, so t^2 > 3 and 2 e < 2^-83.

Now take 256^k X_k and a real Gaussian number of standard deviation 2 * 256^k: to within 2 e, together they are the
Gaussian of the whole variance. In place of the latter put 256^(k-1) X_(k-1) and one of 2 * 256^(k-1), and so on down
to one of 512. To add an independent number, of whatever law, keeps two densities within the factor of each other that
they are within; so the whole is within 2^-80 of the Gaussian density, for k up to 5. Last, it is rounded. All but
that last Gaussian number is whole, so it is the same to round that alone: to X_0.

Reference: Peikert 2010, theorem 3.1; Micciancio and Walter 2017 for building samplers so.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import ceil, isqrt

import numpy as np

from .keystream import Keystream
from .tables import LOW_BITS, PRECISION, Samples, Table, draw, make_table, place_thresholds

LEAST_STD, MOST_STD = 1.0, 2.0**45
"""The standard deviations, in steps, that noise can be made for."""

LEVEL_BITS = 8
"""A level counts in units of 2^8 of those of the next finer one."""

SMOOTH = 2
"""Standard deviation, in a level's units, of the Gaussian that all finer levels make together."""

WIDEST = 1 << 10
"""The largest standard deviation of a level; so that of all its numbers and finer ones is at least 4 of its units."""

CELL_BITS = 18
"""A table of 2^18 cells takes half a MiB or one, and stays in cache while its numbers are made."""

TAIL_BITS = 32
BITS = CELL_BITS + LOW_BITS + TAIL_BITS
"""Bits of the uniform number that decides a level's number."""

ONE = 1 << PRECISION


def gaussian(std: float, count: int, keystream: Keystream) -> Samples:
    """Return `count` independent Gaussian numbers of mean 0 and standard deviation `std`, rounded, [count], secret.

    P[k] is that of a real Gaussian number between k - 1/2 and k + 1/2. Whoever times a call learns a little about its
    numbers, as `tables` says.

    Guarantee: added to an integer vector, the sum is the rounding of the exact vector plus real Gaussian noise,
    thus a post-processing of the Gaussian mechanism; no bit below the grid exists that could tell a value from
    its neighbour (Mironov 2012). If the keystream's bits are uniform, a number's law is within 2^-80 = 8e-25 of the
    exact one in total variation. Nothing but whole numbers decides. Proof: a table errs by (n + 1) (2^-114 + 2^-119),
    by the proof in `tables`, where by Chernoff's bound n < 12.7 * 1024, and half that for all but the coarsest of up
    to 6 levels: below 2^-98 together. A density that is within 2^-80 of another, relatively, is within half of that
    in total variation.

    Raises:
        ValueError: `std` is outside 1..2^45.
    """
    noise = np.empty(count, dtype=np.int64)
    for place, table in enumerate(_tables(std)):
        draw(table, noise, keystream, LEVEL_BITS if place else None)
    return noise


@lru_cache(maxsize=8)
def _tables(std: float) -> tuple[Table, ...]:
    """Return the levels' tables, coarsest first: the finest alone is that of a rounded law."""
    finest, *coarser = levels(std)
    return (*(tabulate(variance, rounded=False) for variance in reversed(coarser)), tabulate(finest, rounded=True))


def levels(std: float) -> tuple[Fraction, ...]:
    """Return the variances of the levels, each in its own units squared, finest first; exact.

    >>> [float(variance) for variance in levels(2.0**20)]
    [262144.0, 262140.0, 252.0]

    Raises:
        ValueError: `std` is outside 1..2^45.
    """
    if not LEAST_STD <= std <= MOST_STD:
        raise ValueError(f"expected 1 <= std <= 2^45, got {std}")
    left, finer = Fraction(std), list[Fraction]()
    while left > WIDEST:
        left /= 1 << LEVEL_BITS
        finer.append(Fraction(SMOOTH << LEVEL_BITS) ** 2)
    return tuple(whole - (SMOOTH**2 if place else 0) for place, whole in enumerate([*finer, left**2]))


@lru_cache(maxsize=16)
def tabulate(variance: Fraction, rounded: bool) -> Table:
    """Return a level's table, of a Gaussian, rounded or discrete: 1/2 MiB, 1 if it is wide; 52 bytes a threshold."""
    return make_table(thresholds(variance, rounded), CELL_BITS, TAIL_BITS)


def thresholds(variance: Fraction, rounded: bool) -> tuple[int, ...]:
    """Return P[X <= k] in units of 2^-114, rounded, for k = -n..n-1: where it is neither 0 nor 1.

    The same on every machine: computed in whole numbers. The variance is 1 to 2^20.

    Guarantee: before it is rounded, each is within 2^-120 of the exact probability. Proof: weights err by less than
    2^-150 each and are fewer than 2^14, next to a sum of 2.5 standard deviations at least; those left out are, as
    exp(-k^2 / 2 variance) < 2^-122 at `last`, below 2^-125 standard deviations on each side.

    >>> limits = thresholds(Fraction(1), rounded=True)
    >>> [round(limit / 2**114, 4) for limit in limits[len(limits) // 2 - 1 :][:2]]
    [0.3085, 0.6915]
    """
    last = isqrt(170 * ceil(variance)) + 1
    return place_thresholds((_integrals if rounded else _bells)(variance, last), BITS)


def _bells(variance: Fraction, last: int) -> list[int]:
    """Return exp(-k^2 / 2 variance) in units of 2^-192, for k = 0..last.

    Each is the one before times q^(2 k - 1), q = exp(-1 / 2 variance). That is known to 2^-185, thus its powers to
    k 2^-183, and what they multiply to, to k^2 2^-183 < 2^-155.
    """
    ratio = sum(_terms(-1 / (2 * variance)))
    square = ratio * ratio >> PRECISION
    bells = [ONE]
    for _ in range(last):
        bells.append(bells[-1] * ratio >> PRECISION)
        ratio = ratio * square >> PRECISION
    return bells


def _terms(x: Fraction) -> list[int]:
    """Return x^i / i! in units of 2^-192, each within two of them, for i = 0 to where they vanish; -1/2 <= x < 0."""
    step, terms = (x.numerator << PRECISION) // x.denominator, [ONE]
    while abs(terms[-1]) > 1:
        terms.append((terms[-1] * step >> PRECISION) // len(terms))
    return terms


def _series(variance: Fraction, last: int) -> list[int]:
    """Return, in units of 2^-192, the coefficients of the series in (k / last)^2 that `_integrals` sums.

    The integral of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2 is exp(-k^2 / 2 variance) times that of
    exp(-u^2 / 8 variance) cosh(y u) over u = 0..1, y = k / 2 variance. Both factors are expanded in powers of u. What
    follows the last coefficient is less than 2^-159: y^2n / (2 n)! is below half that, and falls by half or more.
    """
    terms, series, most, size = _terms(-1 / (8 * variance)), list[int](), (last / (2 * variance)) ** 2, ONE
    while size > ONE >> 160:
        n = len(series)
        integral = sum(term // (2 * (n + i) + 1) for i, term in enumerate(terms))
        series.append(integral * size >> PRECISION)
        size = int(size * most) // ((2 * n + 1) * (2 * n + 2))
    return series


def _integrals(variance: Fraction, last: int) -> list[int]:
    """Return the integrals of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2, k = 0..last, in units of 2^-192.

    Errors are those of `_bells` times cosh(last / 2 variance), which is below 2^10: less than 2^-150.
    """
    series, integrals = _series(variance, last)[::-1], list[int]()
    for k, bell in enumerate(_bells(variance, last)):
        share, total = (k * k << PRECISION) // (last * last), 0
        for coefficient in series:
            total = (total * share >> PRECISION) + coefficient
        integrals.append(bell * total >> PRECISION)
    return integrals
