"""Data sets by name, their test parts, and their division among clients."""

from __future__ import annotations

from .dataset import Dataset, find_dataset, load, names
from .splits import holdout, partition
from .table import Source, Table

__all__ = ["Dataset", "Source", "Table", "find_dataset", "holdout", "load", "names", "partition"]
