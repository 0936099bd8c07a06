"""Layers of distributed noise: devices add them in case others drop out, and the server removes unneeded ones.

Each layer is Skellam noise from a seed of its own, so whoever has the seed can subtract the layer exactly.

Reference: Jiang, Wang, Chen 2024, Dordis, section 4 (XNoise).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..noise.keystream import KEY_BYTES, Keystream
from ..noise.skellam import skellam

SEED_BYTES = KEY_BYTES

SURPLUS = 10
"""The variance of the noise may exceed the claimed variance by the factor 1 + 1/SURPLUS."""


def steps_of_dropouts(honest: int, most: int) -> tuple[int, ...]:
    """Return rising numbers of dropouts, up to `most`: with the first i layers, noise suffices for the i-th number.

    Counting starts at zero. `honest` is the number of honest devices if nobody drops out. If d devices drop out, the
    layers kept are those for the first number in the list that is at least d. The list is as short as possible while
    the surplus of noise stays within a tenth of the variance. If the list needs no number but `most`, there are no
    layers. Public.

    >>> steps_of_dropouts(67, 30)
    (0, 7, 13, 18, 23, 27, 30)
    >>> steps_of_dropouts(8, 3), steps_of_dropouts(67, 6)
    ((0, 1, 2, 3), (6,))
    """
    if SURPLUS * honest <= (SURPLUS + 1) * (honest - most):
        return (most,)
    steps = [0]
    while steps[-1] < most:
        left = honest - steps[-1] - 1
        steps.append(min(most, max(steps[-1] + 1, honest - -(-SURPLUS * left // (SURPLUS + 1)))))
    return tuple(steps)


def split_seeds(seeds: bytes) -> list[bytes]:
    """Return the seeds, 32 bytes each, from their concatenation."""
    return [seeds[at : at + SEED_BYTES] for at in range(0, len(seeds), SEED_BYTES)]


def layer_noise(variances: Sequence[float], seeds: Sequence[bytes], count: int) -> NDArray[np.int64]:
    """Return the sum of the layers of these variances from these seeds, int64 [count]; secret if the seeds are.

    Raises:
        ValueError: there are not as many seeds as variances.
    """
    noise = np.zeros(count, dtype=np.int64)
    for variance, seed in zip(variances, seeds, strict=True):
        noise += skellam(variance, count, Keystream(seed))
    return noise
