"""What is odd about the user's own data though it can be read: short lines that are printed before a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .checks import clean, look
from .table import Table

_FEW = 20  # records, below which nothing is said of a column: all may differ, or agree, by chance
_LARGE, _SMALL = 10.0, 0.01  # mean sizes outside which a feature is called unscaled


def column_notices(table: Table, names: Sequence[str] | None, classes: int) -> list[str]:
    """What is odd about labels and features of a training part; `names` are those of features that are columns."""
    found = [*_class_notices(table, classes), *_scale_notices(table, names)]
    if names is None or len(table) < _FEW:
        return found
    columns = table.features.reshape(len(table), -1)
    constant = np.ptp(columns, axis=0) == 0
    if constant.any():
        found.append(f"one value in all records: {_listed(names, constant)}; leave out what tells nothing")
    ids = np.array([_is_id(column) for column in columns.T], dtype=bool)
    if ids.any():
        found.append(f"another whole number in every record: {_listed(names, ids)}; leave out what is an id")
    return found


def owner_notices(names: Iterable[str]) -> list[str]:
    """Whether there are owners whose names look alike. Says nothing of who they are."""
    distinct = set(names)
    alike = len(distinct) - len({look(name) for name in distinct})
    plain = len(distinct) - len({clean(name) for name in distinct})
    if alike == plain:
        return []
    return [f"{alike - plain} owners have another owner's name but for case or letters that do not show: one person?"]


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
    """The first three chosen columns, and how many there are."""
    found = [name for name, one in zip(names, chosen, strict=True) if one]
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
