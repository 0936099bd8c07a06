"""Reading a plan: TOML text and overrides become one `Plan`, or one message that names every fault."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import PlanError
from .noise import LEAST_STD, MOST_STD
from .plan import Plan
from .secagg.graph import COMPLETE, MOST_DEVICES, choose_graph, most_colluders

AnyPlan = TypeVar("AnyPlan", bound=Plan)
Sections = dict[str, Any]
Tables = dict[str, dict[str, Any]]


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


def make_plan(tables: Tables, kind: type[AnyPlan], name: str = "the plan") -> AnyPlan:
    """Return the plan of these tables, resolved. Every fault found is in the one error.

    Raises:
        PlanError: a key is unknown, a value is out of range, keys contradict each other, or the rounds cost more
            than the budget.
    """
    sections, faults = _sections(tables, kind)
    faults += [fault for rule in RULES if (fault := _judge(rule, sections))]
    if faults:
        what = "a fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise PlanError(f"{name} has {what}: {'; '.join(faults)}", "mend it and try again")
    plan = kind.model_validate(sections).resolved()
    _check_budget(plan)
    _check_ring(plan)
    _check_noise(plan)
    return cast(AnyPlan, plan)


@lru_cache(maxsize=8)
def read_plan(text: str) -> Plan:
    """Return the plan that a deployment was given as TOML text; what only simulations read is left aside.

    Raises:
        PlanError: as `make_plan`.
    """
    tables = parse_tables(text)
    tables.pop("simulation", None)
    return make_plan(tables, Plan)


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


def _cohort_fits(s: Sections) -> str | None:
    size, clients = s["cohort"].size, s["data"].clients
    return f"cohort.size is {size}, data.clients only {clients}" if size > clients else None


def _minimum_fits(s: Sections) -> str | None:
    minimum, size = s["cohort"].minimum, s["cohort"].size
    return f"cohort.minimum is {minimum}, above cohort.size {size}" if minimum > size else None


def _central_takes_one_step(s: Sections) -> str | None:
    steps, noise = s["training"].local_steps, s["privacy"].noise
    if noise == "central" and steps > 1:
        return f"training.local_steps is {steps}, but noise = central makes one step a round"
    return None


def _malicious_is_complete(s: Sections) -> str | None:
    a, size = s["aggregation"], s["cohort"].size
    if a.protocol == "secagg" and a.mode == "malicious-server" and size > COMPLETE:
        return f"cohort.size is {size}, aggregation.mode = malicious-server takes at most {COMPLETE}"
    return None


def _secagg_has_company(s: Sections) -> str | None:
    secure, size = s["aggregation"].protocol == "secagg", s["cohort"].size
    if secure and size > MOST_DEVICES:
        return f"cohort.size is {size}, secure aggregation takes at most {MOST_DEVICES}"
    return "cohort.size is 1, secure aggregation hides no sum of one" if secure and size < 2 else None


def _graph_exists(s: Sections) -> str | None:
    a, size = s["aggregation"], s["cohort"].size
    if a.protocol != "secagg" or not 2 <= size <= MOST_DEVICES:
        return None
    try:
        choose_graph(size, most_colluders(size, a.colluders), a.dropouts)
    except ValueError:
        return f"aggregation.colluders {a.colluders:g} and dropouts {a.dropouts:g} leave no safe graph"
    return None


def _momentum_is_for_sgd(s: Sections) -> str | None:
    server = s["server"]
    return "server.momentum is for optimizer = sgd" if server.momentum and server.optimizer != "sgd" else None


def _files_have_a_path(s: Sections) -> str | None:
    data = s["data"]
    return "data.path is missing, data.name = files needs it" if data.name == "files" and not data.path else None


def _delta_is_small(s: Sections) -> str | None:
    delta = s["privacy"].delta
    return f"privacy.delta {delta:g} is no guarantee, it must be at most 0.01" if delta > 0.01 else None


RULES = (
    _cohort_fits,
    _minimum_fits,
    _central_takes_one_step,
    _momentum_is_for_sgd,
    _files_have_a_path,
    _malicious_is_complete,
    _secagg_has_company,
    _graph_exists,
    _delta_is_small,
)
"""What no single key can tell: each returns a fault, or None."""


def _check_budget(plan: Plan) -> None:
    """Refuse more rounds than the budget allows."""
    if not plan.protected or (cost := plan.cost()) <= plan.privacy.epsilon:
        return
    raise PlanError(
        f"{plan.cohort.rounds} rounds at noise multiplier {plan.noise_multiplier:g} cost epsilon {cost:.4g}, "
        f"the budget is {plan.privacy.epsilon:g}",
        "lower cohort.rounds, raise privacy.epsilon, or leave privacy.noise_multiplier out to have it calibrated",
    )


def _check_ring(plan: Plan) -> None:
    """Refuse a ring in which the cohort's sum would either overflow or be too coarse for the noise."""
    if plan.grid_step <= plan.coarsest_step < math.inf:
        return
    raise PlanError(
        f"a ring of {plan.ring.bits} bits is too small: {plan.cohort.size} devices leave steps of "
        f"{plan.grid_step:.3g}, the plan needs {plan.coarsest_step:.3g}",
        "raise aggregation.bits or leave it out, or lower aggregation.range or cohort.size",
    )


def _check_noise(plan: Plan) -> None:
    """Refuse noise that cannot be made on the plan's grid, before anything is paid for."""
    if not plan.protected or LEAST_STD <= plan.noise_std(1) / plan.noise_step <= MOST_STD / 2:
        return
    raise PlanError(
        f"noise multiplier {plan.noise_multiplier:g} does not fit the grid that noise is added on",
        "bring it, aggregation.range and cohort.size nearer to usual values",
    )
