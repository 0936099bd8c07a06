"""Checks and conversions of features, labels and clients, shared by the readers of users' files."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...models.columns import clean, number_classes
from ...privacy.errors import DataError

Place = Callable[[int], str]  # says where record i is, and never quotes its content

WHOLE = 2**24  # up to this size float32 holds every whole number
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FILL = "fill in or leave out the missing and infinite values"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any exception of a reading library into a DataError that quotes nothing from the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as fault:  # libraries raise almost any exception on a damaged file
        what = f"cannot read {path} ({type(fault).__name__})"
        raise DataError(what, "check that the file is complete and that its suffix is right") from fault


def fitted(features: np.ndarray, shape: tuple[int, ...], place: Place) -> np.ndarray:
    """Return features float32 [N, *shape] from numbers [N, ...]; uint8 is divided by 255.

    A record's shape may differ from the plan's by axes of length 1, or one of the two shapes may be flat; the values
    are then in C order (the last axis varies fastest).

    Raises: DataError if the shapes do not match in this way, or if float32 cannot hold a value.
    """
    _check_axes(features.shape[1:], shape)
    if features.dtype.kind not in "biuf":
        raise DataError("the features are not numbers", "save them as an array of floats or of uint8 pixels")
    numbers = as_float32(features, place).reshape(len(features), *shape)
    if features.dtype == np.uint8:
        numbers /= 255
    return numbers


def as_float32(values: np.ndarray, place: Place) -> np.ndarray:
    """Return numbers [N, ...] as float32 [N, ...].

    Raises: DataError that names the first record with a value that is missing, infinite, too large for float32, or an
    integer that float32 would round.
    """
    if values.dtype.kind in "iu":
        refuse_rounded(_first(loses_digits(values)), place)
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    row = _first(~np.isfinite(numbers))
    if row is None:
        return numbers
    if np.isnan(values[row]).any():
        raise DataError(f"{place(row)} holds a missing value (NaN)", _FILL)
    if np.isinf(values[row]).any():
        raise DataError(f"{place(row)} holds an infinite value", _FILL)
    what = f"{place(row)} holds a value beyond 3.4e38, the largest that float32 can hold"
    raise DataError(what, "scale the feature, for example to -1..1")


def loses_digits(values: np.ndarray) -> np.ndarray:
    """Return bool [N, ...]: whether float32 would round the integer in `values`.

    float32 is exact if the integer, divided by its largest power of two, is at most 2^24.

    >>> loses_digits(np.array([2**24, 2**24 + 1, 10 * 2**30, -(2**63)])).tolist()
    [False, True, False, False]
    """
    if values.dtype.itemsize < 4:
        return np.zeros(values.shape, dtype=bool)
    size = np.where(values < 0, np.negative(values), values).astype(np.uint64)
    return size // np.maximum(size & (~size + np.uint64(1)), 1) > WHOLE


def refuse_rounded(row: int | None, place: Place) -> None:
    """Refuse record `row`, which has an integer that float32 would round; accept None.

    Raises: DataError that names the record.
    """
    if row is not None:
        what = f"{place(row)} holds a whole number above 2^24 that float32 would round"
        raise DataError(what, "leave the feature out if it is an id; else scale it, for example to -1..1")


def listed_classes(labels: Sequence[str | None], names: Sequence[float | str], place: Place) -> np.ndarray:
    """Return class numbers int64 [N]: each label's place in the public list `names` (`data.labels`).

    Raises: DataError that names the first record whose label is not in the list.
    """
    numbers, known = number_classes(labels, names)
    if not known.all():
        what = f"{place(int(known.argmin()))} is none of data.labels"
        raise DataError(what, "correct the label, or list every class in data.labels")
    return numbers


def class_numbers(labels: np.ndarray, classes: int, place: Place) -> np.ndarray:
    """Return finite numbers [N] as class numbers, int64 [N] in 0..classes-1.

    Raises: DataError that names the first record whose label is not one of the classes.
    """
    faults = (labels < 0) | (labels >= classes) | (labels != np.floor(labels))
    if faults.any():
        what = f"{place(int(faults.argmax()))} is not one of the classes 0..{classes - 1}"
        raise DataError(what, "number the classes from 0, or raise data.classes in the plan")
    return labels.astype(np.int64)


def named_classes(labels: Sequence[str], classes: int, place: Place) -> np.ndarray:
    """Return class numbers int64 [N] from labels that are all numbers (unchanged) or all words (sorted, numbered).

    Blanks around a label are ignored.

    Raises: DataError if a label is missing or is not one of the classes, if numbers and words are mixed, or if one
    label has two spellings.
    """
    spelled = [clean(label) for label in labels]
    names = sorted(set(spelled))
    if "" in names:
        raise DataError(f"{place(spelled.index(''))} is missing", "give every record a label")
    numeric = {name for name in names if _NUMBER.fullmatch(name)}
    if 0 < len(numeric) < len(names):
        odd = len(numeric) <= len(names) / 2  # whether numbers are the minority
        row = next(row for row, name in enumerate(spelled) if (name in numeric) == odd)
        what = f"{place(row)} is {'a number' if odd else 'not a number'}, unlike most others"
        raise DataError(what, "write all labels as whole numbers, or all as words, for example class-10")
    _check_spelling(spelled, (lambda name: str(float(name))) if numeric else look, place)
    if numeric:
        return class_numbers(np.array([float(name) for name in spelled]), classes, place)
    if len(names) > classes:
        what = f"there are {len(names)} different labels, the plan has {classes} classes"
        raise DataError(what, f"set data.classes = {len(names)} in the plan, or correct the labels")
    ranks = {name: rank for rank, name in enumerate(names)}
    return np.array([ranks[name] for name in spelled], dtype=np.int64)


def predicted(values: np.ndarray, place: Place) -> np.ndarray:
    """Return the numbers to predict [N] as float32 [N].

    Raises: DataError that names the first record whose number float32 cannot hold.
    """
    return as_float32(values, place)


def client_numbers(names: Sequence[str | None], place: Place) -> np.ndarray:
    """Return client numbers int64 [N] in 0..K-1: ranks of the distinct names, first numbers by size, then words.

    Names are text: 7 and 007 are two clients. Blanks around a name and the Unicode form of its letters are ignored.
    A name counts as missing only if it is empty.

    Raises: DataError that names the first record without a client.
    """
    written = {name: clean(name or "") for name in set(names)}
    missing = next((row for row, name in enumerate(names) if not written[name]), None)
    if missing is not None:
        raise DataError(f"{place(missing)} is missing", "name the owner of every record, or leave all owners out")
    ranks = {name: rank for rank, name in enumerate(sorted(set(written.values()), key=_by_size))}
    return np.array([ranks[written[name]] for name in names], dtype=np.int64)


def look(name: str) -> str:
    """Return the name without case and invisible characters, in form NFKC: equal for names that look alike."""
    shown = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join("".join(shown).casefold().split())


def check_filled(count: int, path: Path) -> None:
    """Refuse data without records.

    Raises: DataError if `count` is zero.
    """
    if count == 0:
        raise DataError(f"{path} holds no records", "set data.path to data that hold at least one record")


def _first(faults: np.ndarray) -> int | None:
    """Return the first record with a fault in `faults` [N, ...], or None."""
    rows = faults.reshape(len(faults), math.prod(faults.shape[1:])).any(axis=1)
    return int(rows.argmax()) if rows.any() else None


def _by_size(name: str) -> tuple[bool, int, str]:
    is_number = re.fullmatch("-?[0-9]{1,99}", name) is not None
    return not is_number, int(name) if is_number else 0, name


def _check_spelling(spelled: Sequence[str], key: Callable[[str], str], place: Place) -> None:
    """Refuse two different labels with the same key."""
    first: dict[str, str] = {}
    for row, name in enumerate(spelled):
        if first.setdefault(key(name), name) != name:
            what = f"{place(row)} is a label that another record spells differently"
            raise DataError(what, "spell each label the same everywhere, with the same upper and lower case")


def _check_axes(found: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if math.prod(found) != math.prod(shape):
        raise DataError(
            f"a record has {math.prod(found)} values {_listed(found)}, the plan's shape {_listed(shape)} "
            f"needs {math.prod(shape)}",
            "set data.shape to the shape of one record, or leave out values that are not features",
        )
    axes, wanted = [tuple(size for size in sizes if size != 1) for sizes in (found, shape)]
    if axes == wanted or len(axes) <= 1 or len(wanted) <= 1:
        return
    if len(shape) == 3 and found == (*shape[1:], shape[0]):
        what = f"the channels come last {_listed(found)}, the plan's shape {_listed(shape)} has them first"
        raise DataError(what, "move them: x.transpose(0, 3, 1, 2)")
    what = f"a record has the shape {_listed(found)}, the plan says {_listed(shape)}"
    raise DataError(what, f"set data.shape = {_listed(found)}, or bring the axes into the plan's order")


def _listed(shape: tuple[int, ...]) -> str:
    return str(list(shape))
