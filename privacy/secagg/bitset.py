"""Sets of devices, as they are sent: one bit a position, so that no device is in a set twice or in two at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..messages import Malformed


def to_bits(members: Iterable[int], devices: int) -> bytes:
    """Return the set of positions below `devices`, least bit of the first byte for position 0.

    >>> to_bits([0, 2, 9], 10).hex()
    '0502'
    """
    flags = np.zeros(devices, dtype=np.bool_)
    flags[list(members)] = True
    return np.packbits(flags, bitorder="little").tobytes()


def from_bits(bits: bytes, devices: int) -> tuple[int, ...]:
    """Return the sorted positions in a set.

    Raises:
        Malformed: its length is not that of `devices` positions, or it holds a position beyond them.
    """
    positions = np.flatnonzero(np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little"))
    if len(bits) != -(-devices // 8) or (len(positions) and positions[-1] >= devices):
        raise Malformed("not a set of devices")
    return tuple(positions.tolist())
