"""What becomes of the columns of a table before a network sees them: numbers, by public constants of the plan.

Simulations, devices, a server's test data and predictions all use these functions. What becomes of a record depends
on that record and on the constants alone, never on another record.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Cells = Sequence[str | None]
"""The cells of a column as text, in the order of the records; None and empty cells are missing."""
Known = NDArray[np.bool_]
"""bool [N]: which records could be transformed. All other records have zeros as numbers."""

_MISSING = "na n/a nan null none ? ."
MISSING = frozenset(["", *_MISSING.split()])
"""How a missing cell is written, in any case."""

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""A number. No text matches in two ways, so the time for a cell does not grow faster than its length."""

LONGEST = 4096
"""The longest word, in characters, that is brought to a form of Unicode: that takes time by the square of its length.
A device must not miss a round because of what a record holds."""

_PLAIN = re.compile(r"[0-9.eE+\-, ]+")
_FLAGS = {"true": 1.0, "false": 0.0}


class Rule(Protocol):
    """How a column becomes numbers; `bract.privacy.plan.schema.Column` says what each part means."""

    @property
    def missing(self) -> tuple[float | str, ...] | None: ...  # noqa: D102
    @property
    def fill(self) -> float | str | None: ...  # noqa: D102
    @property
    def clip(self) -> tuple[float, float] | None: ...  # noqa: D102
    @property
    def scale(self) -> tuple[float, float] | None: ...  # noqa: D102
    @property
    def standardize(self) -> tuple[float, float] | None: ...  # noqa: D102
    @property
    def values(self) -> tuple[float | str, ...] | None: ...  # noqa: D102
    @property
    def other(self) -> str | None: ...  # noqa: D102


def encode(cells: Cells, rule: Rule | None) -> tuple[NDArray[np.float32], Known]:
    """Return the numbers, float32 [N, width], that a column becomes, and which records could be transformed.

    Without `values`, or without a rule, a cell must be a finite number, or true (1) or false (0) in any case.
    """
    if rule is not None and rule.values is not None:
        return _one_hot(cells, rule)
    numbers = read_numbers(cells)
    if rule is not None and rule.fill is not None:
        numbers = np.where(_are_missing(cells, rule), float(rule.fill), numbers)
    changed, known = rescale(numbers, rule)
    return changed[:, None], known


def rescale(numbers: NDArray[Any], rule: Rule | None) -> tuple[NDArray[np.float32], Known]:
    """Return numbers [N, ...] as float32 [N, ...] after the rule's steps, and which records are finite throughout."""
    with np.errstate(over="ignore", invalid="ignore"):
        changed = np.asarray(numbers, dtype=np.float64)
        if rule is not None:
            changed = _scaled(changed, rule)
        narrow = changed.astype(np.float32)
    finite = np.isfinite(narrow).reshape(len(narrow), math.prod(narrow.shape[1:]))
    known: Known = np.logical_and.reduce(finite, axis=1)
    narrow[~known] = 0
    return narrow, known


def restore(numbers: NDArray[np.floating], rule: Rule | None) -> NDArray[np.float64]:
    """Return predicted numbers in the units of the data: the inverse of `scale` or `standardize`."""
    found = np.asarray(numbers, dtype=np.float64)
    if rule is not None and rule.scale:
        low, high = rule.scale
        return (found + 1) / 2 * (high - low) + low
    if rule is not None and rule.standardize:
        mean, deviation = rule.standardize
        return found * deviation + mean
    return found


def rule_of_label(rules: Mapping[str, Rule] | None, label: str | None) -> Rule | None:
    """Return how a plan's columns scale the numbers to predict, None if they leave them as they are."""
    named = (name for name in (label, "label", "target") if name is not None)
    return next((rules[name] for name in named if name in rules), None) if rules else None


def number_classes(cells: Cells, names: Sequence[float | str]) -> tuple[NDArray[np.int64], Known]:
    """Return the number of each cell's class, int64 [N]: its place in the public list `names`; 0 where it is none."""
    places = _places(cells, names)
    return np.maximum(places, 0), places >= 0


def read_numbers(cells: Cells) -> NDArray[np.float64]:
    """Return the cells as float64 [N], NaN for a cell that is neither a number in decimal notation nor true or false.

    >>> read_numbers(["1.5", " -2e3 ", "1_000", "nan", None, "True"]).tolist()
    [1.5, -2000.0, nan, nan, nan, 1.0]
    """
    words = [cell or "" for cell in cells]
    if words and _PLAIN.fullmatch(",".join(words)):
        try:
            return np.array([float(word) for word in words])
        except ValueError:  # such as an empty cell
            pass
    return np.array([_number(word) for word in words], dtype=np.float64)


def clean(word: str) -> str:
    """Return the word in Unicode's form NFC, without outer blanks and with each inner run of blanks as one.

    Words longer than `LONGEST` stay in the form they have.

    >>> clean("  Ange\\u0301le   B. ")
    'Angéle B.'
    """
    return " ".join((word if len(word) > LONGEST else unicodedata.normalize("NFC", word)).split())


def _number(word: str) -> float:
    text = word.strip()
    return float(text) if _NUMBER.fullmatch(text) else _FLAGS.get(text.casefold(), np.nan)


def _scaled(numbers: NDArray[np.float64], rule: Rule) -> NDArray[np.float64]:
    if rule.clip:
        numbers = np.clip(numbers, *rule.clip)
    if rule.scale:
        low, high = rule.scale
        return 2 * (numbers - low) / (high - low) - 1
    if rule.standardize:
        mean, deviation = rule.standardize
        return (numbers - mean) / deviation
    return numbers


def _one_hot(cells: Cells, rule: Rule) -> tuple[NDArray[np.float32], Known]:
    names = rule.values or ()
    width = len(names) + (rule.other == "column")
    places = _places(cells, names)
    if rule.fill is not None:
        filled = names.index(rule.fill) if rule.fill in names else len(names)
        places = np.where((places < 0) & _are_missing(cells, rule), filled, places)
    elif rule.other is not None:
        places = np.where((places < 0) & _are_missing(cells, rule), -2, places)
    known = places >= 0 if rule.other is None else places != -2
    if rule.other is not None:
        places = np.where(places == -1, len(names), places)
    numbers = np.zeros((len(places), len(names) + 1), dtype=np.float32)
    numbers[np.flatnonzero(known), places[known]] = 1
    return numbers[:, :width], known


def _places(cells: Cells, names: Sequence[float | str]) -> NDArray[np.int64]:
    """Return the place of each cell in `names`, int64 [N], or -1. A number in `names` stands for every spelling."""
    words = {clean(name): place for place, name in enumerate(names) if isinstance(name, str)}
    numbers = {float(name): place for place, name in enumerate(names) if not isinstance(name, str)}

    def place(cell: str) -> int:
        word = clean(cell)
        return words.get(word, numbers.get(_number(word), -1))

    found = {cell: place(cell or "") for cell in set(cells)}
    return np.array([found[cell] for cell in cells], dtype=np.int64)


def _are_missing(cells: Cells, rule: Rule) -> Known:
    """Return bool [N]: which cells are empty, hold a usual sign for a missing value, or are in `rule.missing`."""
    usual = {cell: clean(cell or "").casefold() in MISSING for cell in set(cells)}
    return np.array([usual[cell] for cell in cells], dtype=np.bool_) | (_places(cells, rule.missing or ()) >= 0)
