"""Plan, accounting, ledger, clipping bounds and noise: what the privacy claim rests on. No torch, no Flower."""

from .accounting.events import Composed, Event, Gaussian, PoissonSampled, Skellam, Unbounded
from .budget import Budget, View
from .encoding.ring import Ring
from .encoding.vectors import Clipped, Masked, Release, Sum, Update
from .errors import BractError, BudgetError, DataError, DivergedError, PlanError, RoundError, StateError, StorageError
from .ledger.ledger import Entry, Ledger
from .noise.keystream import Entropy, Keystream, SystemEntropy
from .plan.plan import Plan
from .plan.toml import make_plan, override, parse_tables, read_plan, read_tables

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
