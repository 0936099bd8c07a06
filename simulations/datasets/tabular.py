"""Reads records from a table: a .csv or .parquet file with a column for the label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...models.columns import encode
from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from .checks import (
    Place,
    as_float32,
    check_filled,
    class_numbers,
    client_numbers,
    fitted,
    listed_classes,
    predicted,
    refuse_rounded,
)
from .columns import Asked, Columns, read_csv, read_parquet
from .folders import part_of
from .notices import column_notices, owner_notices
from .table import Source, Table
from .windows import cut_windows

_HINT = "name the columns in the file: label (or target), client if there are owners, and a name for each feature"


def load_frame(path: Path, data: Data) -> Source:
    """Return the records of a table, as the plan's table [data] names and transforms its columns.

    The label is the column `data.label`, else `label`, or `target` for numbers to predict. The features are
    `data.features`, else every other column in file order but those in `data.ignore`. A column without an entry in
    `data.columns` stays as it is.

    Errors count rows from 1, without the line of column names and without empty lines.

    Raises: DataError if a column or a cell is missing, or if a cell cannot become a number or is out of range.
    """
    asked = asking(data)
    columns = read_parquet(path, asked) if path.suffix.lower() == ".parquet" else read_csv(path, asked)
    return frame(columns, path, data)


def load_features(path: Path, data: Data) -> np.ndarray:
    """Return the features alone, float32 [N, *shape], of a table that may lack labels, owners and ignored columns.

    Raises: DataError as `load_frame`.
    """
    asked = asking(data)
    columns = read_parquet(path, asked) if path.suffix.lower() == ".parquet" else read_csv(path, asked)
    check_filled(columns.rows, path)
    label = {data.label} if data.label else {"label", "target"}
    roles = {*label, data.client or "client", data.part, *(data.ignore or ())}
    names = list(data.features or (name for name in columns.names if name not in roles))
    for name in (*names, *(data.columns or {})):
        if name not in (*label, "*"):
            _check_there(columns.names, name, "features" if name in names else "columns", path)
    features = [_feature(columns, name, path, data) for name in names]
    stacked = np.concatenate(features, axis=1) if features else np.empty((columns.rows, 0))
    return fitted(stacked, data.shape, lambda row: f"row {row + 1} of {path.name}")


def frame(columns: Columns, path: Path, data: Data) -> Source:
    """Return the records in the columns that were read from `path`.

    Raises: DataError as `load_frame`.
    """
    label, client = label_name(columns.names, path, data), client_name(columns.names, path, data)
    check_filled(columns.rows, path)
    names = feature_names(columns.names, path, data, label)
    features: list[np.ndarray] = []
    wide: list[str] | None = []
    for name in names:
        features.append(_feature(columns, name, path, data))
        wide += [name] * features[-1].shape[1]
    stacked = np.concatenate(features, axis=1) if features else np.empty((columns.rows, 0))
    owners = None if client is None else columns.texts[client]
    clients = None if owners is None or client is None else client_numbers(owners, _place(path, client))
    labels, tested = _labels(columns, label, path, data), _tested(columns, path, data)
    if data.window is not None:
        runs = clients if tested is None else 2 * (0 if clients is None else clients) + tested
        stacked, labels, runs = cut_windows(stacked, labels, runs, data.window, data.stride or data.window)
        if tested is not None and runs is not None:
            tested, runs = runs % 2 == 1, runs // 2
        clients, wide = None if clients is None else runs, None
    fitting = fitted(stacked, data.shape, lambda row: f"record {row + 1} of {path.name}")
    table = Table(fitting, labels, clients)
    train = table if tested is None else table.select(np.flatnonzero(~tested))
    found = column_notices(train, wide, data.classes)
    odd = [*found, *owner_notices(name or "" for name in owners or [])]
    test = None if tested is None else replace(table.select(np.flatnonzero(tested)), clients=None)
    return Source(train, test, (*columns.notices, *odd))


def _tested(columns: Columns, path: Path, data: Data) -> np.ndarray | None:
    """Return which rows, bool [N], are for testing by the column `data.part`; None if the plan names none."""
    if data.part is None:
        return None
    _check_there(columns.names, data.part, "part", path)
    parts = [part_of(cell or "") for cell in columns.texts[data.part]]
    if None in parts:
        what = f"{_place(path, data.part)(parts.index(None))} is neither train nor test"
        raise DataError(what, "write train or test in every cell of the column")
    if len(set(parts)) < 2:
        raise DataError(f"the column {data.part!r} of {path.name} names one part only", "leave out data.part")
    return np.array([part == "test" for part in parts])


def asking(data: Data) -> Asked:
    """Return which columns of a table are read as text: those that the plan transforms, lists or calls owners."""
    client, rules = data.client or "client", data.columns or {}
    labels = {data.label} if data.label else {"label", "target"}

    def as_text(name: str) -> bool:
        if name in labels:
            return data.labels is not None or name in rules
        return name in (client, data.part) or name in rules or "*" in rules

    roles = (data.label, data.client, data.part, *(data.features or ()), *(data.ignore or ()))
    return Asked(as_text, client, frozenset(role for role in roles if role))


def label_name(names: list[str], path: Path, data: Data) -> str:
    """Return the name of the label's column.

    Raises: DataError that lists the columns if none is the label.
    """
    if data.label is not None:
        _check_there(names, data.label, "label", path)
        return data.label
    found = [name for name in ("label", "target") if name in names and name not in (data.ignore or ())]
    if not found:
        listed = ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        hint = f"set data.label to one of its columns, for example --set data.label={names[-1]}; {_HINT}"
        raise DataError(f"{path} has no column 'label'; it has {listed}", hint)
    if len(found) > 1:
        hint = "rename one of them, or leave it out, or set data.label and list the other in data.ignore"
        raise DataError(f"{path} has a column 'label' and a column 'target'", hint)
    return found[0]


def client_name(names: list[str], path: Path, data: Data) -> str | None:
    """Return the name of the owners' column, or None."""
    if data.client is not None:
        _check_there(names, data.client, "client", path)
        return data.client
    taken = (*(data.features or ()), *(data.ignore or ()), data.label, data.part)
    return "client" if "client" in names and "client" not in taken else None


def feature_names(names: list[str], path: Path, data: Data, label: str) -> list[str]:
    """Return the features' names: `data.features`, or all unignored columns without a role, in file order."""
    for name in (*(data.features or ()), *(data.ignore or ())):
        _check_there(names, name, "features" if data.features else "ignore", path)
    known = {*names, label, "label", "target", "*"}
    if unknown := [name for name in data.columns or {} if name not in known]:
        raise DataError(f"{path} has no column {unknown[0]!r}, which data.columns names", _list(names))
    if data.features is not None:
        return list(data.features)
    roles = {label, client_name(names, path, data), data.part, *(data.ignore or ())}
    left = [name for name in names if name not in roles]
    odd = [name for name in left if name in ("label", "target", "client")]
    if odd:
        raise DataError(f"{path} has also a column {odd[0]!r}", f"list it in data.ignore, or in data.features: {odd}")
    return left


def _check_there(names: list[str], name: str, key: str, path: Path) -> None:
    if name not in names:
        raise DataError(f"{path} has no column {name!r}, which data.{key} names", _list(names))


def _list(names: list[str]) -> str:
    return f"its columns are {', '.join(names[:20])}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _labels(columns: Columns, name: str, path: Path, data: Data) -> np.ndarray:
    place = _place(path, name)
    if data.labels is not None:
        return listed_classes(columns.texts[name], data.labels, place)
    if name in columns.texts:
        return _encoded(columns, name, path, data)[:, 0]
    values = _filled(columns, name, path)
    if name == "label" if data.label is None else data.classes > 1:
        return class_numbers(values, data.classes, place)
    refuse_rounded(columns.numbers[name].rounded, place)
    return predicted(values, place)


def _feature(columns: Columns, name: str, path: Path, data: Data) -> np.ndarray:
    """Return one column as float32 [N, width]."""
    if name in columns.texts:
        return _encoded(columns, name, path, data)
    values, place = _filled(columns, name, path), _place(path, name)
    refuse_rounded(columns.numbers[name].rounded, place)
    return as_float32(values, place)[:, None]


def _encoded(columns: Columns, name: str, path: Path, data: Data) -> np.ndarray:
    """Return a column after its transforms, float32 [N, width]; refuse a cell that they have no number for."""
    rule = data.rule(name)
    numbers, known = encode(columns.texts[name], rule)
    if not known.all():
        words = rule is not None and rule.values is not None
        hint = (
            f"add the word to the values of {name!r}, or set its other = 'zeros' or 'column', or its fill"
            if words
            else f"correct the cell, or set the fill of {name!r} in data.columns"
        )
        place, why = _place(path, name)(int(known.argmin())), "none of its values" if words else "not a finite number"
        raise DataError(f"{place} is missing or {why}", hint)
    return numbers


def _filled(columns: Columns, name: str, path: Path) -> np.ndarray:
    """Return one column as float64 [N]; refuse cells that are not finite."""
    values = columns.numbers[name].values
    faults = ~np.isfinite(values)
    if faults.any():
        what = f"{_place(path, name)(int(faults.argmax()))} is missing or not a finite number"
        hint = "give every cell of the column a number, or leave the column or the row out"
        raise DataError(what, f"{hint}; for words or missing cells, give {name!r} values or a fill in data.columns")
    return values


def _place(path: Path, name: str) -> Place:
    return lambda row: f"column {name!r}, row {row + 1} of {path.name}"
