"""Sets of devices as bits, one for each position: no device can be in a set twice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..messages import Malformed


def to_bits(members: Iterable[int], devices: int) -> bytes:
    """Return a set of positions below `devices` as bits; position 0 is the lowest bit of the first byte.

    >>> to_bits([0, 2, 9], 10).hex()
    '0502'
    """
    flags = np.zeros(devices, dtype=np.bool_)
    flags[list(members)] = True
    return np.packbits(flags, bitorder="little").tobytes()


def from_bits(bits: bytes, devices: int) -> tuple[int, ...]:
    """Return the sorted positions in a set.

    Raises:
        Malformed: the length does not fit `devices`, or a position is not below `devices`.
    """
    positions = np.flatnonzero(np.unpackbits(np.frombuffer(bits, dtype=np.uint8), bitorder="little"))
    if len(bits) != -(-devices // 8) or (len(positions) and positions[-1] >= devices):
        raise Malformed("not a set of devices")
    return tuple(positions.tolist())
