"""Between real vectors and the integer grid on which they are summed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .values import Clipped, Update

LARGEST = 1 << 46
"""No coordinate of one update exceeds this many grid steps, so a sum over 2^16 devices cannot overflow int64."""


def quantize(update: Update, step: float) -> Clipped:
    """Return the update in whole multiples of `step`, rounded to nearest; saturated at 2^46 steps.

    An update with a coordinate that is not finite becomes the zero vector.

    >>> import numpy as np
    >>> quantize(Update(np.array([0.5, -1.26])), 0.25).vector.tolist()
    [2, -5]
    """
    scaled = update.vector.astype(np.float64) / step
    if not np.isfinite(scaled).all():
        return Clipped(np.zeros(len(scaled), dtype=np.int64))
    return Clipped(np.rint(np.clip(scaled, -LARGEST, LARGEST)).astype(np.int64))


def dequantize(vector: NDArray[np.int64], step: float) -> NDArray[np.float64]:
    """Return the real vector, shape and order kept, that integers in units of `step` stand for."""
    return vector.astype(np.float64) * step
