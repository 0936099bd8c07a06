"""Reads records from a table: a .csv or .parquet file with a column `label` or `target`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...privacy.errors import DataError
from .checks import Place, as_float32, check_filled, class_numbers, client_numbers, fitted, predicted, refuse_rounded
from .columns import Columns, read_csv, read_parquet
from .notices import column_notices, owner_notices
from .table import Source, Table

_HINT = "name the columns in the file: label (or target), client if there are owners, and a name for each feature"


def load_frame(path: Path, shape: tuple[int, ...], classes: int) -> Source:
    """Return the records of a table. Every column except label and client is a feature, in file order and unscaled.

    A column `target` instead of `label` holds numbers to predict.

    Errors count rows from 1, without the line of column names and without empty lines.

    Raises: DataError if a column or a cell is missing, or if a cell is not a number or is out of range.
    """
    columns = read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)
    targets = [name for name in ("label", "target") if name in columns.numbers]
    if not targets:
        raise DataError(f"{path} has no column 'label'", _HINT)
    if len(targets) > 1:
        raise DataError(f"{path} has a column 'label' and a column 'target'", "rename one of them, or leave it out")
    check_filled(columns.rows, path)
    names = [name for name in columns.numbers if name not in targets]
    features = [_feature(columns, name, path) for name in names]
    stacked = np.stack(features, axis=1) if features else np.empty((columns.rows, 0))
    fitting = fitted(stacked, shape, lambda row: f"row {row + 1} of {path.name}")
    table = Table(fitting, _labels(columns, targets[0], path, classes), _clients(columns, path))
    odd = [*column_notices(table, names, classes), *owner_notices(name or "" for name in columns.clients or [])]
    return Source(table, None, (*columns.notices, *odd))


def _labels(columns: Columns, name: str, path: Path, classes: int) -> np.ndarray:
    values, place = _filled(columns, name, path), _place(path, name)
    if name == "label":
        return class_numbers(values, classes, place)
    refuse_rounded(columns.numbers[name].rounded, place)
    return predicted(values, place)


def _feature(columns: Columns, name: str, path: Path) -> np.ndarray:
    """Return one column as float32 [N]."""
    values, place = _filled(columns, name, path), _place(path, name)
    refuse_rounded(columns.numbers[name].rounded, place)
    return as_float32(values, place)


def _filled(columns: Columns, name: str, path: Path) -> np.ndarray:
    """Return one column as float64 [N]; refuse cells that are not finite."""
    values = columns.numbers[name].values
    faults = ~np.isfinite(values)
    if faults.any():
        what = f"{_place(path, name)(int(faults.argmax()))} is missing or not a finite number"
        raise DataError(what, "give every cell of the column a number, or leave the column or the row out")
    return values


def _clients(columns: Columns, path: Path) -> np.ndarray | None:
    return None if columns.clients is None else client_numbers(columns.clients, _place(path, "client"))


def _place(path: Path, name: str) -> Place:
    return lambda row: f"column {name!r}, row {row + 1} of {path.name}"
