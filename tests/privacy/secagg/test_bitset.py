"""Sets of positions as bytes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.messages import Malformed
from bract.privacy.secagg.bitset import from_bits, to_bits


@st.composite
def sets(draw: st.DrawFn) -> tuple[Collection[int], int]:
    devices = draw(st.integers(1, 600))
    return draw(st.lists(st.integers(0, devices - 1), max_size=40)), devices


@given(sets())
def test_a_set_comes_back_sorted_and_without_repeats(case: Any) -> None:
    members, devices = case
    bits = to_bits(members, devices)
    assert len(bits) == -(-devices // 8)
    assert from_bits(bits, devices) == tuple(sorted(set(members)))


@given(st.binary(max_size=10), st.integers(1, 64))
def test_bytes_are_a_set_in_one_way_or_malformed(bits: bytes, devices: int) -> None:
    try:
        members = from_bits(bits, devices)
    except Malformed:
        assert len(bits) != -(-devices // 8) or int.from_bytes(bits, "little") >= 1 << devices
    else:
        assert to_bits(members, devices) == bits


@pytest.mark.parametrize(
    ("bits", "devices"), [(b"", 1), (b"\x01\x00", 8), (b"\x01", 9), (b"\x20", 5), (b"\x00\x02", 9)]
)
def test_a_wrong_length_or_an_unknown_position_is_malformed(bits: bytes, devices: int) -> None:
    """A position beyond the devices."""
    with pytest.raises(Malformed):
        from_bits(bits, devices)


def test_a_member_beyond_the_devices_does_not_fit() -> None:
    with pytest.raises(IndexError):
        to_bits([8], 8)
