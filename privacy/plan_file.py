"""Reading a plan: TOML text and overrides become one `Plan`, or one message that names every fault."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import PlanError
from .plan import Plan
from .plan_rules import CHECKS, RULES, Sections

AnyPlan = TypeVar("AnyPlan", bound=Plan)
Tables = dict[str, dict[str, Any]]
Counter = Callable[[str, tuple[int, ...], int], int]
"""Tells how many parameters the network of a name has, for records of a shape and so many classes."""


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
    """Return the tables of TOML text; `name` is what messages call it.

    Raises:
        PlanError: it is not TOML, or has a value outside a table.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as fault:
        raise PlanError(f"{name} is not toml: {fault}", "mend that line") from None
    if stray := [key for key, value in tables.items() if not isinstance(value, dict)]:
        raise PlanError(f"{name} has {stray[0]} outside a table", 'write it under its table, as "[cohort]"')
    return tables


def override(tables: Tables, settings: Sequence[str]) -> Tables:
    """Return the tables with settings such as `privacy.epsilon=4` put in; a value is TOML, or else a string.

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


def make_plan(tables: Tables, kind: type[AnyPlan], name: str = "the plan", count: Counter | None = None) -> AnyPlan:
    """Return the plan of these tables, resolved. Every fault found is in the one error.

    `count` tells how many parameters a network has: a plan that says otherwise is refused.

    Raises:
        PlanError: a key is unknown, a value is out of range, keys contradict each other, or the rounds cost more
            than the budget.
    """
    sections, faults = _sections(tables, kind)
    faults += [fault for rule in RULES if (fault := _judge(rule, sections))]
    if faults:
        what = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise PlanError(f"{name} has {what}: {'; '.join(faults)}", "mend it and try again")
    plan = kind.model_validate(_counted(sections, count)).resolved()
    for check in CHECKS:
        check(plan)
    return cast(AnyPlan, plan)


@lru_cache(maxsize=8)
def read_plan(text: str, count: Counter | None = None) -> Plan:
    """Return the plan that a deployment was given as TOML text; what only simulations read is left aside.

    Raises:
        PlanError: as `make_plan`.
    """
    tables = parse_tables(text)
    tables.pop("simulation", None)
    return make_plan(tables, Plan, count=count)


def _counted(sections: Sections, count: Counter | None) -> Sections:
    """Return the sections with the number of parameters filled in, which must be the network's where it is given."""
    model, data = sections["model"], sections["data"]
    if count is None:
        return sections
    try:
        parameters = count(model.name, data.shape, data.classes)
    except KeyError:
        raise PlanError(f"there is no model {model.name}", "set model.name to cnn") from None
    except ValueError as fault:
        raise PlanError(str(fault), "set data.shape and data.classes to match the model") from None
    if model.parameters not in (None, parameters):
        what = f"model.parameters is {model.parameters}, {model.name} has {parameters}"
        raise PlanError(what, "leave model.parameters out")
    return sections | {"model": model.model_copy(update={"parameters": parameters})}


def _sections(tables: Tables, kind: type[Plan]) -> tuple[Sections, list[str]]:
    fields = kind.model_fields
    sections: Sections = {}
    faults = [f"[{t}] is not a table{_nearest(t, fields)}" for t in tables if t not in fields]
    for section, field in fields.items():
        model = cast(type[BaseModel], field.annotation)
        try:
            sections[section] = model.model_validate(tables.get(section, {}))
        except ValidationError as fault:
            faults += [_fault(section, error, model) for error in fault.errors()]
    return sections, faults


def _fault(section: str, error: ErrorDetails, model: type[BaseModel]) -> str:
    key = ".".join([section, *(str(part) for part in error["loc"])])
    if error["type"] == "extra_forbidden":
        return f"{key} is not a key{_nearest(str(error['loc'][-1]), model.model_fields, section + '.')}"
    message = error["msg"].removeprefix("Input should be ").replace("'", "")
    return f"{key} must be {message}, not {error['input']!r}"


def _nearest(word: str, known: Iterable[str], prefix: str = "") -> str:
    close = get_close_matches(word, list(known), 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def _judge(rule: Callable[[Sections], str | None], sections: Sections) -> str | None:
    try:
        return rule(sections)
    except KeyError:  # the rule reads a table that has faults of its own
        return None
