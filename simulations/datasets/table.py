"""The common form of all data sets: features, labels and, if known, natural clients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...privacy.errors import DataError

_HINT = "build tables with bract.simulations.datasets.load, or correct the reader of this data set"


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Records in file order: row i of every array belongs to record i. All of it is secret.

    features: float32 [N, *shape], finite, with labels int64 [N] >= 0 (classes) or float32 [N], finite (numbers to
    predict). For sequences of T tokens, features and labels are int64 [N, T] >= 0, and each label is the token to
    predict at its step. clients: int64 [N] >= 0, the natural owner of each record, or None if the data have none. A
    selection keeps the owners' numbers, which may then have gaps. The repr shows only sizes.

    Raises: DataError if a type, a length or a value is not as above.
    """

    features: np.ndarray
    labels: np.ndarray
    clients: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        if self.has_tokens:
            _check_numbers(self.features, len(self), "features")
        else:
            _check_finite(self.features, "features")
        if self.has_numbers:
            _check_finite(self.labels, "labels")
        _check_numbers(self.labels, len(self), "labels")
        if self.clients is not None:
            _check_numbers(self.clients, len(self), "clients")

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        clients = "no" if self.clients is None else len(np.unique(self.clients))
        return f"Table({len(self)} records of shape {self.features.shape[1:]}, {clients} natural clients)"

    @property
    def has_tokens(self) -> bool:
        """Whether a record is a token sequence with a label at every step."""
        return self.labels.ndim == 2

    @property
    def has_numbers(self) -> bool:
        """Whether a label is a number to predict."""
        return self.labels.dtype == np.float32

    @property
    def has_classes(self) -> bool:
        """Whether a record has one label, which is a class."""
        return not (self.has_tokens or self.has_numbers)

    @property
    def classes(self) -> int:
        """The smallest number of classes that includes all labels and tokens; 1 if labels are numbers to predict."""
        if self.has_numbers:
            return 1
        most = [self.labels.max(initial=-1), *([self.features.max(initial=-1)] if self.has_tokens else [])]
        return int(max(most)) + 1

    def select(self, indices: np.ndarray) -> Table:
        """Return the records at `indices` (int [n], 0..N-1), in this order, as a new Table.

        Raises: IndexError if an index is outside the table.
        """
        rows = np.asarray(indices, dtype=np.int64)
        clients = None if self.clients is None else self.clients[rows]
        return Table(self.features[rows], self.labels[rows], clients)


@dataclass(frozen=True, eq=False)
class Source:
    """A data set: its training part, and its official test part or None.

    If the test part has clients, they are the training part's clients, each with its own test records.
    `notices` are short lines for the data's owner about oddities in the data.
    """

    train: Table
    test: Table | None
    notices: tuple[str, ...] = ()

    def largest(self, clients: int) -> Source:
        """Return the data of the `clients` clients with the most training records; ties go to the lower number.

        The data are unchanged if there are no more clients, or if the test part has no clients.
        """
        if self.test is None or self.test.clients is None or self.train.clients is None:
            return self
        chosen = np.argsort(-np.bincount(self.train.clients), kind="stable")[:clients]
        train, test = np.isin(self.train.clients, chosen), np.isin(self.test.clients, chosen)
        return replace(
            self, train=self.train.select(np.flatnonzero(train)), test=self.test.select(np.flatnonzero(test))
        )


def _check_types(table: Table) -> None:
    features, labels = table.features, table.labels
    if labels.ndim == 2:
        if any(array.dtype != np.int64 for array in (features, labels)) or labels.shape[1:] != features.shape[1:]:
            raise DataError("the features and labels of tokens are not both int64 arrays [N, T]", _HINT)
    elif features.dtype != np.float32 or features.ndim < 2:
        raise DataError("the features are not a float32 array [N, *shape]", _HINT)
    elif labels.dtype not in (np.int64, np.float32) or labels.ndim != 1:
        raise DataError("the labels are not an int64 or float32 array [N]", _HINT)
    clients = table.clients
    if clients is not None and (clients.dtype != np.int64 or clients.ndim != 1):
        raise DataError("the clients are not an int64 array [N]", _HINT)


def _check_numbers(numbers: np.ndarray, length: int, name: str) -> None:
    if len(numbers) != length:
        raise DataError(f"there are {length} records but {len(numbers)} {name}", _HINT)
    if numbers.dtype == np.int64 and (numbers < 0).any():
        raise DataError(f"the {name} hold a negative number", _HINT)


def _check_finite(numbers: np.ndarray, name: str) -> None:
    if not np.isfinite(numbers).all():
        raise DataError(f"the {name} hold NaN or infinity", _HINT)
