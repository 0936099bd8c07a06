"""Turns what a script gives as plan, settings, data and network into a study."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...models import NETWORKS, Network, Objective
from ...models.objectives import CLASSIFICATION, NEXT_TOKEN, REGRESSION
from ...privacy import Plan, PlanError, parse_tables, read_tables
from ...privacy.plan.schema import Data
from ...privacy.plan.toml import Tables
from ..places import find_plan
from ..study import anchor
from .records import Columns, data_facts

Asked = Plan | Mapping[str, Mapping[str, Any]] | str | Path | None
"""A plan: a path, the name of a packaged plan, TOML text, tables, or a Plan; None is the demo."""

Build = Callable[..., nn.Module]


def tables_of(plan: Asked, settings: Mapping[str, Any] | None = None) -> tuple[str, Tables]:
    """Return a short name for the plan, and its tables with `settings` such as {"privacy.epsilon": 4} applied.

    Raises:
        PlanError: there is no such plan, or it is not TOML.
    """
    name, tables = _read(plan)
    changed = {table: dict(keys) for table, keys in tables.items()}
    for key, value in (settings or {}).items():
        table, dot, inner = key.partition(".")
        if not (dot and table and inner):
            raise PlanError(f"the setting {key} is not table.key", 'write it as {"privacy.epsilon": 4}')
        changed.setdefault(table, {})[inner] = value
    return name, changed


def _read(plan: Asked) -> tuple[str, Tables]:
    if isinstance(plan, Plan):
        return "plan", {name: keys for name, keys in plan.model_dump(mode="json", exclude_none=True).items() if keys}
    if isinstance(plan, Mapping):
        return "plan", {name: dict(keys) for name, keys in plan.items()}
    if isinstance(plan, str) and ("\n" in plan or "[" in plan):
        return "plan", parse_tables(plan)
    path = find_plan(None if plan is None else Path(plan))
    return path.stem, anchor(read_tables(path), path, ())


def with_place(tables: Tables, place: str | Path) -> Tables:
    """Return the tables with the records of a file or folder."""
    data = tables.get("data", {}) | {"name": "files", "path": str(Path(place).expanduser().absolute())}
    return tables | {"data": data}


def with_arrays(tables: Tables, found: Columns) -> Tables:
    """Return the tables with what follows from arrays filled in where the tables do not say it.

    The cohort is all clients if the plan does not give its size.
    """
    said = tables.get("data", {})
    facts = data_facts(found, float(said.get("holdout", Data().holdout)))
    data = facts | {key: value for key, value in said.items() if key not in ("name", "path")} | {"name": "arrays"}
    cohort = tables.get("cohort", {})
    if "clients" in data:
        cohort = {"size": data["clients"]} | cohort
    return tables | {"data": data, "cohort": cohort}


def with_network(tables: Tables, network: Any, found: Columns | None = None) -> Tables:
    """Return the tables with the name under which the network is now known in this process.

    What a function's network learns follows from the labels: classes, numbers, or a token at every step.

    Raises:
        PlanError: the network is neither a Network, a function nor a class.
    """
    return tables | {"model": tables.get("model", {}) | {"name": register(network, objective=_learns(found))}}


def _learns(found: Columns | None) -> Objective:
    y = None if found is None else found.get("y")
    if y is None or y.dtype.kind not in "iuf":
        return CLASSIFICATION
    return NEXT_TOKEN if y.ndim == 2 else REGRESSION if y.dtype.kind == "f" else CLASSIFICATION


def register(network: Any, name: str | None = None, objective: Objective = CLASSIFICATION) -> str:
    """Make a network known in this process and return its name: by default its module and its own name.

    A function of (shape, classes) gets both; a function or class without parameters is called as it is.

    Raises:
        PlanError: the network is neither a Network, a function nor a class.
    """
    if isinstance(network, nn.Module) or not (callable(network) or isinstance(network, Network)):
        hint = "give the class, or a function of (shape, classes) that returns a new network"
        raise PlanError("the network is neither a function nor a class", hint)
    own = network.name if isinstance(network, Network) else f"{network.__module__}:{network.__qualname__}"
    first = name or own
    names = (first if number == 1 else f"{first}-{number}" for number in range(1, 10**6))
    chosen = next(one for one in names if one not in NETWORKS or _GIVEN.get(one, NETWORKS[one]) is network)
    _GIVEN[chosen] = network
    if isinstance(network, Network):
        NETWORKS[chosen] = network
    else:
        build: Any = network if _takes_shape(network) else _without_shape(network)
        NETWORKS[chosen] = Network(chosen, build, objective)
    return chosen


_GIVEN: dict[str, Any] = {}
"""Networks registered here by name: other rooms keep what they built by name, so a name never changes its network."""


def _takes_shape(network: Any) -> bool:
    try:
        inspect.signature(network).bind((1,), 1)
        return True
    except (TypeError, ValueError):
        return False


def _without_shape(network: Any) -> Build:
    return lambda shape, classes: network()
