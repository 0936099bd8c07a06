"""Poisson samples and random permutations from a secret keystream. Amplification by sampling rests on the samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .noise.keystream import Keystream


def poisson_sample(keystream: Keystream, rate: float, count: int) -> NDArray[np.bool_]:
    """Return a Poisson sample, bool [count]: each entry is true with probability `rate`, independently; secret.

    Guarantee: the probability is exact to 2^-64, because a 64-bit word is compared with an integer.
    Reference: Abadi et al. 2016, section 3.1, lots with independent inclusion; Mironov, Talwar, Zhang 2019.
    """
    if rate >= 1:
        return np.ones(count, dtype=np.bool_)
    return keystream.words(count) < np.uint64(int(rate * 2.0**64))


def permutation(keystream: Keystream, count: int) -> NDArray[np.int64]:
    """Return the numbers 0..count-1 in uniformly random order, int64 [count]; secret if the keystream is."""
    return np.argsort(keystream.words(count), kind="stable").astype(np.int64)
