"""Labelled records in an .npz file, as devices and servers read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

Features = NDArray[np.float32] | NDArray[np.int64]
"""float32 [records, *shape], or tokens, int64 [records, T]."""
Labels = NDArray[np.int64] | NDArray[np.float32]
"""Classes, int64 [records], numbers to predict, float32 [records], or tokens' labels, int64 [records, T]."""

_HINT = "give an .npz file with the arrays x and y and no others, as `bract partition` writes"


def read_arrays(path: Path, name: str = "data file") -> tuple[Features, Labels]:
    """Return `x`, float32 [records, *shape], and `y`, int64 [records], of an .npz file that holds these two only.

    As in a simulation, uint8 `x` is divided by 255 and all else is taken as it is.
    Floats `y` are numbers to predict: float32 [records].
    Whole numbers `x` [records, T] with `y` of the same shape are runs of tokens: both are int64 [records, T].
    What is refused follows from the names, types and shapes of the arrays, never from a value in them.

    Raises:
        DataError: there is no such file, it is damaged, or the arrays are not of these kinds. `name` says what it is.
    """
    if not path.exists():
        raise DataError(f"there is no {name} {path}", _HINT)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found: dict[str, NDArray[Any]] = {name: arrays[name] for name in ("x", "y") if name in arrays}
            names = sorted(arrays.files)
    except Exception as cause:  # numpy raises whatever a damaged zip brings up
        raise DataError(f"cannot read the {name} {path}", _HINT) from cause
    if names != ["x", "y"]:
        raise DataError(f"cannot read the {name} {path}: its arrays are {', '.join(names) or 'none'}", _HINT)
    if fault := _fault(found["x"], found["y"]):
        raise DataError(f"cannot read the {name} {path}: {fault}", _HINT)
    return _converted(found["x"], found["y"])


def _are_tokens(features: NDArray[Any], labels: NDArray[Any]) -> bool:
    return features.dtype.kind in "iu" and features.ndim == 2 and labels.shape == features.shape


def _fault(features: NDArray[Any], labels: NDArray[Any]) -> str | None:
    """Return what is wrong with the kinds of the arrays."""
    are_tokens = _are_tokens(features, labels)
    if features.ndim < 2 or not (are_tokens or labels.shape == features.shape[:1]):
        return f"x has the shape {list(features.shape)}, y has {list(labels.shape)}"
    if labels.dtype.kind not in ("iu" if are_tokens else "fiu") or features.dtype.kind not in "fiub":
        return "x or y holds no numbers"
    return None


def _converted(features: NDArray[Any], labels: NDArray[Any]) -> tuple[Features, Labels]:
    with np.errstate(over="ignore"):
        told: Labels = labels.astype(np.float32) if labels.dtype.kind == "f" else labels.astype(np.int64)
        if _are_tokens(features, labels):
            return features.astype(np.int64), told
        numbers = features.astype(np.float32)
    if features.dtype == np.uint8:
        numbers /= 255
    return numbers, told
