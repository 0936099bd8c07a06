"""Plan, accounting, ledger, clipping bounds and noise: what the privacy claim rests on. No torch, no Flower."""

from .budget import Budget, View
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
from .events import Composed, Event, Gaussian, PoissonSampled, Skellam, Unbounded
from .keystream import Entropy, Keystream, SystemEntropy
from .ledger import Entry, Ledger
from .plan import Plan
from .plan_file import make_plan, override, parse_tables, read_plan, read_tables
from .ring import Ring
from .values import Clipped, Masked, Release, Sum, Update

__all__ = [
    "BractError",
    "Budget",
    "BudgetError",
    "Clipped",
    "Composed",
    "DataError",
    "DivergedError",
    "Entropy",
    "Entry",
    "Event",
    "Gaussian",
    "Keystream",
    "Ledger",
    "Masked",
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
    "View",
    "make_plan",
    "override",
    "parse_tables",
    "read_plan",
    "read_tables",
]
