"""Shamir's secret sharing: any threshold opens, fewer say nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.secagg import shamir
from bract.privacy.secagg.shamir import PRIME, SHARE_BYTES, combine, is_share, split

MODULE = "bract.privacy.secagg.shamir"
secret_bytes = st.binary(min_size=32, max_size=32)


def draw(monkeypatch: pytest.MonkeyPatch, coefficients: Iterable[int]) -> None:
    """Let `split` draw these coefficients, of the highest power first."""
    queue = iter(coefficients)
    monkeypatch.setattr(f"{MODULE}.secrets.randbelow", lambda limit: next(queue))


@st.composite
def sharings(draw: st.DrawFn) -> tuple[list[int], int, list[int]]:
    """Points, a threshold, and as many of the points as the threshold says."""
    points = draw(st.lists(st.integers(1, 2**20), min_size=1, max_size=12, unique=True))
    threshold = draw(st.integers(1, len(points)))
    return points, threshold, draw(st.permutations(points))[:threshold]


@given(secret_bytes, sharings())
def test_any_threshold_of_the_shares_gives_the_secret(secret: bytes, sharing: Any) -> None:
    points, threshold, chosen = sharing
    shares = dict(zip(points, split(secret, threshold, points), strict=True))
    assert all(is_share(share) for share in shares.values())
    assert combine({point: shares[point] for point in chosen}) == secret


@given(secret_bytes, sharings())
def test_one_share_less_gives_something_else(secret: bytes, sharing: Any) -> None:
    """By chance it gives the secret with probability 2^-257."""
    points, threshold, chosen = sharing
    if threshold > 1:
        shares = dict(zip(points, split(secret, threshold, points), strict=True))
        assert combine({point: shares[point] for point in chosen[1:]}) != secret


@pytest.mark.parametrize(
    ("prime", "threshold", "points"), [(7, 2, (1, 2, 3)), (7, 3, (1, 3, 6)), (5, 4, (1, 2, 3, 4))]
)
def test_too_few_shares_over_a_tiny_field_are_uniform(
    monkeypatch: pytest.MonkeyPatch, prime: int, threshold: int, points: tuple[int, ...]
) -> None:
    """Fewer than the threshold, exactly, whatever the secret."""
    monkeypatch.setattr(shamir, "PRIME", prime)
    for secret, known in product(range(prime), combinations(range(len(points)), threshold - 1)):
        seen: Counter[tuple[bytes, ...]] = Counter()
        for coefficients in product(range(prime), repeat=threshold - 1):
            draw(monkeypatch, coefficients)
            shares = split(secret.to_bytes(32, "big"), threshold, points)
            seen[tuple(shares[i] for i in known)] += 1
        assert len(seen) == prime ** (threshold - 1)
        assert set(seen.values()) == {1}


def test_any_other_secret_fits_the_same_two_shares_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two shares of a quadratic polynomial: for each secret there is exactly one pair of coefficients."""
    one, other = b"\x00" * 32, b"\xff" * 32
    x, y = 3, 7
    draw(monkeypatch, [11, 13])
    shares = split(one, 3, [x, y, 9])
    u, v = (int.from_bytes(share, "big") - int.from_bytes(other, "big") for share in shares[:2])
    inverse = pow(x * y * (y - x), -1, PRIME)
    square, linear = (v * x - u * y) * inverse % PRIME, (u * y * y - v * x * x) * inverse % PRIME
    draw(monkeypatch, [square, linear])
    again = split(other, 3, [x, y, 9])
    assert again[:2] == shares[:2]
    assert again[2] != shares[2]


def test_every_coefficient_is_drawn_from_the_whole_field(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the operating system."""
    drawn: list[int] = []
    monkeypatch.setattr(f"{MODULE}.secrets.randbelow", lambda limit: drawn.append(limit) or 5)
    split(bytes(32), 4, [1, 2, 3, 4, 5])
    assert drawn == [PRIME] * 3


def test_two_sharings_of_one_secret_have_nothing_in_common() -> None:
    """False alarm: 2^-250."""
    points = [*range(1, 11)]
    assert not set(split(bytes(32), 5, points)) & set(split(bytes(32), 5, points))


@pytest.mark.parametrize(
    ("threshold", "points"),
    [(0, [1, 2]), (-1, [1, 2]), (3, [1, 2]), (1, []), (2, [0, 1]), (2, [-1, 1]), (2, [1, 1, 2]), (1, [5, 5])],
)
def test_wrong_thresholds_and_points_are_rejected(threshold: int, points: list[int]) -> None:
    with pytest.raises(ValueError, match=r"."):
        split(bytes(32), threshold, points)


def test_shares_of_a_value_that_no_secret_has_give_none() -> None:
    for value in (2**256, PRIME - 1):
        assert combine({4: value.to_bytes(SHARE_BYTES, "big")}) is None
    assert combine({4: (2**256 - 1).to_bytes(SHARE_BYTES, "big")}) == b"\xff" * 32


@pytest.mark.parametrize(
    ("data", "good"),
    [
        (bytes(SHARE_BYTES), True),
        ((PRIME - 1).to_bytes(SHARE_BYTES, "big"), True),
        (PRIME.to_bytes(SHARE_BYTES, "big"), False),
        (b"\xff" * SHARE_BYTES, False),
        (bytes(SHARE_BYTES - 1), False),
        (bytes(SHARE_BYTES + 1), False),
        (b"", False),
    ],
)
def test_a_share_is_a_field_element_of_33_bytes(data: bytes, good: bool) -> None:
    assert is_share(data) is good


def probably_prime(n: int) -> bool:
    """Miller and Rabin with 40 bases: wrong with probability under 4^-40 for a random odd n."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in range(2, 42):
        powers = [pow(base, odd << i, n) for i in range(twos)]
        if powers[0] != 1 and n - 1 not in powers:
            return False
    return True


def test_the_field_has_the_smallest_prime_above_all_secrets() -> None:
    assert probably_prime(PRIME)
    assert not any(probably_prime(n) for n in range(2**256 + 1, PRIME, 2))
