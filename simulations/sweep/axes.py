"""The grid of a sweep: keys of the plan, the values of each, and all combinations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ...privacy import PlanError, override
from ...privacy.plan.toml import Tables

Values = Mapping[str, Any]
"""One point of a grid: the value of each varied key, in the order of the axes."""

PAIRS = {"[": "]", "{": "}"}
SEED = "simulation.seed"


@dataclass(frozen=True)
class Axis:
    """A key of the plan, such as `privacy.epsilon`, and its values."""

    key: str
    values: tuple[Any, ...]


def read_axis(text: str) -> Axis:
    """Return the axis for text such as `privacy.epsilon=1,2,4,8`; a value is TOML, or else a string.

    >>> read_axis("data.split=iid,natural").values
    ('iid', 'natural')

    Raises:
        PlanError: the text is malformed, or names a value twice.
    """
    key, equals, rest = text.partition("=")
    table, dot, name = key.strip().partition(".")
    pieces = [piece.strip() for piece in split(rest)]
    if not (equals and dot and table and name and all(pieces)):
        raise PlanError(f"--over {text} is not table.key=value,value", "write it as --over privacy.epsilon=1,2,4")
    if key.strip() == SEED:
        raise PlanError("--over cannot vary simulation.seed", "ask for repetitions with --seeds 3")
    values = tuple(override({}, [f"{table}.{name}={piece}"])[table][name] for piece in pieces)
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        raise PlanError(f"--over {key.strip()} has the value {show(twice[0])} twice", "name each value once")
    return Axis(key.strip(), values)


def read_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """Return the axes for these texts, in order.

    Raises:
        PlanError: a text is malformed, or a key occurs twice.
    """
    axes = tuple(read_axis(text) for text in texts)
    keys = [axis.key for axis in axes]
    if twice := [key for place, key in enumerate(keys) if key in keys[:place]]:
        raise PlanError(f"--over names {twice[0]} twice", "give all its values in one --over")
    return axes


def points(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return all combinations of values; the first axis varies slowest. Without axes, return one empty point."""
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, values, strict=True)) for values in product(*(axis.values for axis in axes))]


def put(tables: Tables, values: Values) -> Tables:
    """Return a copy of a plan's tables with the values of one point."""
    changed = {name: dict(table) for name, table in tables.items()}
    for path, value in values.items():
        table, _, key = path.partition(".")
        changed.setdefault(table, {})[key] = value
    return changed


def show(value: Any) -> str:
    """Return a value as text: strings without quotes, other values as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def describe(values: Values) -> str:
    """Return one point in words.

    >>> describe({"privacy.epsilon": 4, "data.split": "iid"})
    'privacy.epsilon=4, data.split=iid'
    """
    return ", ".join(f"{key}={show(value)}" for key, value in values.items()) or "the plan as it is"


def split(text: str) -> list[str]:
    """Return the pieces between commas; commas inside brackets or quotation marks do not split.

    >>> split('[1, 28, 28], "a,b", c')
    ['[1, 28, 28]', ' "a,b"', ' c']
    """
    pieces, start = [], 0
    for place in _commas(text):
        pieces.append(text[start:place])
        start = place + 1
    return [*pieces, text[start:]]


def _commas(text: str) -> Iterator[int]:
    closing: list[str] = []
    for place, sign in enumerate(text):
        if closing and sign == closing[-1]:
            closing.pop()
        elif closing and closing[-1] in "\"'":
            continue
        elif sign in "\"'":
            closing.append(sign)
        elif sign in PAIRS:
            closing.append(PAIRS[sign])
        elif sign == "," and not closing:
            yield place
