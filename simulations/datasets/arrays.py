"""Reads records from a NumPy .npz file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from .checks import check_filled, class_numbers, client_numbers, fitted, predicted, reading
from .notices import column_notices, owner_notices
from .rescaling import rescaled
from .table import Source, Table

NAMES = ("x", "y", "client", "x_test", "y_test")
_HINT = "save it with numpy.savez(path, x=features, y=labels, client=owners)"


def load_arrays(path: Path, data: Data) -> Source:
    """Return the records in the arrays x [N, ...], y [N] and, if they exist, client [N], x_test and y_test.

    uint8 features are divided by 255, other features stay unchanged; x and x_test have one kind of type. Integer
    labels are classes, floating-point labels are numbers to predict. Clients are integers or strings.

    Raises: DataError if an array is missing, unknown, pickled, of the wrong kind, or holds a wrong value.
    """
    arrays, shape, classes = _read(path), data.shape, data.classes
    train = _table(arrays, "x", "y", path, shape, classes)
    tested = "x_test" in arrays or "y_test" in arrays
    test = _table(arrays, "x_test", "y_test", path, shape, classes) if tested else None
    if test is not None:
        _check_alike(arrays["x"], arrays["x_test"], path)
    columns = [f"x[:, {column}]" for column in range(train.features[0].size)] if arrays["x"].ndim <= 2 else None
    owners = _names(arrays["client"], path) if "client" in arrays else []
    source = Source(train, test, (*column_notices(train, columns, classes), *owner_notices(owners)))
    return rescaled(source, path, data)


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays by name. Objects are never unpickled."""
    with reading(path), path.open("rb") as stream:  # numpy does not close a file that it fails to read
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is not an .npz file", _HINT)
        with file:
            _check_names(file.files, path)
            return {name: _member(file, name, path) for name in file.files}


def _check_names(names: list[str], path: Path) -> None:
    for name in ("x", "y"):
        if name not in names:
            raise DataError(f"{path} has no array {name!r}", _HINT)
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        what = f"{path} holds an array {unknown[0]!r}, which is none of {', '.join(NAMES)}"
        raise DataError(what, "rename it to one of them, or leave it out")
    if len(set(names)) != len(names):
        raise DataError(f"{path} holds two arrays with the same name", _HINT)


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
    clients = _clients(arrays, len(features), path) if x == "x" else None
    place = partial(_place, y, path)
    checked = predicted(labels, place) if are_numbers else class_numbers(labels, classes, place)
    return Table(fitted(features, shape, partial(_place, x, path)), checked, clients)


def _place(name: str, path: Path, row: int) -> str:
    return f"{name}[{row}] of {path.name}"


def _clients(arrays: dict[str, np.ndarray], length: int, path: Path) -> np.ndarray | None:
    if "client" not in arrays:
        return None
    _check_column(arrays["client"], length, "client", "iuUS", "integers or strings")
    return client_numbers(_names(arrays["client"], path), partial(_place, "client", path))


def _names(clients: np.ndarray, path: Path) -> list[str]:
    """Return integer or string names as text; bytes are decoded as UTF-8."""
    with reading(path):
        return (np.char.decode(clients, "utf-8") if clients.dtype.kind == "S" else clients.astype(str)).tolist()


def _check_column(array: np.ndarray, length: int, name: str, kinds: str, words: str) -> None:
    if array.dtype.kind not in kinds:
        raise DataError(f"the array {name!r} does not hold {words}", _HINT)
    if array.shape != (length,):
        what = f"the array {name!r} has the shape {list(array.shape)}, there are {length} records"
        raise DataError(what, f"give {name} one value for each record")


def _check_alike(x: np.ndarray, x_test: np.ndarray, path: Path) -> None:
    """Refuse x and x_test if their types could mean different scales."""
    kinds = ["uint8" if array.dtype == np.uint8 else array.dtype.kind.replace("u", "i") for array in (x, x_test)]
    if kinds[0] != kinds[1]:
        what = f"x of {path} is {x.dtype.name}, x_test is {x_test.dtype.name}: they may be scaled differently"
        raise DataError(what, "save both as one type: uint8 is divided by 255, other types stay unchanged")
