"""Shamir's secret sharing over a prime field of 257 bits.

Reference: Shamir, How to share a secret, CACM 1979.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate

PRIME = 2**256 + 297
"""The smallest prime above 2^256: every 32-byte secret is a field element."""

SHARE_BYTES = 33

STEPS = 32
"""Steps of Horner's rule between two reductions modulo PRIME. Points are small, so the number grows slowly."""


def split(secret: bytes, threshold: int, points: Sequence[int]) -> list[bytes]:
    """Return one share, 33 bytes, for each point; any `threshold` of the shares determine the secret of 32 bytes.

    Points are distinct and positive. The polynomial's coefficients come from the operating system.

    Guarantee: fewer than `threshold` shares are jointly independent of the secret.

    Raises:
        ValueError: the threshold is not between 1 and the number of points, or a point is repeated or not positive.
    """
    if not 1 <= threshold <= len(points) or min(points) < 1 or len(set(points)) != len(points):
        raise ValueError("expected 1 <= threshold <= number of points, and distinct points from 1 up")
    polynomial = [secrets.randbelow(PRIME) for _ in range(threshold - 1)] + [int.from_bytes(secret)]
    return [_value(polynomial, point).to_bytes(SHARE_BYTES) for point in points]


def _value(polynomial: Sequence[int], point: int) -> int:
    """Return the polynomial's value modulo PRIME by Horner's rule; the highest coefficient comes first."""
    value = 0
    for first in range(0, len(polynomial), STEPS):
        for coefficient in polynomial[first : first + STEPS]:
            value = value * point + coefficient
        value %= PRIME
    return value


def combine(shares: Mapping[int, bytes]) -> bytes | None:
    """Return the secret of these shares, which are given by point; None if they are not shares of a 32-byte secret.

    The number of shares must be exactly the threshold; the caller must ensure it.
    """
    points = tuple(sorted(shares))
    weights = _weights(points)
    values = (int.from_bytes(shares[point]) for point in points)
    secret = sum(weight * value for weight, value in zip(weights, values, strict=True)) % PRIME
    return secret.to_bytes(32) if secret < 1 << 256 else None


def is_share(data: bytes) -> bool:
    """Whether these 33 bytes are a field element."""
    return len(data) == SHARE_BYTES and int.from_bytes(data) < PRIME


@lru_cache(maxsize=64)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return the Lagrange weights for the value at zero: for point p, the product of o / (o - p) over other points o.

    Montgomery's trick computes all inverses with one inversion.
    """
    below = [point * math.prod([o - point for o in points if o != point]) % PRIME for point in points]
    before = list(accumulate(below, lambda one, other: one * other % PRIME, initial=1))
    rest = math.prod(points) * pow(before.pop(), -1, PRIME) % PRIME
    weights: list[int] = []
    for value, product in zip(reversed(below), reversed(before), strict=True):
        weights.append(rest * product % PRIME)
        rest = rest * value % PRIME
    return tuple(reversed(weights))
