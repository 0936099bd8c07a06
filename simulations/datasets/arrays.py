"""Records from a NumPy .npz file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ...privacy.errors import DataError
from .fields import check_filled, class_numbers, client_numbers, fitted, predicted, reading
from .table import Source, Table

NAMES = ("x", "y", "client", "x_test", "y_test")
_HINT = "save it with numpy.savez(path, x=features, y=labels, client=owners)"


def load_arrays(path: Path, shape: tuple[int, ...], classes: int) -> Source:
    """The arrays x [N, ...] and y [N], with client [N] and x_test, y_test where the file has them.

    uint8 features are divided by 255, others are taken as they are. Labels that are integers are classes; where `y`
    holds floats, they are numbers to predict. Clients are integers or strings.

    Raises: DataError where an array is missing, pickled, of the wrong kind, or holds a wrong value.
    """
    arrays = _read(path)
    train = _table(arrays, "x", "y", path, shape, classes)
    tested = "x_test" in arrays or "y_test" in arrays
    return Source(train, _table(arrays, "x_test", "y_test", path, shape, classes) if tested else None)


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays we know, by name. Objects are never unpickled."""
    with reading(path), path.open("rb") as stream:  # numpy leaves a file open that it fails to read
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is not an .npz file", _HINT)
        with file:
            return {name: _member(file, name, path) for name in NAMES if name in file}


def _member(file: np.lib.npyio.NpzFile, name: str, path: Path) -> np.ndarray:
    try:
        return file[name]
    except ValueError as fault:
        if "allow_pickle" not in str(fault):
            raise
        hint = f"save {name} as numbers or fixed-width strings: {name}.astype(str) for names"
        raise DataError(f"the array {name!r} of {path} is pickled, which could run code", hint) from fault


def _table(arrays: dict[str, np.ndarray], x: str, y: str, path: Path, shape: tuple[int, ...], classes: int) -> Table:
    for name in (x, y):
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}", _HINT)
    features, labels = arrays[x], arrays[y]
    check_filled(features.shape[0] if features.ndim else 0, path)
    are_numbers = arrays["y"].dtype.kind == "f"
    _check_column(labels, len(features), y, "iuf" if are_numbers else "iu", "numbers" if are_numbers else "integers")
    clients = _clients(arrays, len(features)) if x == "x" else None
    place = partial(_place, y, path)
    told = predicted(labels, place) if are_numbers else class_numbers(labels, classes, place)
    return Table(fitted(features, shape, partial(_place, x, path)), told, clients)


def _place(name: str, path: Path, row: int) -> str:
    return f"{name}[{row}] of {path.name}"


def _clients(arrays: dict[str, np.ndarray], length: int) -> np.ndarray | None:
    if "client" not in arrays:
        return None
    _check_column(arrays["client"], length, "client", "iuUS", "integers or strings")
    return client_numbers(arrays["client"])


def _check_column(array: np.ndarray, length: int, name: str, kinds: str, words: str) -> None:
    if array.dtype.kind not in kinds:
        raise DataError(f"the array {name!r} does not hold {words}", _HINT)
    if array.shape != (length,):
        what = f"the array {name!r} has the shape {list(array.shape)}, there are {length} records"
        raise DataError(what, f"give {name} one value for each record")
