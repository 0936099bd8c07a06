"""Gaussian noise on integer sums, from a keystream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .keystream import Keystream

CHUNK = 1 << 15
"""Normal pairs made at once, so that the working set stays in cache."""

LEAST_STD, MOST_STD = 2.0**10, 2.0**45
"""The standard deviations, in steps, that noise can be made for."""


def gaussian(std: float, count: int, keystream: Keystream) -> NDArray[np.int64]:
    """Return `count` Gaussian numbers of mean 0 and standard deviation `std`, rounded to whole numbers, secret.

    Box and Muller (1958) on 64-bit uniforms in float64: magnitudes reach 9.4 `std`; beyond lies a mass of
    6e-21 a coordinate.

    Guarantee: added to an integer vector, the sum is the rounding of the exact vector plus real Gaussian noise,
    thus a post-processing of the Gaussian mechanism; no bit below the grid exists that could tell a value from
    its neighbour (Mironov 2012). Each whole number's probability is that of the rounded Gaussian up to float64
    error, which needs `std` between 2^10 and 2^45.

    Raises:
        ValueError: `std` is outside that range.
    """
    if not LEAST_STD <= std <= MOST_STD:
        raise ValueError(f"expected 2^10 <= std <= 2^45, got {std}")
    noise = np.empty(count + count % 2, dtype=np.int64)
    for start in range(0, len(noise), 2 * CHUNK):
        part = noise[start : start + 2 * CHUNK]
        half = len(part) // 2
        radius = std * np.sqrt(-2.0 * np.log(keystream.uniforms(half)))
        angle = 2.0 * np.pi * keystream.uniforms(half)
        part[:half] = np.rint(radius * np.cos(angle))
        part[half:] = np.rint(radius * np.sin(angle))
    return noise[:count]
