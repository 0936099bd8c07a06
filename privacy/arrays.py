"""Labelled records in an .npz file, as devices and servers read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32] | NDArray[np.int64]
"""float32 [records, *shape], or tokens, int64 [records, T]."""
Labels = NDArray[np.int64] | NDArray[np.float32]
"""Classes, int64 [records], numbers to predict, float32 [records], or tokens' labels, int64 [records, T]."""


def read_arrays(path: Path) -> tuple[Features, Labels]:
    """Return `x`, float32 [records, *shape], and `y`, int64 [records], of an .npz file.

    Floats `y` are numbers to predict: float32 [records].
    Whole numbers `x` [records, T] with `y` of the same shape are runs of tokens: both are int64 [records, T].

    Raises:
        FileNotFoundError: there is no such file.
        Exception: whatever numpy makes of a damaged one; ValueError if the arrays are not of these kinds.
    """
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        features, labels = arrays["x"], arrays["y"]
    are_tokens = features.dtype.kind in "iu" and features.ndim == 2 and labels.shape == features.shape
    if features.ndim < 2 or not (are_tokens or labels.shape == features.shape[:1]):
        raise ValueError("x and y do not belong together")
    if labels.dtype.kind not in ("iu" if are_tokens else "fiu") or features.dtype.kind not in "fiu":
        raise ValueError("x or y holds no numbers")
    with np.errstate(over="ignore"):
        told = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
        return features.astype(np.int64 if are_tokens else np.float32), told
