"""Records from a table: a .csv or .parquet file with a column `label`, or `target`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from ...privacy.errors import DataError
from .fields import Place, check_filled, class_numbers, client_numbers, fitted, predicted, reading
from .table import Source, Table

if TYPE_CHECKING:
    import pandas as pd

_HINT = (
    "name the columns in the file: label (or target), client where there are owners, and one name for each feature"
)


def load_frame(path: Path, shape: tuple[int, ...], classes: int) -> Source:
    """Every column but label and client is a feature, taken in file order and as it is (nothing is scaled).

    A column target, in place of label, holds numbers to predict.

    Rows in errors are counted from 1, below the names of the columns.

    Raises: DataError where a column is missing, or a cell is missing, not a number, or out of range.
    """
    frame = _read(path)
    told = [name for name in ("label", "target") if name in frame]
    if not told:
        raise DataError(f"{path} has no column 'label'", _HINT)
    if len(told) > 1:
        raise DataError(f"{path} has a column 'label' and a column 'target'", "rename one of them, or leave it out")
    check_filled(len(frame), path)
    names = [name for name in frame.columns if name not in (*told, "client")]
    columns = [_numbers(frame, name, path) for name in names]
    features = np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))
    fitting = fitted(features, shape, lambda row: f"row {row + 1} of {path.name}")
    return Source(Table(fitting, _labels(frame, told[0], path, classes), _clients(frame, path)), None)


def _labels(frame: pd.DataFrame, name: str, path: Path, classes: int) -> np.ndarray:
    values, place = _numbers(frame, name, path), _place(path, name)
    return predicted(values, place) if name == "target" else class_numbers(values, classes, place)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    is_parquet = path.suffix.lower() == ".parquet"
    with reading(path):
        frame = pd.read_parquet(path) if is_parquet else pd.read_csv(path, low_memory=False)
    if not frame.columns.is_unique:
        raise DataError(f"{path} has two columns of one name", _HINT)
    if not is_parquet and not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"the rows of {path} have more values than there are columns named", _HINT)
    return frame


def _numbers(frame: pd.DataFrame, name: str, path: Path) -> np.ndarray:
    """One column as float64 [N], all finite."""
    import pandas as pd

    column = cast("pd.Series", frame[name])
    is_text = pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column)
    if not is_text and not pd.api.types.is_numeric_dtype(column):
        raise DataError(f"the column {name!r} of {path} does not hold numbers", "leave the column out")
    with reading(path):
        numeric = cast("pd.Series", pd.to_numeric(column, errors="coerce") if is_text else column)
        values = numeric.to_numpy(dtype=np.float64, na_value=np.nan)
    faults = ~np.isfinite(values)
    if faults.any():
        what = f"{_place(path, name)(int(faults.argmax()))} is missing or not a finite number"
        raise DataError(what, "give every cell of the column a number, or leave the column or the row out")
    return values


def _clients(frame: pd.DataFrame, path: Path) -> np.ndarray | None:
    if "client" not in frame:
        return None
    missing = frame["client"].isna().to_numpy()
    if missing.any():
        what = f"{_place(path, 'client')(int(missing.argmax()))} is missing"
        raise DataError(what, "name the owner of every record, or leave the column out")
    with reading(path):
        return client_numbers(frame["client"].to_numpy())


def _place(path: Path, name: str) -> Place:
    return lambda row: f"column {name!r}, row {row + 1} of {path.name}"
