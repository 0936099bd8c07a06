"""Plan, accounting, ledger, noise and secure aggregation: what the privacy claim rests on. No torch, no Flower.

The public names load lazily: a module that needs an error class does not load the plan and pydantic with it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .accept import accept_plan, make_plan
    from .accounting.events import Composed, Event, Gaussian, PoissonSampled, Skellam, Unbounded
    from .budget import Budget, View
    from .encoding.ring import Ring
    from .encoding.vectors import Clipped, Contribution, Release, Sum, Update, Upload
    from .errors import (
        BractError,
        BudgetError,
        DataError,
        DivergedError,
        PlanError,
        RoundError,
        StateError,
        StorageError,
    )
    from .ledger.ledger import Entry, Ledger
    from .mechanisms.base import Mechanism
    from .mechanisms.choose import mechanism_of
    from .noise.keystream import Entropy, Keystream, SystemEntropy
    from .plan.plan import Plan
    from .plan.toml import override, parse_tables, read_tables

__all__ = [
    "BractError",
    "Budget",
    "BudgetError",
    "Clipped",
    "Composed",
    "Contribution",
    "DataError",
    "DivergedError",
    "Entropy",
    "Entry",
    "Event",
    "Gaussian",
    "Keystream",
    "Ledger",
    "Mechanism",
    "Plan",
    "PlanError",
    "PoissonSampled",
    "Release",
    "Ring",
    "RoundError",
    "Skellam",
    "StateError",
    "StorageError",
    "Sum",
    "SystemEntropy",
    "Unbounded",
    "Update",
    "Upload",
    "View",
    "accept_plan",
    "make_plan",
    "mechanism_of",
    "override",
    "parse_tables",
    "read_tables",
]

_MODULES = {
    "accept": ("accept_plan", "make_plan"),
    "accounting.events": ("Composed", "Event", "Gaussian", "PoissonSampled", "Skellam", "Unbounded"),
    "budget": ("Budget", "View"),
    "encoding.ring": ("Ring",),
    "encoding.vectors": ("Clipped", "Contribution", "Release", "Sum", "Update", "Upload"),
    "errors": (
        "BractError",
        "BudgetError",
        "DataError",
        "DivergedError",
        "PlanError",
        "RoundError",
        "StateError",
        "StorageError",
    ),
    "ledger.ledger": ("Entry", "Ledger"),
    "mechanisms.base": ("Mechanism",),
    "mechanisms.choose": ("mechanism_of",),
    "noise.keystream": ("Entropy", "Keystream", "SystemEntropy"),
    "plan.plan": ("Plan",),
    "plan.toml": ("override", "parse_tables", "read_tables"),
}
"""Each module of the package with the public names that it defines: the imports above, for use at run time."""


if not TYPE_CHECKING:  # so that a type checker refuses unknown names

    def __getattr__(name: str) -> object:
        """Load a public name on first use (PEP 562)."""
        for module, names in _MODULES.items():
            if name in names:
                value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, whether loaded yet or not."""
    return sorted(__all__)
