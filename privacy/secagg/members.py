"""Sets of devices, as they are sent: one bit a position, so that no device can be in a set twice or in two at once."""

from __future__ import annotations

from collections.abc import Iterable

from ..messages import Malformed


def to_bits(members: Iterable[int], devices: int) -> bytes:
    """Return the set of positions below `devices`, least bit of the first byte for position 0.

    >>> to_bits([0, 2, 9], 10).hex()
    '0502'
    """
    return sum(1 << member for member in set(members)).to_bytes(-(-devices // 8), "little")


def from_bits(bits: bytes, devices: int) -> tuple[int, ...]:
    """Return the sorted positions in a set.

    Raises:
        Malformed: its length is not that of `devices` positions, or it holds a position beyond them.
    """
    number = int.from_bytes(bits, "little")
    if len(bits) != -(-devices // 8) or number >> devices:
        raise Malformed("not a set of devices")
    return tuple(position for position in range(devices) if number >> position & 1)
