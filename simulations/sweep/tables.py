"""Writes the table of a sweep, one row per run, as CSV and as Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from ...privacy.storage import replace_file
from ...server.evaluation.metrics import FIGURES
from .axes import show
from .results import Record

COLUMNS = {
    "seed": pyarrow.int64(),
    **dict.fromkeys(FIGURES, pyarrow.float64()),
    "loss": pyarrow.float64(),
    "epsilon_server": pyarrow.float64(),
    "epsilon_released": pyarrow.float64(),
    "delta": pyarrow.float64(),
    "rounds": pyarrow.int64(),
    "seconds": pyarrow.float64(),
    "folder": pyarrow.string(),
    "error": pyarrow.string(),
}
"""The columns after the varied keys; metrics that no run has are left out.

An epsilon is empty if it has no bound or the run failed.
"""


def write_tables(folder: Path, keys: Sequence[str], records: Sequence[Record]) -> None:
    """Write `results.csv` and `results.parquet`: the varied keys and the results of each run.

    Raises:
        StorageError: a file cannot be written; an old file stays intact.
    """
    columns = {key: _alike([record.values[key] for record in records]) for key in keys}
    absent = set(FIGURES).difference(*(record.figures for record in records))
    columns |= {name: [_figure(record, name) for record in records] for name in COLUMNS if name not in absent}
    replace_file(folder / "results.csv", _csv(columns))
    replace_file(folder / "results.parquet", _parquet(columns))


def _figure(record: Record, name: str) -> Any:
    if name.startswith("epsilon_"):
        return record.epsilon[name.removeprefix("epsilon_")]
    return record.figures.get(name) if name in FIGURES else getattr(record, name)


def _alike(values: list[Any]) -> list[Any]:
    """Return the values of one column with one type: all booleans, all numbers, or else all texts."""
    if all(isinstance(value, bool) for value in values):
        return values
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values if all(isinstance(value, int) for value in values) else [float(value) for value in values]
    return [show(value) for value in values]


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    arrays = [pyarrow.array(values, COLUMNS.get(name)) for name, values in columns.items()]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(arrays, names=list(columns)), buffer)
    return buffer.getvalue()
