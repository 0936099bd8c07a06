"""Describes a file or folder of the user's own before there is a plan for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ...models.columns import MISSING, clean, read_numbers
from ...privacy.errors import DataError
from ...privacy.plan.schema import Data
from .checks import look, reading
from .columns import Asked, Columns, arrow_columns, read_csv, read_parquet
from .folders import listings
from .hub_folders import hub_tables, is_hub_folder
from .texts import Texts, read_lines

MOST_WORDS = 100
"""The most distinct words of a column that a description lists."""


@dataclass(frozen=True)
class ColumnFacts:
    """What a column of a table holds: statistics of the data, so they are as secret as the data.

    `kind` is "number" if every cell that is not missing is a number. `distinct` counts different cells. `words` are
    the distinct words in sorted order, if they are at most `MOST_WORDS`. `low`, `high`, `mean` and `deviation` are of
    the numbers (NaN without any), and `whole` says whether all of them are whole.
    """

    name: str
    kind: Literal["number", "word"]
    missing: int
    distinct: int
    words: tuple[str, ...]
    low: float
    high: float
    mean: float
    deviation: float
    whole: bool


@dataclass(frozen=True)
class Description:
    """A file or folder: its kind, number of records and what its parts hold.

    `shape` is the shape of one record of arrays; None for tables and texts. `columns` are a table's. `label` and
    `client` are columns with a usual name; None if there are none. `classes` are the distinct labels of a table with
    `label`, of arrays or of pictures. `clients` counts owners, 0 without. `has_test` says whether there is a test
    part. `duplicates` counts lines of a table that repeat an earlier one. `characters` are those of a text.
    """

    kind: Literal["table", "arrays", "pictures", "text", "hub"]
    records: int
    shape: tuple[int, ...] | None = None
    columns: tuple[ColumnFacts, ...] = ()
    label: str | None = None
    client: str | None = None
    classes: tuple[str, ...] = ()
    numbers: bool = False
    clients: int = 0
    has_test: bool = False
    duplicates: int = 0
    characters: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnFacts:
        """Return the facts of a column.

        Raises: KeyError if there is none.
        """
        return {column.name: column for column in self.columns}[name]


def describe(path: Path) -> Description:
    """Return what a file or folder holds: a table (.csv, .parquet), arrays (.npz), pictures, or text (.txt, .jsonl).

    Raises: DataError if the path holds none of these or cannot be read.
    """
    with reading(path):
        there, is_folder = path.exists(), path.is_dir()
    if not there:
        raise DataError(f"{path} does not exist", "give a file or a folder that exists")
    if is_folder:
        return _describe_folder(path)
    kinds: dict[str, Callable[[Path], Description]] = {
        ".csv": lambda path: describe_table(read_csv(path, _ALL), path),
        ".parquet": lambda path: describe_table(read_parquet(path, _ALL), path),
        ".npz": _describe_arrays,
        ".txt": _describe_text,
        ".jsonl": _describe_text,
    }
    found = kinds.get(path.suffix.lower())
    if found is None:
        what = f"{path} is of an unknown kind: {path.suffix or 'no suffix'}"
        raise DataError(what, f"convert it to one of {', '.join(kinds)}, or give a folder of pictures or texts")
    return found(path)


_ALL = Asked(as_text=lambda name: True)


def describe_table(columns: Columns, path: Path) -> Description:
    """Return what the columns of a table hold; all of them are read as text."""
    facts = tuple(_facts(name, columns.texts[name]) for name in columns.names)
    label = next((name for name in columns.names if look(name) in ("label", "target")), None)
    client = next((name for name in columns.names if look(name) == "client"), None)
    lines = list(zip(*columns.texts.values(), strict=True))
    found = {column.name: column for column in facts}
    return Description(
        "table",
        columns.rows,
        columns=facts,
        label=label,
        client=client,
        classes=found[label].words if label else (),
        numbers=bool(label) and look(label or "") == "target",
        clients=found[client].distinct if client else 0,
        duplicates=len(lines) - len(set(lines)),
    )


def _facts(name: str, cells: list[str | None]) -> ColumnFacts:
    written = [clean(cell or "") for cell in cells]
    there = [cell for cell in written if cell.casefold() not in MISSING]
    numbers = read_numbers(there)
    is_number = bool(len(numbers)) and bool(np.isfinite(numbers).all())
    values = numbers if is_number else np.array([np.nan])
    distinct = set(there)
    return ColumnFacts(
        name,
        "number" if is_number else "word",
        len(written) - len(there),
        len(distinct),
        tuple(sorted(distinct, key=_by_value)) if len(distinct) <= MOST_WORDS else (),
        float(values.min()),
        float(values.max()),
        float(values.mean()),
        float(values.std()),
        is_number and bool((values == np.floor(values)).all()),
    )


def _by_value(word: str) -> tuple[float, str]:
    value = float(read_numbers([word])[0])
    return (np.inf if np.isnan(value) else value), word


def _describe_arrays(path: Path) -> Description:
    with reading(path), path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        if "x" not in arrays or "y" not in arrays:
            raise DataError(f"{path} has no arrays x and y", "save it with numpy.savez(path, x=features, y=labels)")
        x, y, has_test = arrays["x"], arrays["y"], "x_test" in arrays
        clients = len(np.unique(arrays["client"])) if "client" in arrays else 0
    numbers = y.dtype.kind == "f"
    classes = () if numbers else tuple(map(str, np.unique(y).tolist()))
    return Description("arrays", len(x), x.shape[1:], (), None, None, classes, numbers, clients, has_test)


def _describe_folder(folder: Path) -> Description:
    if is_hub_folder(folder):
        return _describe_hub(folder)
    with reading(folder):
        texts = sorted(folder.rglob("*.txt"))
    if texts:
        owners = {path.parent if path.parent != folder else path for path in texts}
        characters = sorted(set().union(*(set(_text(path)) for path in texts)))
        return Description("text", len(texts), clients=len(owners), characters=tuple(characters))
    train, test, _ = listings(folder)
    classes = tuple(sorted(set(train.labels)))
    clients = len(set(train.clients or []))
    return Description("pictures", len(train.files), classes=classes, clients=clients, has_test=test is not None)


def _describe_hub(folder: Path) -> Description:
    tables = hub_tables(folder)
    found = describe_table(arrow_columns(tables["train"], folder, _ALL), folder)
    return replace(found, kind="hub", has_test="test" in tables)


def _describe_text(path: Path) -> Description:
    found = read_lines(path, Data()) if path.suffix.lower() == ".jsonl" else Texts([_text(path)], None)
    characters = sorted(set().union(*map(set, found.texts)))
    client = "client" if found.owners is not None else None
    owners = len(set(found.owners or []))
    return Description("text", len(found.texts), client=client, clients=owners, characters=tuple(characters))


def _text(path: Path) -> str:
    with reading(path):
        return path.read_text("utf-8-sig")
