"""Reads the named columns of a .csv or .parquet file, each as numbers or, if it is asked for, as text."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...privacy.errors import DataError
from .checks import WHOLE, check_filled, clean, look, loses_digits, reading

if TYPE_CHECKING:
    import pyarrow as pa

RESERVED = ("label", "target", "client")
"""Column names with a meaning. Another spelling by case is refused, because it would become a feature."""

_CHUNK = 16_384  # lines of a .csv held in memory as text at one time
_NAME = "name every column once in the first line: label (or target), client if there are owners, and features"
_INDEX = "save it without the index: df.reset_index(drop=True), or as a named column: df.reset_index()"


@dataclass(frozen=True, eq=False)
class NumberColumn:
    """float64 [N], NaN for a cell without a number; and the first row with an integer that float32 would round."""

    values: np.ndarray
    rounded: int | None = None


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns, each as numbers or as text, and all their names in file order. A missing cell of text is None."""

    numbers: dict[str, NumberColumn]
    texts: dict[str, list[str | None]]
    names: list[str]
    rows: int
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What a reader asks of a table: `as_text(name)` says which columns are text, `client` names the owners'.

    `named` are the names that the plan gives: they have a meaning whatever they look like.
    """

    as_text: Callable[[str], bool] = lambda name: name == "client"
    client: str = "client"
    named: frozenset[str] = frozenset()


def read_csv(path: Path, asked: Asked) -> Columns:
    """Return the columns of a comma-separated file in UTF-8, with or without a byte order mark.

    Lines end in LF, CRLF or CR; empty lines are ignored. True and false, in any case, become 1 and 0.

    Raises: DataError that names the first invalid line.
    """
    lines = csv_lines(path, asked.named)
    names = next(lines)
    texts: dict[str, list[str | None]] = {name: [] for name in names if asked.as_text(name)}
    parts: dict[str, list[_Part]] = {name: [] for name in names if name not in texts}
    rows = 0
    while chunk := list(islice(lines, _CHUNK)):
        for name, cells in zip(names, zip(*chunk, strict=True), strict=True):
            if name in texts:
                texts[name] += cells
            else:
                parts[name].append(_part(cells, rows))
        rows += len(chunk)
    joined = {name: _joined(found) for name, found in parts.items()}
    return Columns(joined, texts, names, rows)


def csv_lines(path: Path, named: Collection[str] = ()) -> Iterator[list[str]]:
    """Yield the cleaned names in the first line, then the cells of each non-empty line, one cell per name.

    Raises: DataError that names the first line that is not UTF-8, not CSV, or has more or fewer cells than names.
    """
    line, names = 1, []
    with reading(path), path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    if names:
                        _check_cells(cells, names, line, path)
                    yield cells if names else (names := _header(cells, path, named))
                line = reader.line_num + 1
        except UnicodeDecodeError:
            what = f"line {_not_utf8(path)} of {path.name} is not UTF-8 text"
            raise DataError(what, "save the file as UTF-8, with commas between the values") from None
        except csv.Error as fault:
            what = f"line {line} of {path.name} is not CSV: a quote is not closed, or a value is too long"
            raise DataError(what, "close every quote, and write a quote inside a value twice") from fault
    check_filled(len(names), path)


def read_parquet(path: Path, asked: Asked) -> Columns:
    """Return the columns of a Parquet file, and those parts of a pandas index named label, target or client.

    An unnamed integer index is left out, with a notice unless it only counts the rows.

    Raises: DataError if a column is not numeric, or if an index has another name or type.
    """
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as file:
        return arrow_columns(file.read(), path, asked)


def arrow_columns(table: pa.Table, path: Path, asked: Asked) -> Columns:
    """Return the columns of an Arrow table that was read from `path`.

    Raises: DataError as `read_parquet`.
    """
    table, notices = _without_index(table, path)
    names = [clean(name) for name in table.column_names]
    _check_names(names, path, asked.named)
    columns = dict(zip(names, table.columns, strict=True))
    texts = {name: column for name, column in columns.items() if asked.as_text(name)}
    numbers = {name: _numbers(column, name, path) for name, column in columns.items() if name not in texts}
    written = {
        name: _texts(column, name, path) if name == asked.client else _words(column) for name, column in texts.items()
    }
    return Columns(numbers, written, names, table.num_rows, notices)


def _words(column: pa.ChunkedArray) -> list[str | None]:
    """Return the cells of a column as text, numbers and flags as Python writes them."""
    return [None if cell is None else str(cell) for cell in _decoded(column).to_pylist()]


def _header(cells: list[str], path: Path, named: Collection[str]) -> list[str]:
    """Return the names of the columns."""
    names = [clean(cell) for cell in cells]
    if len(names) == 1 and re.search(r"[;\t|]", cells[0]):
        what = f"the first line of {path.name} has no commas: it seems to use another separator"
        raise DataError(what, "separate values by commas, and write decimals with a point: 1.5")
    _check_names(names, path, named)
    return names


def _check_names(names: Sequence[str], path: Path, named: Collection[str]) -> None:
    for number, name in enumerate(names, start=1):
        if not name:
            hint = f"{_NAME}; pandas leaves its index out with df.to_csv(path, index=False)"
            raise DataError(f"column {number} of {path.name} has no name", hint)
        if name in names[: number - 1]:
            raise DataError(f"{path.name} has two columns with the name {name!r}", _NAME)
        if name not in RESERVED and name not in named and (meant := look(name)) in RESERVED:
            how = "in upper and lower case" if name.casefold() == meant else "in invisible characters"
            what = f"the column {name!a} of {path.name} differs from {meant!r} {how}"
            raise DataError(what, f"write {meant}, or give the column another name")


def _check_cells(cells: list[str], names: list[str], line: int, path: Path) -> None:
    if len(cells) != len(names):
        what = f"line {line} of {path.name} has {len(cells)} values, the first line names {len(names)} columns"
        raise DataError(what, f"{_NAME}; put a value that holds a comma in quotes")


def _not_utf8(path: Path) -> int:
    """Return the number of the first line that is not UTF-8."""
    with path.open("rb") as stream:
        for line, content in enumerate(stream, start=1):
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                return line
    return 1


@dataclass(frozen=True, eq=False)
class _Part:
    """The numbers of some rows, and whether the file has them as true and false."""

    numbers: NumberColumn
    flags: bool = False


def _part(cells: Sequence[str], start: int) -> _Part:
    """Return the numbers in these cells of one column, which begin at row `start`."""
    import pandas as pd

    values = np.asarray(pd.to_numeric(np.array(cells, dtype=object), errors="coerce"), dtype=np.float64)
    if np.isnan(values).all():
        written = [cell.strip().casefold() for cell in cells]
        if set(written) <= {"true", "false"}:
            return _Part(NumberColumn(np.array([float(cell == "true") for cell in written])), flags=True)
    large = np.flatnonzero(np.abs(values) > WHOLE).tolist()
    return _Part(NumberColumn(values, next((start + row for row in large if _is_rounded(cells[row])), None)))


def _is_rounded(cell: str) -> bool:
    """Return whether the cell is an integer in digits that float32 would round."""
    if not re.fullmatch("[+-]?[0-9]{1,400}", cell.strip()):
        return False
    size = abs(int(cell))
    return size // (size & -size) > WHOLE


def _joined(parts: list[_Part]) -> NumberColumn:
    """Return the whole column. True and false in a column of numbers are faults and become NaN."""
    mixed = len({part.flags for part in parts}) > 1
    values = [part.numbers.values + (np.nan if mixed and part.flags else 0) for part in parts]
    rounded = next((part.numbers.rounded for part in parts if part.numbers.rounded is not None), None)
    return NumberColumn(np.concatenate(values) if values else np.zeros(0), rounded)


def _without_index(table: pa.Table, path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the table with the reserved parts of its index as columns, and a notice if another part is left out."""
    import pyarrow as pa

    left_out = False
    for index in (table.schema.pandas_metadata or {}).get("index_columns", []):
        is_range = isinstance(index, dict)  # which is not stored
        name = index.get("name") if is_range else None if index.startswith("__index_level_") else index
        is_whole = is_range or pa.types.is_integer(table.schema.field(index).type)
        if name in RESERVED and is_range:
            rows = range(index["start"], index["stop"], index["step"])
            table = table.append_column(name, pa.array(rows, pa.int64()))
        elif name is None and is_whole:
            left_out = left_out or not is_range or (index["start"], index["step"]) != (0, 1)
            table = table if is_range else table.drop_columns([index])
        elif name not in RESERVED:
            what = f"the index {'without a name' if name is None else repr(name)} of {path.name}"
            raise DataError(f"{what} is none of {', '.join(RESERVED)}", _INDEX)
    return table, (f"the index of {path.name}, which has no name, is left out",) if left_out else ()


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> NumberColumn:
    """Return one column of a Parquet file as numbers."""
    import pyarrow as pa

    column = _decoded(column)
    kind = column.type
    if _is_text(kind) or pa.types.is_decimal(kind):
        return _part(["" if cell is None else str(cell) for cell in column.to_pylist()], 0).numbers
    if pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataError(f"the column {name!r} of {path} does not hold numbers", "leave the column out")
    if not pa.types.is_integer(column.type):
        return NumberColumn(np.asarray(column.to_numpy(), dtype=np.float64))
    whole, missing = column.fill_null(0).to_numpy(), column.is_null().to_numpy()
    rounded = np.flatnonzero(loses_digits(whole))
    return NumberColumn(np.where(missing, np.nan, whole), int(rounded[0]) if len(rounded) else None)


def _texts(column: pa.ChunkedArray, name: str, path: Path) -> list[str | None]:
    """Return the owners in a Parquet file as text; integers are converted."""
    import pyarrow as pa

    column = _decoded(column)
    if not (_is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        what = f"the column {name!r} of {path} holds neither text nor whole numbers"
        raise DataError(what, f"save the owners as text: df[{name!r}].astype(str)")
    return [None if cell is None else str(cell) for cell in column.to_pylist()]


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
