"""Cuts the steps of long sequences, one a line of a table, into records of equal length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from ...privacy.errors import DataError


def window_starts(groups: list[np.ndarray], length: int, stride: int) -> np.ndarray:
    """Return the first step, int64 [N], of each window of `length` steps in which no array of `groups` changes.

    Windows of one run of equal values start every `stride` steps; a shorter rest is left out.

    >>> window_starts([np.array([0, 0, 0, 0, 1, 1, 1])], 2, 1).tolist()
    [0, 1, 2, 4, 5]
    """
    steps = len(groups[0])
    changes = np.zeros(max(steps - 1, 0), dtype=bool)
    for group in groups:
        changes |= group[1:] != group[:-1]
    edges = [0, *(np.flatnonzero(changes) + 1).tolist(), steps]
    starts = [np.arange(first, last - length + 1, stride) for first, last in pairwise(edges)]
    return np.concatenate(starts).astype(np.int64)


def cut_windows(
    features: np.ndarray, labels: np.ndarray, clients: np.ndarray | None, length: int, stride: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return windows [N, length, channels], the label of each and its client, from steps [steps, channels].

    Raises: DataError if no run of steps with one label and one client is long enough.
    """
    groups = [labels] if clients is None else [labels, clients]
    starts = window_starts(groups, length, stride)
    if not len(starts):
        what = f"no {length} lines after one another have one label and one client"
        raise DataError(what, "sort the lines by client and time, or lower data.window")
    rows = starts[:, None] + np.arange(length)
    return features[rows], labels[starts], None if clients is None else clients[starts]
