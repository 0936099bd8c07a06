"""What every reader of the user's own files does with features, labels and clients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...privacy.errors import DataError

Place = Callable[[int], str]  # how the reader of an error finds record i: never what is in it


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Nothing; what a library raises on a damaged file leaves as a DataError that quotes nothing of it."""
    try:
        yield
    except DataError:
        raise
    except Exception as fault:  # readers of foreign files raise nearly everything
        what = f"cannot read {path} ({type(fault).__name__})"
        raise DataError(what, "check that the file is whole and of the kind that its name says") from fault


def fitted(features: np.ndarray, shape: tuple[int, ...], place: Place) -> np.ndarray:
    """float32 [N, *shape] from numbers [N, ...] of as many values a record; uint8 is divided by 255.

    Raises: DataError where sizes do not fit, the axes are in another order, or a value is not finite.
    """
    _check_sizes(features.shape[1:], shape)
    if features.dtype.kind not in "biuf":
        raise DataError("the features are not numbers", "save them as an array of floats or of uint8 pixels")
    with np.errstate(over="ignore"):
        numbers = features.astype(np.float32).reshape(len(features), *shape)
    if features.dtype == np.uint8:
        numbers /= 255
    faults = ~np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1)
    if faults.any():
        what = f"{place(int(faults.argmax()))} holds a value that is not a finite number"
        raise DataError(what, "fill in or leave out the missing and infinite values")
    return numbers


def class_numbers(labels: np.ndarray, classes: int, place: Place) -> np.ndarray:
    """int64 [N] in 0..classes-1 from finite numbers [N].

    Raises: DataError that names the first record whose label is not one of the classes.
    """
    faults = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if faults.any():
        what = f"{place(int(faults.argmax()))} is not one of the classes 0..{classes - 1}"
        raise DataError(what, "number the classes from 0, or raise data.classes in the plan")
    return labels.astype(np.int64)


def predicted(values: np.ndarray, place: Place) -> np.ndarray:
    """float32 [N] from numbers [N]: what is to be predicted.

    Raises: DataError that names the first record whose number is not finite.
    """
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    faults = ~np.isfinite(numbers)
    if faults.any():
        what = f"{place(int(faults.argmax()))} is not a finite number"
        raise DataError(what, "fill in or leave out the missing and infinite values")
    return numbers


def client_numbers(names: np.ndarray) -> np.ndarray:
    """int64 [N] in 0..K-1: the rank of each record's client among the sorted distinct names."""
    sortable = names.astype(str) if names.dtype == object else names
    return np.unique(sortable, return_inverse=True)[1].reshape(-1).astype(np.int64)


def check_filled(count: int, path: Path) -> None:
    """Nothing where there is a record.

    Raises: DataError where there is none.
    """
    if count == 0:
        raise DataError(f"{path} holds no records", "set data.path to data that hold at least one record")


def _check_sizes(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if math.prod(found) != math.prod(shape):
        raise DataError(
            f"a record has {math.prod(found)} values {_listed(found)}, the plan's shape {_listed(shape)} "
            f"wants {math.prod(shape)}",
            "set data.shape to the shape of one record, or leave out what is no feature",
        )
    if len(shape) == 3 and found != shape and found == (*shape[1:], shape[0]) and shape[0] > 1:
        raise DataError(
            f"the channels come last {_listed(found)}, the plan's shape {_listed(shape)} has them first",
            "move them: x.transpose(0, 3, 1, 2)",
        )


def _listed(shape: tuple[int, ...]) -> str:
    return str(list(shape))
