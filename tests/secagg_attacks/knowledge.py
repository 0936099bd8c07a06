"""What whoever knows some keys can read: which sums of masked vectors open, by exact linear algebra over the masks.

A masked vector is a vector plus or minus the streams of keys. Nothing is known of a stream whose key is unknown, so a
combination of masked vectors opens if, and only if, every unknown stream cancels in it. Those combinations are the
left kernel of a matrix with a row for each masked vector, a column for each unknown key, and how often the key was
added. A vector that was masked twice is one vector: where two sums open, so does what they differ by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

Row = Mapping[bytes, int]
"""The unknown masks of one masked vector: by key, how often it was added."""

Sparse = dict[Any, Fraction]
"""A vector by its entries that are not zero."""


@dataclass(frozen=True)
class Opened:
    """A sum that opens: the factor of each masked vector, by its place, and of each vector that is left in it."""

    by: Sparse
    left: Sparse


def sums_that_open(rows: Sequence[Row], vectors: Sequence[Hashable]) -> list[Opened]:
    """Return the sums that open; of those that have vectors in common, the one that has the fewest.

    `vectors` says which vector each row masks. A sum that is empty opens nothing.
    """
    found: list[Opened] = []
    places = _coverable(rows)
    for part in _parts([set(rows[place]) for place in places]):
        for by in _kernel({places[at]: rows[places[at]] for at in part}):
            found.append(Opened(by, _left(by, vectors)))
    found = [one for one in found if one.left]
    groups = _parts([set(one.left) for one in found])
    return [_fewest([found[at] for at in group], vectors) for group in groups]


def _coverable(rows: Sequence[Row]) -> list[int]:
    """Return the places of the rows that can be in a sum that opens: none has an unknown mask to itself."""
    places = list(range(len(rows)))
    while True:
        used = Counter(key for place in places for key, times in rows[place].items() if times)
        left = [place for place in places if all(used[key] > 1 for key, times in rows[place].items() if times)]
        if len(left) == len(places):
            return left
        places = left


def _parts(sets: Sequence[set[Any]]) -> list[list[int]]:
    """Return the numbers of these sets in parts that have nothing in common."""
    parts: list[tuple[set[Any], list[int]]] = []
    for number, items in enumerate(sets):
        joined, numbers = set(items), [number]
        for part in [part for part in parts if joined & part[0]]:
            parts.remove(part)
            joined, numbers = joined | part[0], numbers + part[1]
        parts.append((joined, numbers))
    return [sorted(numbers) for _, numbers in parts]


def _kernel(rows: Mapping[int, Mapping[Any, int | Fraction]]) -> list[Sparse]:
    """Return independent combinations that span all which are zero (Gaussian elimination)."""
    pivots: list[tuple[Any, Sparse, Sparse]] = []
    found: list[Sparse] = []
    for place, row in rows.items():
        left, made = {key: Fraction(times) for key, times in row.items() if times}, {place: Fraction(1)}
        for key, pivot, by in pivots:
            if factor := left.get(key):
                _add(left, pivot, -factor / pivot[key])
                _add(made, by, -factor / pivot[key])
        if left:
            pivots.append((next(iter(left)), left, made))
        else:
            found.append(made)
    return found


def _add(to: Sparse, row: Mapping[Any, Fraction], factor: Fraction) -> None:
    for key, value in row.items():
        to[key] = to.get(key, Fraction(0)) + factor * value
        if not to[key]:
            del to[key]


def _left(by: Sparse, vectors: Sequence[Hashable]) -> Sparse:
    left: Sparse = {}
    for place, factor in by.items():
        _add(left, {vectors[place]: factor}, Fraction(1))
    return left


def _fewest(sums: Sequence[Opened], vectors: Sequence[Hashable]) -> Opened:
    """Return the combination of these sums over the fewest vectors: sets of vectors are tried, small ones first."""
    if len(sums) == 1:
        return sums[0]
    among = sorted({vector for one in sums for vector in one.left}, key=str)
    for count in range(1, len(among) + 1):
        for chosen in combinations(among, count):
            outside = {
                at: {vector: times for vector, times in one.left.items() if vector not in chosen}
                for at, one in enumerate(sums)
            }
            for mix in _kernel(outside):
                by: Sparse = {}
                for at, factor in mix.items():
                    _add(by, sums[at].by, factor)
                if left := _left(by, vectors):
                    return Opened(by, left)
    raise AssertionError("one of the sums is the least")
