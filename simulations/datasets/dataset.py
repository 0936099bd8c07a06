"""A data set, and all data sets by name, from the folder `shipped` and from installed packages."""

from __future__ import annotations

import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from . import shipped
from .table import Source, Table

GROUP = "bract.datasets"
"""The group of entry points with which an installed package offers data sets."""


@dataclass(frozen=True)
class Dataset:
    """A data set that a plan names with `data.name`.

    `load(data)` returns the records that the plan's table [data] describes: features of shape `data.shape`, and
    labels below `data.classes` or numbers to predict. `data.path` is absolute, or None if the plan gives none.
    `summary` is one line for lists. `shape` and `classes` belong in a plan for it; None if the plan may choose them.
    """

    name: str
    load: Callable[[Data], Source]
    summary: str = ""
    shape: tuple[int, ...] | None = None
    classes: int | None = None


def path_of(data: Data) -> Path | None:
    """Return `data.path` as a path."""
    return None if data.path is None else Path(data.path)


def names() -> list[str]:
    """Return the names of all data sets, first those that come with bract. No installed package is imported."""
    return [*_shipped(), *(name for name in sorted(_offered()) if name not in _shipped())]


def find_dataset(name: str) -> Dataset:
    """Return the data set `name`. Only the package that offers this name is imported.

    Raises: DataError if no data set has the name, if two packages offer it, if a package offers the name of a shipped
    data set, if the package cannot be imported, or if it offers no `Dataset` of this name.
    """
    ours, offers = _shipped().get(name), _offered().get(name, [])
    if len(offers) + (ours is not None) > 1:
        what = f"{' and '.join(['bract'] * (ours is not None) + [_package(offer) for offer in offers])} each offer"
        raise DataError(f"{what} a data set {name!r}", "uninstall one, or give its data set another name")
    if ours is not None:
        return ours
    if not offers:
        raise DataError(f"there is no data set {name!r}", f"set data.name to one of {', '.join(names())}")
    return _imported(offers[0])


def load(data: Data) -> Source:
    """Return the data set that the table [data] of a plan describes.

    Raises: DataError if the name is unknown, the data cannot be read, or they do not fit shape and classes.
    """
    place = None if data.path is None else os.path.expanduser(data.path)
    source = find_dataset(data.name).load(data.model_copy(update={"path": place}))
    for table in (source.train, source.test):
        if table is not None:
            _check_fit(data.name, table, data.shape, data.classes)
    return source


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Dataset]:
    """Return the data sets of the folder `shipped` by name: each file there exports one as `DATASET`."""
    files = [import_module(each.name) for each in pkgutil.iter_modules(shipped.__path__, f"{shipped.__name__}.")]
    return {file.DATASET.name: file.DATASET for file in files}


def _offered() -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for offer in entry_points(group=GROUP):
        if offer not in found.setdefault(offer.name, []):
            found[offer.name].append(offer)
    return found


def _package(offer: EntryPoint) -> str:
    return offer.dist.name if offer.dist is not None else offer.value


def _imported(offer: EntryPoint) -> Dataset:
    try:
        found = offer.load()
    except Exception as fault:  # a package's code may raise anything
        what = (
            f"the data set {offer.name!r} of {_package(offer)} cannot be imported ({type(fault).__name__}: {fault})"
        )
        raise DataError(what.partition("\n")[0], f"try it in Python: import {offer.module}") from fault
    if not isinstance(found, Dataset) or found.name != offer.name:
        what = f"{offer.value} of {_package(offer)} is not a Dataset with the name {offer.name!r}"
        raise DataError(what, f"export Dataset({offer.name!r}, load) there, from bract.simulations.datasets")
    return found


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
