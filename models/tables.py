"""A table of cells as records for a network: read line by line, transformed by the public constants of a plan."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .columns import Cells, Known, Rule, clean, encode, number_classes, read_numbers, rescale


class Unfit(Exception):
    """A file does not fit the plan by its kind or its column names, whatever the values in it: `what` and `hint`."""

    def __init__(self, what: str, hint: str) -> None:
        self.what, self.hint = what, hint
        super().__init__(what, hint)


class DataSchema(Protocol):
    """The parts of a plan's table [data] that say how records become numbers (`bract.privacy.plan.schema.Data`)."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def classes(self) -> int: ...  # noqa: D102
    @property
    def label(self) -> str | None: ...  # noqa: D102
    @property
    def features(self) -> tuple[str, ...] | None: ...  # noqa: D102
    @property
    def labels(self) -> tuple[float | str, ...] | None: ...  # noqa: D102
    @property
    def columns(self) -> Mapping[str, Rule] | None: ...  # noqa: D102
    @property
    def transforms(self) -> str | None: ...  # noqa: D102
    @property
    def window(self) -> int | None: ...  # noqa: D102
    def rule(self, name: str) -> Rule | None: ...  # noqa: D102


FeatureArray = NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True, repr=False)
class Cut:
    """The cells of a file by column name, each in the order of the records. All of them are secret but the names."""

    cells: Mapping[str, Cells]
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        return f"Cut({self.rows})"


@dataclass(frozen=True, repr=False)
class Prepared:
    """Features float32 [N, *shape], labels int64 or float32 [N], and which records could be transformed."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]
    known: Known


def read_cut(path: Path) -> Cut:
    """Return the cells of a .csv file in which each line after the first is one record, whatever is on it.

    The number of records is the number of lines that are not empty. A line that is not one record of the named
    columns has no cells: a fault on a line never reaches another record.

    Raises:
        Unfit: there is no file, it cannot be read, or its first line does not name the columns.
    """
    hint = "give a .csv file in UTF-8 whose first line names the columns, with commas between the values"
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as fault:
        raise Unfit(f"cannot read {path} ({type(fault).__name__})", hint) from fault
    lines = [line for line in re.split("\r\n|\r|\n", text) if line.strip()]
    names = [clean(name) for name in _cells(lines[0]) or []] if lines else []
    if not names or "" in names or len(set(names)) < len(names):
        raise Unfit(f"the first line of {path.name} does not name each column once", hint)
    rows = [_cells(line) for line in lines[1:]]
    cut = [row if row is not None and len(row) == len(names) else [None] * len(names) for row in rows]
    cells = {name: [row[place] for row in cut] for place, name in enumerate(names)}
    return Cut(cells, len(cut))


def _cells(line: str) -> list[str] | None:
    try:
        return next(iter(csv.reader([line], strict=True)))
    except (csv.Error, StopIteration):
        return None


def check_columns(cut: Cut, facts: DataSchema) -> None:
    """Check that a file has the columns that the plan names. Nothing depends on the cells.

    Raises:
        Unfit: the plan names no features, or the file lacks one of its columns.
    """
    if facts.window is not None:
        what = "the plan cuts a table into windows, which a simulation and bract partition do"
        raise Unfit(what, "give the .npz file of windows that bract partition writes")
    if facts.features is None:
        what = "the plan does not name the features, so the order of a table's columns decides what the network sees"
        raise Unfit(what, "set data.features to the names of the columns, or use the files of bract partition")
    lacking = [name for name in (*facts.features, label_of(cut, facts)) if name not in cut.cells]
    if lacking:
        raise Unfit(f"the data have no column {lacking[0]!r}, which the plan names", "bring it, or change the plan")
    width = sum(encode([], facts.rule(name))[0].shape[1] for name in facts.features)
    if width != math.prod(facts.shape):
        what = f"data.features give {width} numbers, data.shape is {list(facts.shape)}"
        raise Unfit(what, f"set data.shape = [{width}]")


def label_of(cut: Cut, facts: DataSchema) -> str:
    """Return the name of the label's column: the plan's, or `label`, or `target` for numbers to predict."""
    return facts.label or ("target" if "label" not in cut.cells and "target" in cut.cells else "label")


def prepare(cut: Cut, facts: DataSchema) -> Prepared:
    """Return the records of a file, transformed by the plan's constants.

    Raises:
        Unfit: as `check_columns`.
    """
    check_columns(cut, facts)
    features, known = encode_features(cut.cells, facts.features or (), facts)
    name = label_of(cut, facts)
    labels, labelled = encode_labels(cut.cells[name], facts, (facts.columns or {}).get(name))
    return Prepared(features.reshape(len(cut), *facts.shape), labels, known & labelled)


def encode_features(
    cells: Mapping[str, Cells], names: Sequence[str], facts: DataSchema
) -> tuple[NDArray[np.float32], Known]:
    """Return the features, float32 [N, width], of these columns in order, and which records could be transformed.

    `cells` has one column at least.
    """
    parts = [encode(cells[name], facts.rule(name)) for name in names]
    return np.concatenate([part for part, _ in parts], axis=1), np.logical_and.reduce([known for _, known in parts])


def encode_labels(
    cells: Cells, facts: DataSchema, rule: Rule | None
) -> tuple[NDArray[np.int64] | NDArray[np.float32], Known]:
    """Return the labels [N]: the places of classes by name, numbers to predict, or numbers of classes."""
    if facts.labels is not None:
        return number_classes(cells, facts.labels)
    if facts.classes == 1:
        numbers, known = encode(cells, rule)
        return numbers[:, 0], known
    found = read_numbers(cells)
    known = (found >= 0) & (found < facts.classes) & (found == np.floor(found))
    return np.where(known, found, 0).astype(np.int64), known


def adapt(features: FeatureArray, facts: DataSchema, mark: str | None) -> tuple[FeatureArray, Known]:
    """Return features [N, ...] of a file of arrays after the plan's transforms, and which records are known.

    `mark` is the file's own note of the transforms it went through: equal to the plan's, they are not repeated.

    Raises:
        Unfit: the records have other transforms than the plan's, or the plan transforms columns by their names.
    """
    if mark is not None and mark != facts.transforms:
        what = "the data went through other transforms than the plan's data.columns"
        raise Unfit(what, "type bract partition again with this plan, or bring the data as they were before")
    rules = facts.columns or {}
    if mark is not None or not rules:
        return features, np.ones(len(features), dtype=np.bool_)
    if set(rules) != {"*"}:
        what = "the plan's data.columns names columns of a table, the data are an array without names"
        raise Unfit(what, 'bring a .csv file, or write one entry "*" in data.columns for all numbers alike')
    rule = rules["*"]
    if rule.values is not None or rule.missing:
        raise Unfit("data.columns '*' is for the cells of a table, the data are an array", "scale or standardize it")
    return rescale(features if rule.fill is None else np.where(np.isnan(features), float(rule.fill), features), rule)
