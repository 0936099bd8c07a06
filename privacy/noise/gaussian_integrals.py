"""The Gaussian function and its integrals over unit intervals in integer arithmetic, in units of 2^-192.

Results are the same on every machine. Variances are at least 1, arguments at most 13 standard deviations.
"""

from __future__ import annotations

from fractions import Fraction

from .fixed_point import ONE, PRECISION


def gaussian_values(variance: Fraction, last: int, offset: Fraction = Fraction(0)) -> list[int]:
    """Return exp(-(k + offset)^2 / 2 variance) for k = 0..last, with an offset in -1..1 and `last` below 2^14.

    Guarantee: the error is below 2^-155. Proof: value k is value k - 1 times q^(2 k - 1 + 2 offset), with
    q = exp(-1 / 2 variance). The first value, the first ratio and q^2 have errors below 2^-185. Each ratio is the
    ratio before it times q^2. So the error of ratio k is below k 2^-183, and the error of value k is below k^2
    2^-183.

    >>> [round(value / 2**192, 4) for value in gaussian_values(Fraction(1), 2)]
    [1.0, 0.6065, 0.1353]
    """
    value, ratio = (sum(_terms(x / (2 * variance))) for x in (-(offset**2), -1 - 2 * offset))
    square = sum(_terms(-1 / variance))
    found = [value]
    for _ in range(last):
        found.append(found[-1] * ratio >> PRECISION)
        ratio = ratio * square >> PRECISION
    return found


def integrals(variance: Fraction, last: int) -> list[int]:
    """Return the integrals of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2, for k = 0..last.

    Guarantee: the error is below 2^-145. Proof: it is that of `gaussian_values` times cosh(last / 2 variance) < 2^10.
    """
    series, found = _series(variance, last)[::-1], list[int]()
    for k, value in enumerate(gaussian_values(variance, last)):
        part, total = (k * k << PRECISION) // (last * last), 0
        for coefficient in series:
            total = (total * part >> PRECISION) + coefficient
        found.append(value * total >> PRECISION)
    return found


def integral(variance: Fraction, k: int) -> int:
    """Return the integral of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2, for a variance of at least 2^18.

    Guarantee: the error is below 2^-150. Proof: the exponent at k is below 2^7, and exp is computed as the 2^8th
    power of a number with an error below 2^-185. The series has an error below 2^-158, and exp is at most 1.

    >>> round(integral(Fraction(2**20), 1000) / 2**192, 10)
    0.6207436029
    """
    value = sum(_terms(-(k * k) / (variance * 2**9)))
    for _ in range(8):
        value = value * value >> PRECISION
    return value * sum(_series(variance, abs(k))) >> PRECISION


def _terms(x: Fraction) -> list[int]:
    """Return x^i / i! in units of 2^-192, each within two units, for i = 0 until they vanish; |x| <= 1."""
    step, terms = (x.numerator << PRECISION) // x.denominator, [ONE]
    while abs(terms[-1]) > 1:
        terms.append((terms[-1] * step >> PRECISION) // len(terms))
    return terms


def _series(variance: Fraction, last: int) -> list[int]:
    """Return the coefficients of a power series in (k / last)^2: the integral at k over exp(-k^2 / 2 variance).

    The integral of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2 is exp(-k^2 / 2 variance) times the integral of
    exp(-u^2 / 8 variance) cosh(y u) over u = 0..1, with y = k / 2 variance. Both factors are expanded in powers of u.
    The remainder is below 2^-159: the first omitted y^2n / (2 n)! is below 2^-160, and each next one at most half.
    """
    terms, series, most, size = _terms(-1 / (8 * variance)), list[int](), (last / (2 * variance)) ** 2, ONE
    while size > ONE >> 160:
        n = len(series)
        part = sum(term // (2 * (n + i) + 1) for i, term in enumerate(terms))
        series.append(part * size >> PRECISION)
        size = int(size * most) // ((2 * n + 1) * (2 * n + 2))
    return series
