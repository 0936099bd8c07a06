"""The one form that every data set takes: features, labels and, where they have one, natural clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...privacy.errors import DataError

_HINT = "build tables with bract.simulations.datasets.load, or mend the reader that made this one"


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Records in file order: row i of every array belongs to record i. All of it is secret.

    features: float32 [N, *shape], finite. labels: int64 [N], 0 or more. clients: int64 [N], 0 or more, the
    natural owner of each record; None where the data have no natural owner. A selection keeps the numbers of
    its owners, so they need not be contiguous. Its repr shows the sizes only.

    Raises: DataError where a type, a length or a value is not as above.
    """

    features: np.ndarray
    labels: np.ndarray
    clients: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        if not np.isfinite(self.features).all():
            raise DataError("the features hold NaN or infinity", _HINT)
        _check_numbers(self.labels, len(self), "labels")
        if self.clients is not None:
            _check_numbers(self.clients, len(self), "clients")

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        clients = "no" if self.clients is None else len(np.unique(self.clients))
        return f"Table({len(self)} records of shape {self.features.shape[1:]}, {clients} natural clients)"

    def select(self, indices: np.ndarray) -> Table:
        """The records at `indices` (int [n], 0..N-1, kept in this order) as a new Table.

        Raises: IndexError where an index is outside the table.
        """
        rows = np.asarray(indices, dtype=np.int64)
        clients = None if self.clients is None else self.clients[rows]
        return Table(self.features[rows], self.labels[rows], clients)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set: its training part and its official test part, None where the data have none."""

    train: Table
    test: Table | None


def _check_types(table: Table) -> None:
    if table.features.dtype != np.float32 or table.features.ndim < 2:
        raise DataError("the features are not a float32 array [N, *shape]", _HINT)
    numbers = [table.labels] if table.clients is None else [table.labels, table.clients]
    if any(array.dtype != np.int64 or array.ndim != 1 for array in numbers):
        raise DataError("the labels or clients are not an int64 array [N]", _HINT)


def _check_numbers(numbers: np.ndarray, length: int, name: str) -> None:
    if len(numbers) != length:
        raise DataError(f"there are {length} records but {len(numbers)} {name}", _HINT)
    if (numbers < 0).any():
        raise DataError(f"the {name} hold a negative number", _HINT)
