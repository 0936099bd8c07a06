"""Quantization: from real vectors to the integer grid on which they are summed, and back."""

from __future__ import annotations

from math import isfinite

import numpy as np
from numpy.typing import NDArray

from ..noise.keystream import Keystream
from .ring import CHUNK, LARGEST


def quantize(source: NDArray[np.floating], step: float, bound: int = LARGEST) -> NDArray[np.int64]:
    """Return the vector in units of `step`, rounded to nearest and saturated at `bound`, int64 [count], secret.

    A vector with a coordinate that is not finite becomes zero. Saturation never increases the distance of two
    vectors, so it can cost accuracy but not privacy.

    >>> quantize(np.array([0.5, -1.26]), 0.25).tolist()
    [2, -5]
    """
    vector = np.empty(len(source), dtype=np.int64)
    scaled = np.empty(min(CHUNK, len(source)), dtype=np.float64)
    for start in range(0, len(source), CHUNK):
        part = source[start : start + CHUNK]
        real = np.divide(part, step, out=scaled[: len(part)], dtype=np.float64, casting="unsafe")
        low, high = np.minimum.reduce(real), np.maximum.reduce(real)  # NaN if any coordinate is NaN
        if not (isfinite(low) and isfinite(high)):
            return np.zeros(len(source), dtype=np.int64)
        if low < -bound or high > bound:
            np.clip(real, -bound, bound, out=real)
        vector[start : start + CHUNK] = np.rint(real, out=real)
    return vector


def round_randomly(vector: NDArray[np.float64], step: float, keystream: Keystream) -> NDArray[np.int64]:
    """Return the vector in units of `step`, int64 [count], secret; each number is rounded up with the probability of
    its fraction.

    The mean equals the vector, to 2^-32 of a step.

    Guarantee: if two vectors are rounded by the same draws, a difference of m + f steps becomes m + 1 with
    probability f (to 2^-32), else m. `accountant.renyi` relies on this.
    """
    rounded = np.empty(len(vector), dtype=np.int64)
    for start in range(0, len(vector), CHUNK):
        part = vector[start : start + CHUNK]
        up = keystream.half_words(len(part)) * 2.0**-32
        rounded[start : start + CHUNK] = np.floor(part / step + up)
    return rounded


def dequantize(vector: NDArray[np.int64], step: float) -> NDArray[np.float64]:
    """Return the real vector, float64 of the same shape, from integers in units of `step`."""
    return vector.astype(np.float64) * step
