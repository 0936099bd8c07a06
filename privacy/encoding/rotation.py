"""The random rotation before rounding: random signs, then a Hadamard transform.

It spreads a vector evenly over its coordinates, so that each needs fewer bits. The rotation is public, linear and the
same for all devices of a round. It preserves the L2 norm; privacy does not depend on it.

Reference: Suresh et al., Distributed Mean Estimation with Limited Communication, ICML 2017, section 3.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..noise.keystream import Keystream

SIDE = 64
BLOCK = SIDE * SIDE
"""Coordinates of a block: a matrix of 64 by 64, multiplied by a Hadamard matrix from both sides.

A block takes coordinates from all over the vector, at equal distances, so neighbours lie in different blocks. The
large numbers of one layer do not meet in one block, where they could exceed the range of the sums.
"""


def padded(count: int) -> int:
    """Return the number of coordinates after rotation: a multiple of BLOCK, or a power of two below it.

    >>> padded(51), padded(4096), padded(121_930)
    (64, 4096, 122880)
    """
    return -(-count // BLOCK) * BLOCK if count > BLOCK else 1 << max(count - 1, 1).bit_length()


def rotate(vector: NDArray[np.floating], seed: bytes) -> NDArray[np.float64]:
    """Return the rotated vector, float64 [padded(count)], of a vector [count]. `seed` is 32 public bytes.

    Guarantee: the map is linear and preserves the L2 norm, up to float64 rounding (1e-13 relative).
    """
    size = padded(len(vector))
    rotated = np.zeros(size)
    rotated[: len(vector)] = vector
    rotated *= _signs(seed, size)
    return _mix(rotated)


def unrotate(rotated: NDArray[np.float64], seed: bytes, count: int) -> NDArray[np.float64]:
    """Return the vector, float64 [count], from its rotation under the same seed."""
    return (_mix(rotated) * _signs(seed, len(rotated)))[:count]


def _mix(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vector with each block multiplied by the orthonormal Hadamard matrix, which is its own inverse."""
    high = hadamard(min(SIDE, len(vector)))
    low = hadamard(min(BLOCK, len(vector)) // len(high))
    mixed = np.matmul(high, vector.reshape(len(high), -1))
    return np.matmul(low, mixed.reshape(len(high), len(low), -1)).reshape(-1)


@lru_cache(maxsize=16)
def hadamard(side: int) -> NDArray[np.float64]:
    """Return the symmetric orthonormal Hadamard matrix, [side, side], of a power of two (Sylvester 1867).

    >>> (hadamard(2) * 2**0.5).round().tolist()
    [[1.0, 1.0], [1.0, -1.0]]
    """
    matrix = np.ones((1, 1))
    while len(matrix) < side:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix / side**0.5


@lru_cache(maxsize=2)
def _signs(seed: bytes, count: int) -> NDArray[np.float64]:
    bits = np.unpackbits(np.frombuffer(Keystream(seed).bytes(-(-count // 8)), dtype=np.uint8))[:count]
    return np.where(bits, -1.0, 1.0)
