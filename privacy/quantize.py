"""Between real vectors and the integer grid on which they are summed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ring import CHUNK, LARGEST
from .values import Clipped, Update


def quantize(update: Update, step: float, bound: int = LARGEST) -> Clipped:
    """Return the update in whole multiples of `step`, rounded to nearest; saturated at `bound` steps.

    An update with a coordinate that is not finite becomes the zero vector. Saturation moves no two vectors apart,
    so it costs accuracy at most, never privacy.

    >>> import numpy as np
    >>> quantize(Update(np.array([0.5, -1.26])), 0.25).vector.tolist()
    [2, -5]
    """
    source = update.vector
    vector = np.empty(len(source), dtype=np.int64)
    scaled = np.empty(min(CHUNK, len(source)), dtype=np.float64)
    for start in range(0, len(source), CHUNK):
        part = source[start : start + CHUNK]
        real = np.divide(part, step, out=scaled[: len(part)], dtype=np.float64, casting="unsafe")
        if not np.isfinite(real).all():
            return Clipped(np.zeros(len(source), dtype=np.int64))
        np.clip(real, -bound, bound, out=real)
        vector[start : start + CHUNK] = np.rint(real, out=real)
    return Clipped(vector)


def dequantize(vector: NDArray[np.int64], step: float) -> NDArray[np.float64]:
    """Return the real vector, shape and order kept, that integers in units of `step` stand for."""
    return vector.astype(np.float64) * step
