"""Reading a plan: TOML text and overrides become one `Plan`, or one error that lists the faults."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import PlanError
from .plan import Plan
from .rules import RULES, Sections

AnyPlan = TypeVar("AnyPlan", bound=Plan)
Tables = dict[str, dict[str, Any]]
Counter = Callable[..., int]
"""Returns the number of parameters of a network, from its name, the shape of a record, and the number of classes; a
fourth argument says what stays frozen, if anything does."""

MOST_CHARACTERS = 1 << 16
"""The largest number of characters in a plan. A server may send the text, so the cost of reading it is bounded."""

MOST_DEPTH = 5
"""The deepest nesting of tables and lists; a plan needs four levels, for a list in a column's table."""

MOST_DOTS = 100
"""The most dots on a line: the time to parse a key of n parts grows like n^2."""

MOST_FAULTS, MOST_SHOWN = 10, 60
"""The most faults that a message lists, and the most characters of a value that it shows."""

Fault = Callable[[], str]


def read_tables(path: Path) -> Tables:
    """Return the tables of a TOML plan file.

    Raises:
        PlanError: the file is missing, unreadable or not TOML.
    """
    try:
        return parse_tables(path.read_text("utf-8"), str(path))
    except FileNotFoundError:
        raise PlanError(f"there is no plan file {path}", "give the path of a .toml plan") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise PlanError(f"cannot read the plan file {path}", "give a readable .toml plan") from fault


def parse_tables(text: str, name: str = "the plan") -> Tables:
    """Return the tables of TOML text; error messages call the text `name`.

    Raises:
        PlanError: the text is not TOML, is too long or nested too deeply, or has a value outside a table.
    """
    if len(text) > MOST_CHARACTERS:
        raise PlanError(f"{name} has more than {MOST_CHARACTERS:,} characters", "a plan is a page of TOML: give that")
    if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
        raise PlanError(f"{name} has a line with more than {MOST_DOTS} dots", "write one key a line, under its table")
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        raise PlanError(f"{name} is not toml: {shorten(fault)}", mend_toml(text, fault)) from None
    if not tables:
        raise PlanError(f"{name} is empty", "write the tables of a plan in it, as [data] and [privacy]")
    if _is_deep(tables):
        raise PlanError(f"{name} has tables within tables within tables", 'write keys under one table, as "[cohort]"')
    if stray := [key for key, value in tables.items() if not isinstance(value, dict)]:
        raise PlanError(f"{name} has {shorten(stray[0])} outside a table", 'write it under its table, as "[cohort]"')
    return tables


def mend_toml(text: str, fault: Exception) -> str:
    """Return a hint for TOML text that could not be read, from the usual mistakes on the faulty line."""
    if text.startswith("\ufeff"):
        return "save the file as UTF-8 without a byte order mark"
    lines, place = text.split("\n"), re.search(r"\(at line (\d+), column \d+\)$", str(fault))
    line = lines[int(place[1]) - 1] if place and int(place[1]) <= len(lines) else ""
    if line.rstrip().endswith((";", ",")):
        return "leave out the mark at the end of that line: TOML ends a value with the line"
    if "\\" in line:
        return "write a path with backslashes in single quotes, as path = 'C:\\data\\x.csv'"
    if re.search(r"=\s*[+-]?\.\d", line):
        return "write a digit before the point, as 0.5"
    if re.search(r"=\s*(True|False)\b", line):
        return "write true and false in small letters"
    if re.search(r"=\s*[A-Za-z/]", line):
        return 'write text in quotes, as name = "cnn"'
    return 'mend that line: TOML is written as key = value, text in quotes, under a table such as "[cohort]"'


def _is_deep(value: Any) -> bool:
    """Whether tables or lists are nested deeper than `MOST_DEPTH`."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [part for one in level for part in _parts(one) if isinstance(part, dict | list)]
    return bool(level)


def _parts(value: Any) -> list[Any]:
    return list(cast(dict[str, Any], value).values() if isinstance(value, dict) else value)


def show(value: object) -> str:
    """Return a value as Python writes it, shortened, or words for a whole number that Python cannot write."""
    try:
        return shorten(repr(value))
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def shorten(text: object) -> str:
    """Return the text, cut to `MOST_SHOWN` characters."""
    words = str(text)
    return words if len(words) <= MOST_SHOWN else f"{words[:MOST_SHOWN]}..."


def override(tables: Tables, settings: Sequence[str]) -> Tables:
    """Return the tables with settings such as `privacy.epsilon=4`. A value that is not TOML is a string.

    Raises:
        PlanError: a setting is not of the form `table.key=value`.
    """
    changed = {name: dict(table) for name, table in tables.items()}
    for setting in settings:
        path, equals, text = setting.partition("=")
        table, dot, key = path.strip().partition(".")
        if not (equals and dot and table and key):
            raise PlanError(f"--set {setting} is not table.key=value", "write it as --set privacy.epsilon=4")
        changed.setdefault(table, {})[key] = _value(text.strip())
    return changed


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def parse_plan(tables: Tables, kind: type[AnyPlan], name: str = "the plan", count: Counter | None = None) -> AnyPlan:
    """Return the plan of these tables, or raise one error that lists the faults.

    `count` returns a network's number of parameters; a plan with another number is refused. The plan's cost, and
    whether its noise can be drawn, are checked by `accept`, not here.

    Raises:
        PlanError: a key is unknown, a value is out of range, or keys contradict each other.
    """
    sections, faults = _sections(tables, kind)
    broken = [fault for rule in RULES if (fault := _judge(rule, sections))]
    if count_faults := len(faults) + len(broken):
        listed = [*(fault() for fault in faults[:MOST_FAULTS]), *broken][:MOST_FAULTS]
        what = "a fault" if count_faults == 1 else f"{count_faults} faults"
        more = f"; and {count_faults - MOST_FAULTS} more" if count_faults > MOST_FAULTS else ""
        raise PlanError(f"{name} has {what}: {'; '.join(listed)}{more}", _change(listed, kind))
    return kind.model_validate(_counted(sections, count))


def _counted(sections: Sections, count: Counter | None) -> Sections:
    """Return the sections with the network's number of parameters; refuse a plan that gives another number."""
    model, data = sections["model"], sections["data"]
    if count is None:
        return sections
    try:
        parameters = count(model.name, data.shape, data.classes, *([model.kept_start] if model.kept_start else []))
    except KeyError as fault:
        what = getattr(fault, "what", f"there is no model {model.name}")
        raise PlanError(what, getattr(fault, "hint", "set model.name to cnn")) from None
    except ValueError as fault:
        hint = getattr(fault, "hint", "set data.shape and data.classes to match the model")
        raise PlanError(str(fault), hint) from None
    if model.parameters not in (None, parameters):
        what = f"model.parameters is {model.parameters}, {model.name} has {parameters}"
        raise PlanError(what, "leave model.parameters out")
    return sections | {"model": model.model_copy(update={"parameters": parameters})}


def _sections(tables: Tables, kind: type[Plan]) -> tuple[Sections, list[Fault]]:
    """Return the sections without faults, and the faults, each as a function that returns its text."""
    fields = kind.model_fields
    sections: Sections = {}
    faults: list[Fault] = [partial(_unknown, table, fields) for table in tables if table not in fields]
    for section, field in fields.items():
        model = cast(type[BaseModel], field.annotation)
        try:
            sections[section] = model.model_validate(tables.get(section, {}))
        except ValidationError as fault:
            faults += [partial(_fault, section, error, model) for error in fault.errors(include_url=False)]
    return sections, faults


KEY = re.compile(r"\b([a-z]+)\.([a-z_]+)\b")


def _change(listed: Sequence[str], kind: type[Plan]) -> str:
    """Return a hint for the first of these faults. It names the fault's first key and that key's default."""
    first = listed[0]
    if re.search(r"not '[+-]?\.\d+'$", first):
        return "write a digit before the point, as 0.5"
    if re.search(r"not '(True|False)'$", first):
        return "write true or false, in small letters"
    if first.startswith("data.columns."):
        return "write public constants, as age = {scale = [20, 80], fill = 50}: no plan takes them from the data"
    fields = kind.model_fields
    keys = [f"{table}.{key}" for table, key in dict.fromkeys(KEY.findall(first)) if table in fields]
    if not keys:
        return f"write keys under a table of a plan: {', '.join(f'[{table}]' for table in fields)}"
    table, key = keys[0].split(".")
    known = cast(type[BaseModel], fields[table].annotation).model_fields
    if key not in known:
        return f"[{table}] has {', '.join(known)}"
    default = known[key].default
    example = json.dumps(default) if isinstance(default, bool | int | float | str | tuple) else None
    usual = f" (by default {keys[0]} = {example})" if example else " or leave it out"
    return f"change {' or '.join(keys)}{usual}"


def _unknown(table: str, known: Iterable[str]) -> str:
    return f"[{shorten(table)}] is not a table{_nearest(table, known)}"


def _fault(section: str, error: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join([section, *(shorten(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{key} is not a key{_nearest(str(error['loc'][-1]), model.model_fields, section + '.')}"
    message = error["msg"].removeprefix("Input should be ").replace("'", "")
    return f"{key} must be {message}, not {show(error['input'])}"


def _nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = get_close_matches(word[:MOST_SHOWN], list(known), 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def _judge(rule: Callable[[Sections], str | None], sections: Sections) -> str | None:
    try:
        return rule(sections)
    except KeyError:  # the rule reads a table that has faults of its own
        return None
