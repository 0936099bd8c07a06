"""Notices about oddities in the user's data that are not errors: short lines, printed before a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .checks import clean, look
from .table import Table

_FEW = 20  # with fewer records there are no notices about columns: values may all differ, or agree, by chance
_LARGE, _SMALL = 10.0, 0.01  # a mean magnitude outside this range counts as unscaled


def column_notices(table: Table, names: Sequence[str] | None, classes: int) -> list[str]:
    """Return notices about the labels and features of a training part; `names` are the columns' names, if any."""
    found = [*_class_notices(table, classes), *_scale_notices(table, names)]
    if names is None or len(table) < _FEW:
        return found
    columns = table.features.reshape(len(table), -1)
    constant = np.ptp(columns, axis=0) == 0
    if constant.any():
        found.append(f"one value in all records: {_listed(names, constant)}; leave out constant columns")
    ids = np.array([_is_id(column) for column in columns.T], dtype=bool)
    if ids.any():
        found.append(f"a different whole number in every record: {_listed(names, ids)}; leave out ids")
    return found


def owner_notices(names: Iterable[str]) -> list[str]:
    """Return a notice if owners have names that look alike. It never contains a name."""
    distinct = set(names)
    alike = len(distinct) - len({look(name) for name in distinct})
    plain = len(distinct) - len({clean(name) for name in distinct})
    if alike == plain:
        return []
    return [f"{alike - plain} owners differ from another owner only in case or invisible characters: one person?"]


def _class_notices(table: Table, classes: int) -> list[str]:
    if not table.has_classes:
        return []
    absent = sorted(set(range(min(classes, 10_000))) - set(np.unique(table.labels).tolist()))
    if len(absent) == classes - 1 and classes > 1:
        return [f"all records have one label, {int(table.labels[0])}: there is nothing to learn"]
    if not absent:
        return []
    shown = ", ".join(map(str, absent[:3])) + (", ..." if len(absent) > 3 else "")
    return [f"{len(absent)} of {classes} classes have no record: {shown}"]


def _scale_notices(table: Table, names: Sequence[str] | None) -> list[str]:
    sizes = np.abs(table.features.reshape(len(table), -1)).mean(axis=0, dtype=np.float64)
    found, largest = [], sizes.max(initial=0.0)
    if largest > _LARGE or 0 < largest < _SMALL:
        which = "" if names is None else f", {names[int(sizes.argmax())]} the largest"
        found.append(f"features are not scaled{which}, about {largest:.3g}: scale each to about -1..1")
    if table.has_numbers and (size := float(np.abs(table.labels).mean(dtype=np.float64))) > _LARGE:
        found.append(f"the numbers to predict are about {size:.3g}: scale them to about -1..1")
    return found


def _is_id(column: np.ndarray) -> bool:
    return bool((column == np.floor(column)).all()) and len(np.unique(column)) == len(column)


def _listed(names: Sequence[str], chosen: np.ndarray) -> str:
    """Return the names of the first three chosen columns, and the number of the others."""
    found = [name for name, one in zip(names, chosen, strict=True) if one]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
