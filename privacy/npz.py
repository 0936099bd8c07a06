"""Reading labelled records from an .npz file, for devices and servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

Features = NDArray[np.float32] | NDArray[np.int64]
"""float32 [records, *shape], or tokens, int64 [records, T]."""
Labels = NDArray[np.int64] | NDArray[np.float32]
"""Classes, int64 [records], targets of a regression, float32 [records], or labels of tokens, int64 [records, T]."""

MARK = "transforms"
"""The array that says which transforms of a plan the records went through."""

_HINT = "give an .npz file with the arrays x and y and no others, as `bract partition` writes"


def read_arrays(path: Path, name: str = "data file") -> tuple[Features, Labels]:
    """Return `x`, float32 [records, *shape], and `y`, int64 [records], of an .npz file; it may hold a mark too.

    As in a simulation, uint8 `x` is divided by 255; other values are unchanged.
    If `y` holds floats, they are the targets of a regression: float32 [records].
    If `x` holds integers [records, T] and `y` has the same shape, both are sequences of tokens: int64 [records, T].
    Whether a file is refused depends on the names, types and shapes of its arrays, never on their values.

    Raises:
        DataError: the file is missing or damaged, or its arrays are of other kinds. The text calls the file `name`.
    """
    if not path.exists():
        raise DataError(f"there is no {name} {path}", _HINT)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            found: dict[str, NDArray[Any]] = {name: arrays[name] for name in ("x", "y") if name in arrays}
            names = sorted(arrays.files)
    except Exception as cause:  # numpy raises exceptions of many types for a damaged zip
        raise DataError(f"cannot read the {name} {path}", _HINT) from cause
    if [name for name in names if name != MARK] != ["x", "y"]:
        raise DataError(f"cannot read the {name} {path}: its arrays are {', '.join(names) or 'none'}", _HINT)
    if fault := _fault(found["x"], found["y"]):
        raise DataError(f"cannot read the {name} {path}: {fault}", _HINT)
    return _converted(found["x"], found["y"])


def read_mark(path: Path) -> str | None:
    """Return the transforms (`Data.transforms`) that a file's records went through, or None if the file has no mark.

    Raises:
        DataError: the file cannot be read, or its mark is not a text.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            mark = arrays.get(MARK)
    except Exception as cause:
        raise DataError(f"cannot read the data file {path}", _HINT) from cause
    if mark is None:
        return None
    if mark.shape != () or mark.dtype.kind != "U":
        raise DataError(f"cannot read the data file {path}: its array {MARK} is not a text", _HINT)
    return str(mark)


def _are_tokens(features: NDArray[Any], labels: NDArray[Any]) -> bool:
    return features.dtype.kind in "iu" and features.ndim == 2 and labels.shape == features.shape


def _fault(features: NDArray[Any], labels: NDArray[Any]) -> str | None:
    """Return what is wrong with the types or shapes of the arrays, or None."""
    are_tokens = _are_tokens(features, labels)
    if features.ndim < 2 or not (are_tokens or labels.shape == features.shape[:1]):
        return f"x has the shape {list(features.shape)}, y has {list(labels.shape)}"
    if labels.dtype.kind not in ("iu" if are_tokens else "fiu") or features.dtype.kind not in "fiub":
        return "x or y holds no numbers"
    return None


def _converted(features: NDArray[Any], labels: NDArray[Any]) -> tuple[Features, Labels]:
    with np.errstate(over="ignore"):
        targets: Labels = labels.astype(np.float32) if labels.dtype.kind == "f" else labels.astype(np.int64)
        if _are_tokens(features, labels):
            return features.astype(np.int64), targets
        numbers = features.astype(np.float32)
    if features.dtype == np.uint8:
        numbers /= 255
    return numbers, targets
