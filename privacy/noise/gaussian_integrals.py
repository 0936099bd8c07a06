"""The Gaussian bell in whole numbers: its values, and its integrals over unit intervals, in units of 2^-192.

The same on every machine. Variances are 1 or more, and nothing reaches further than 13 standard deviations.
"""

from __future__ import annotations

from fractions import Fraction

from .table_sampler import PRECISION

ONE = 1 << PRECISION


def bells(variance: Fraction, last: int, offset: Fraction = Fraction(0)) -> list[int]:
    """Return exp(-(k + offset)^2 / 2 variance) for k = 0..last; the offset is -1..1, last below 2^14.

    Guarantee: within 2^-155. Proof: each is the one before times q^(2 k - 1 + 2 offset), q = exp(-1 / 2 variance).
    The first two and q^2 are known to 2^-185, thus the ratios, which powers of q^2 lead to, to k 2^-183, and what
    they multiply to, to k^2 2^-183.

    >>> [round(bell / 2**192, 4) for bell in bells(Fraction(1), 2)]
    [1.0, 0.6065, 0.1353]
    """
    bell, ratio = (sum(_terms(x / (2 * variance))) for x in (-(offset**2), -1 - 2 * offset))
    square = sum(_terms(-1 / variance))
    found = [bell]
    for _ in range(last):
        found.append(found[-1] * ratio >> PRECISION)
        ratio = ratio * square >> PRECISION
    return found


def integrals(variance: Fraction, last: int) -> list[int]:
    """Return the integrals of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2, for k = 0..last.

    Guarantee: within 2^-145. Proof: errors are those of `bells` times cosh(last / 2 variance), which is below 2^10.
    """
    series, found = _series(variance, last)[::-1], list[int]()
    for k, bell in enumerate(bells(variance, last)):
        share, total = (k * k << PRECISION) // (last * last), 0
        for coefficient in series:
            total = (total * share >> PRECISION) + coefficient
        found.append(bell * total >> PRECISION)
    return found


def integral(variance: Fraction, k: int) -> int:
    """Return the integral of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2; variance 2^18 or more.

    Guarantee: within 2^-150. Proof: the bell at k, whose exponent is below 2^7, is the 2^8th power of a number known
    to 2^-185; the series errs by less than 2^-158, and the bell is 1 at most.

    >>> round(integral(Fraction(2**20), 1000) / 2**192, 10)
    0.6207436029
    """
    bell = sum(_terms(-(k * k) / (variance * 2**9)))
    for _ in range(8):
        bell = bell * bell >> PRECISION
    return bell * sum(_series(variance, abs(k))) >> PRECISION


def _terms(x: Fraction) -> list[int]:
    """Return x^i / i! in units of 2^-192, each within two of them, for i = 0 to where they vanish; |x| <= 1."""
    step, terms = (x.numerator << PRECISION) // x.denominator, [ONE]
    while abs(terms[-1]) > 1:
        terms.append((terms[-1] * step >> PRECISION) // len(terms))
    return terms


def _series(variance: Fraction, last: int) -> list[int]:
    """Return the coefficients of the series in (k / last)^2 that is an integral at k over the bell there.

    The integral of exp(-t^2 / 2 variance) from k - 1/2 to k + 1/2 is exp(-k^2 / 2 variance) times that of
    exp(-u^2 / 8 variance) cosh(y u) over u = 0..1, y = k / 2 variance. Both factors are expanded in powers of u. What
    follows the last coefficient is less than 2^-159: y^2n / (2 n)! is below half that, and falls by half or more.
    """
    terms, series, most, size = _terms(-1 / (8 * variance)), list[int](), (last / (2 * variance)) ** 2, ONE
    while size > ONE >> 160:
        n = len(series)
        part = sum(term // (2 * (n + i) + 1) for i, term in enumerate(terms))
        series.append(part * size >> PRECISION)
        size = int(size * most) // ((2 * n + 1) * (2 * n + 2))
    return series
