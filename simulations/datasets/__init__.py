"""Data sets by name, their test parts, and their division among clients."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...privacy.errors import DataError
from . import chat, diabetes, digits, fashion_mnist, files, shakespeare
from .splits import holdout, partition
from .table import Source, Table

__all__ = ["READERS", "Source", "Table", "holdout", "load", "partition"]

Reader = Callable[[Path | None, tuple[int, ...], int], Source]

READERS: dict[str, Reader] = {
    "diabetes": lambda path, shape, classes: diabetes.load(path),
    "digits": lambda path, shape, classes: digits.load(path),
    "fashion-mnist": lambda path, shape, classes: fashion_mnist.load(path),
    "files": files.load,
    "shakespeare": lambda path, shape, classes: shakespeare.load(path, shape),
    "chat": chat.load,
}


def load(name: str, path: Path | None, shape: tuple[int, ...], classes: int) -> Source:
    """Return the data set `name`: records of shape `shape` (without N), labels in 0..classes-1 or numbers.

    Raises: DataError if the name is unknown, the data cannot be read, or they do not fit shape and classes.
    """
    if name not in READERS:
        raise DataError(f"there is no data set {name!r}", f"set data.name to one of {', '.join(READERS)}")
    place = None if path is None else Path(os.path.expanduser(path))
    source = READERS[name](place, tuple(shape), classes)
    for table in (source.train, source.test):
        if table is not None:
            _check_fit(name, table, tuple(shape), classes)
    return source


def _check_fit(name: str, table: Table, shape: tuple[int, ...], classes: int) -> None:
    found = table.features.shape[1:]
    if found != shape:
        what = f"records of {name} have the shape {list(found)}, the plan says {list(shape)}"
        raise DataError(what, f"set data.shape = {list(found)} in the plan")
    if table.has_numbers and classes > 1:
        what = f"{name} holds numbers to predict, the plan has {classes} classes"
        raise DataError(what, "set data.classes = 1, or save the labels as whole numbers if they are classes")
    if table.classes > classes:
        what = f"{name} has {table.classes} classes, the plan says {classes}"
        raise DataError(what, f"set data.classes = {table.classes} in the plan")
