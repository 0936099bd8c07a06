"""Data sets by name, their test parts, and their division among clients."""

from __future__ import annotations

from .dataset import Dataset, find_dataset, load, names
from .describe import ColumnFacts, Description, describe
from .splits import holdout, partition
from .table import Source, Table

__all__ = [
    "ColumnFacts",
    "Dataset",
    "Description",
    "Source",
    "Table",
    "describe",
    "find_dataset",
    "holdout",
    "load",
    "names",
    "partition",
]
