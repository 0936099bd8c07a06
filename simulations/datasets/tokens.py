"""Splits each client's text, as tokens, into a training and a test part, and both into windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...privacy.errors import DataError
from .table import Source, Table

TRAINED = 0.8  # the fraction of each client's text, from its start, that is for training

Text = NDArray[np.int64]  # one client's tokens, in order
Tokens = TypeVar("Tokens", Text, list[str])


def parts(text: Tokens) -> tuple[Tokens, Tokens]:
    """Return (train, test): the first 80 % of a client's text, rounded down, and the rest."""
    cut = int(TRAINED * len(text))
    return text[:cut], text[cut:]


def windows(text: Text, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (features, labels), int64 [N, length] each; the label at a step is the next token.

    Windows do not overlap, so each token except the first is a label once; an incomplete last window is dropped.

    >>> windows(np.array([5, 6, 7, 8, 9, 4]), 2)
    (array([[5, 6],
           [7, 8]]), array([[6, 7],
           [8, 9]]))
    """
    count = max(len(text) - 1, 0) // length
    rows = (count, length)
    return text[: count * length].reshape(rows), text[1 : count * length + 1].reshape(rows)


def run_length(name: str, shape: tuple[int, ...]) -> int:
    """Return T, the number of tokens in a record of shape [T].

    Raises: DataError if the shape is not one number.
    """
    if len(shape) != 1:
        what = f"a record of {name} is a token sequence, the plan's shape is {list(shape)}"
        raise DataError(what, "set data.shape to one number, for example to [20]")
    return shape[0]


def windowed(name: str, texts: Sequence[Text], length: int) -> Source:
    """Return the clients' training and test records, each of shape [length]; clients are numbered in the order of
    `texts`.

    Raises: DataError as `windowed_parts`.
    """
    cut = [parts(text) for text in texts]
    return windowed_parts(name, [train for train, _ in cut], [test for _, test in cut], length)


def windowed_parts(name: str, trained: Sequence[Text], tested: Sequence[Text], length: int) -> Source:
    """Return the training and test records, each of shape [length], from the two parts of each client's text.

    A client whose training part has at most `length` tokens has no training record.

    Raises: DataError if no client's text is long enough.
    """
    train, test = _table(trained, length), _table(tested, length)
    if not (len(train) and len(test)):
        what = f"no client of {name} has more than {length} tokens in its test part"
        raise DataError(what, "set data.shape to a smaller number, for example to [20]")
    return Source(train, test)


def _table(texts: Sequence[Text], length: int) -> Table:
    features, labels = zip(*(windows(text, length) for text in texts), strict=True)
    clients = np.repeat(np.arange(len(texts)), [len(rows) for rows in labels])
    return Table(np.concatenate(features), np.concatenate(labels), clients)
