"""Reads records from objects in memory: arrays, tensors, pandas tables, and Hugging Face data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...privacy import DataError
from ..datasets.checks import class_numbers, client_numbers, fitted, named_classes, predicted
from ..datasets.columns import RESERVED
from ..datasets.notices import column_notices, owner_notices
from ..datasets.splits import training_clients
from ..datasets.table import Source, Table

Columns = dict[str, np.ndarray]
"""The arrays x [N, ...], y [N] and client [N]; y and client may be missing."""

FORMS = "give (x, y) or (x, y, clients), a dict of x, y and client, a pandas table, or a Hugging Face data set"


def columns_of(data: Any) -> Columns:
    """Return the features, labels and clients of an object in memory, by the names x, y and client.

    In a table, `label` (or `target`) is y and `client` names the owners; every other column is a feature. If a table
    has one other column and it holds arrays, such as pictures, these are the features.

    Raises:
        DataError: the object has none of these forms.
    """
    if isinstance(data, tuple) and 1 <= len(data) <= 3:
        named: dict[str, Any] = dict(zip(("x", "y", "client"), data, strict=False))
    elif isinstance(data, Mapping):
        named = dict(data)
        if unknown := sorted(map(str, set(named) - {"x", "y", "client"})):
            raise DataError(f"the data have a member {unknown[0]!r}", "name the members x, y and client")
    elif to_pandas := getattr(data, "to_pandas", None):
        return _of_table(to_pandas())
    elif hasattr(data, "columns") and hasattr(data, "iloc"):
        return _of_table(data)
    else:
        named = {"x": data}
    arrays = {name: _array(value) for name, value in named.items() if value is not None}
    if "x" not in arrays or arrays["x"].ndim == 0 or arrays["x"].dtype.kind not in "biuf":
        raise DataError("the data hold no array of numbers as features", FORMS)
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise DataError(f"the arrays have different lengths: {lengths}", "give each record one label and one client")
    return arrays


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _of_table(frame: Any) -> Columns:
    names = [str(name) for name in frame.columns]
    targets = [name for name in ("label", "target") if name in names]
    if len(targets) > 1:
        raise DataError("the table has a column 'label' and a column 'target'", "leave one of them out")
    features = [name for name in names if name not in RESERVED]
    if not features:
        raise DataError("the table has no column of features", FORMS)
    found = {"x": _features(frame, features)}
    if targets:
        found["y"] = np.asarray(frame[targets[0]])
        if targets[0] == "target":
            found["y"] = found["y"].astype(np.float64)
    if "client" in names:
        found["client"] = np.asarray(frame["client"])
    return found


def _features(frame: Any, names: Sequence[str]) -> np.ndarray:
    columns = [np.asarray(frame[name]) for name in names]
    if len(columns) == 1 and columns[0].dtype == object:
        try:
            return np.stack([np.asarray(one) for one in columns[0]])
        except ValueError as fault:
            raise DataError(f"the records of the column {names[0]!r} have different shapes", FORMS) from fault
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind not in "biuf":
            what = f"the column {name!r} does not hold numbers"
            raise DataError(what, "encode it as numbers, or leave it out: df.drop(columns=[...])")
    return np.stack(columns, axis=1)


def data_facts(found: Columns, fraction: float) -> dict[str, Any]:
    """Return the [data] table that follows from arrays: shape, classes, split, and the clients that train.

    If records have owners, a fraction of the owners is held out.
    """
    x, y = found["x"], _labels(found)
    classes = 1 if y.dtype.kind == "f" else len(np.unique(y)) if y.dtype.kind in "UO" else int(y.max(initial=0)) + 1
    facts: dict[str, Any] = {"name": "arrays", "shape": list(x.shape[1:]), "classes": classes}
    if "client" in found:
        return facts | {"split": "natural", "clients": training_clients(len(np.unique(found["client"])), fraction)}
    return facts | {"split": "iid"}


def _labels(found: Columns) -> np.ndarray:
    if "y" not in found:
        raise DataError("the data have no labels", FORMS)
    y = found["y"]
    return y.astype(str) if y.dtype.kind == "O" else y


def source_of(found: Columns, shape: tuple[int, ...], classes: int) -> Source:
    """Return arrays as a data set: int or text labels are classes, floats are numbers to predict.

    Raises:
        DataError: they do not fit the shape and the classes, or hold a missing value.
    """
    table = table_of(found, shape, classes)
    names = [f"x[:, {column}]" for column in range(found["x"].shape[1])] if found["x"].ndim == 2 else None
    owners = [str(name) for name in found["client"].tolist()] if "client" in found else []
    odd = [] if table.has_tokens else [*column_notices(table, names, classes), *owner_notices(owners)]
    return Source(table, None, tuple(odd))


def table_of(found: Columns, shape: tuple[int, ...], classes: int) -> Table:
    """Return arrays as a table of records, as `source_of` does."""
    x, y = found["x"], _labels(found)
    clients = None
    if "client" in found:
        clients = client_numbers([str(name) for name in found["client"].tolist()], lambda row: f"client {row}")
    if x.dtype.kind in "iu" and y.ndim == 2:
        return Table(x.astype(np.int64), y.astype(np.int64), clients)
    if y.ndim != 1 or y.dtype.kind not in "biufU":
        raise DataError("the labels are not one class or one number for each record", FORMS)
    features = fitted(x, shape, lambda row: f"record {row}")
    if y.dtype.kind == "f":
        return Table(features, predicted(y, _label), clients)
    if y.dtype.kind == "U":
        return Table(features, named_classes(y.tolist(), classes, _label), clients)
    return Table(features, class_numbers(y, classes, _label), clients)


def _label(row: int) -> str:
    return f"the label of record {row}"


def is_place(data: Any) -> bool:
    """Whether the data are given by the path of a file or folder."""
    return isinstance(data, str | Path)
